"""The KubeRay manifests: their fields, Kubernetes' rules, and what this project asks of them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import ray
import yaml
from ray.scripts.scripts import start

from tests.cluster.files import IMAGE, KUBERAY, ROOT, documents, merged, one

SCHEMA = json.loads((Path(__file__).parent / "ray.io-v1.json").read_text())
OPTIONS = sorted(path.parent for path in KUBERAY.glob("options/*/kustomization.yaml"))
#: Bytes of a binary or decimal quantity.
UNITS = {
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "k": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
    "m": 1e-3,
}


def check(document: Any, kind: str = "") -> None:
    schema = {"$ref": f"#/$defs/{kind}", "$defs": SCHEMA["$defs"]} if kind else SCHEMA
    jsonschema.Draft202012Validator(schema).validate(document)


def with_option(directory: Path) -> dict[str, Any]:
    """The cluster with the patch of an option."""
    (patch,) = one(directory / "kustomization.yaml")["patches"]
    target, cluster = patch["target"], one(KUBERAY / "raycluster.yaml")
    assert (target["kind"], target["name"]) == (cluster["kind"], cluster["metadata"]["name"])
    result = merged(cluster, yaml.safe_load(patch["patch"]))
    assert isinstance(result, dict)
    return result


def cluster_specs() -> Iterator[Any]:
    yield pytest.param(one(KUBERAY / "raycluster.yaml")["spec"], id="raycluster")
    yield pytest.param(one(KUBERAY / "rayjob.yaml")["spec"]["rayClusterSpec"], id="rayjob")
    for option in OPTIONS:
        yield pytest.param(with_option(option)["spec"], id=option.name)


def groups(spec: dict[str, Any]) -> list[dict[str, Any]]:
    return [spec["headGroupSpec"], *spec["workerGroupSpecs"]]


def amount(quantity: str) -> float:
    unit = next((unit for unit in UNITS if quantity.endswith(unit)), "")
    return float(quantity.removesuffix(unit)) * UNITS.get(unit, 1)


@pytest.mark.parametrize("path", [KUBERAY / "raycluster.yaml", KUBERAY / "rayjob.yaml"], ids=lambda p: p.stem)
def test_the_fields_are_those_of_the_published_api(path: Path) -> None:
    check(one(path), {"RayCluster": "rayCluster", "RayJob": "rayJob"}[one(path)["kind"]])


@pytest.mark.parametrize("option", OPTIONS, ids=lambda path: path.name)
def test_so_are_those_of_the_options(option: Path) -> None:
    assert with_option(option) != one(KUBERAY / "raycluster.yaml"), "it changes something"
    check(with_option(option), "rayCluster")


@pytest.mark.parametrize(
    ("where", "wrong"),
    [
        (("spec", "headGroupSpec", "serviceTyp"), "ClusterIP"),
        (("spec", "headGroupSpec", "serviceType"), "Public"),
        (("spec", "headGroupSpec", "rayStartParams", "num-cpus"), 0),
        (("spec", "authOptions", "mode"), "Token"),
        (("spec", "rayVersion"), "2.60"),
        (("metadata", "name"), "Connote"),
        (("spec", "headGroupSpec", "template", "spec", "containers"), []),
    ],
)
def test_the_schema_refuses(where: tuple[str, ...], wrong: Any) -> None:
    document = deepcopy(one(KUBERAY / "raycluster.yaml"))
    place = document
    for key in where[:-1]:
        place = place[key]
    place[where[-1]] = wrong
    with pytest.raises(jsonschema.ValidationError):
        check(document, "rayCluster")


def test_a_run_of_its_own_has_the_same_cluster() -> None:
    job = one(KUBERAY / "rayjob.yaml")["spec"]
    assert job["rayClusterSpec"] == one(KUBERAY / "raycluster.yaml")["spec"]
    assert job["shutdownAfterJobFinishes"] and job["backoffLimit"] > 0


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_nothing_is_open_and_nobody_is_root(spec: dict[str, Any]) -> None:
    head = spec["headGroupSpec"]
    assert (spec["authOptions"]["mode"], head["serviceType"], head["enableIngress"]) == (
        "token",
        "ClusterIP",
        False,
    )
    for group in groups(spec):
        pod = group["template"]["spec"]
        assert pod["securityContext"]["runAsNonRoot"] and pod["securityContext"]["runAsUser"] == 1000
        for container in pod["containers"]:
            rights = container["securityContext"]
            assert rights == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_the_pods_fit_together(spec: dict[str, Any]) -> None:
    assert spec["rayVersion"] == ray.__version__
    assert spec["headGroupSpec"]["rayStartParams"]["num-cpus"] == "0", "the head works on nothing"
    names = [group["groupName"] for group in spec["workerGroupSpecs"]]
    assert len(set(names)) == len(names)
    assert any("nvidia.com/gpu" not in limits(group) for group in spec["workerGroupSpecs"]), "a group of CPUs"
    assert any("nvidia.com/gpu" in limits(group) for group in spec["workerGroupSpecs"])
    for group in spec["workerGroupSpecs"]:
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in groups(spec):
        pod = group["template"]["spec"]
        volumes = {volume["name"]: volume for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert container["image"] == f"{IMAGE}:gpu", "one environment on all nodes"
            mounted = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
            assert mounted.keys() == volumes.keys()
            assert (mounted["shared-memory"], mounted["models"]) == ("/dev/shm", "/models")


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_memory_holds_the_shared_memory_and_that_the_object_store(spec: dict[str, Any]) -> None:
    for group in groups(spec):
        pod = group["template"]["spec"]
        (shared,) = (v["emptyDir"] for v in pod["volumes"] if v["name"] == "shared-memory")
        assert shared["medium"] == "Memory"
        store = int(group["rayStartParams"]["object-store-memory"])
        assert store < amount(shared["sizeLimit"]) < amount(limits(group)["memory"]) / 2
        for resources in (container["resources"] for container in pod["containers"]):
            for name, asked in resources["requests"].items():
                assert amount(asked) <= amount(resources["limits"].get(name, asked))
            gpus = [resources[kind].get("nvidia.com/gpu") for kind in ("requests", "limits")]
            assert gpus[0] == gpus[1], "devices cannot be promised twice"


@pytest.mark.parametrize("spec", list(cluster_specs()))
def test_every_start_parameter_is_one_of_ray_start(spec: dict[str, Any]) -> None:
    known = {option.removeprefix("--") for parameter in start.params for option in parameter.opts}
    for group in groups(spec):
        assert set(group["rayStartParams"]) <= known


def test_the_coco_recipe_fits_into_what_is_started_first() -> None:
    recipe = yaml.safe_load((ROOT / "jobs" / "recipes" / "coco.yaml").read_text())["generators"]["vlm"]
    spec = one(KUBERAY / "raycluster.yaml")["spec"]
    actors = 0
    for group in spec["workerGroupSpecs"]:
        gpus = int(limits(group).get("nvidia.com/gpu", 0)) // recipe["gpus"]
        actors += group["replicas"] * min(gpus, int(amount(limits(group)["cpu"]) / recipe["cpus"]))
    assert actors >= recipe["actors"]


def test_what_is_named_is_there() -> None:
    made = {
        (d["kind"], d["metadata"]["name"])
        for path in KUBERAY.rglob("*.yaml")
        for d in documents(path)
        if "metadata" in d
    }
    for group in groups(one(KUBERAY / "raycluster.yaml")["spec"]):
        assert ("ServiceAccount", group["template"]["spec"]["serviceAccountName"]) in made
    redis = with_option(KUBERAY / "options" / "gcs-fault-tolerance")["spec"]["gcsFaultToleranceOptions"]
    host, _, port = redis["redisAddress"].partition(":")
    store, service = documents(KUBERAY / "options" / "gcs-fault-tolerance" / "redis.yaml")[::-1]
    assert ("Service", host) in made and service["spec"]["ports"][0]["port"] == int(port)
    (container,) = store["spec"]["template"]["spec"]["containers"]
    assert service["spec"]["ports"][0]["targetPort"] == container["ports"][0]["name"]
    assert service["spec"]["selector"] == store["spec"]["template"]["metadata"]["labels"]
    secret = redis["redisPassword"]["valueFrom"]["secretKeyRef"]
    assert container["env"][0]["valueFrom"]["secretKeyRef"] == secret
    check(store["spec"]["template"], "template")


def test_the_autoscaler_may_ask_for_nodes() -> None:
    spec = with_option(KUBERAY / "options" / "autoscaler")["spec"]
    head = spec["headGroupSpec"]["template"]["spec"]
    assert spec["enableInTreeAutoscaling"] and head["automountServiceAccountToken"]
    assert head["containers"], "the patch leaves the rest of the pod"
    assert all(g["template"]["spec"].get("restartPolicy", "Never") == "Never" for g in groups(spec)), (
        "v2 asks for it"
    )


def test_only_the_namespace_and_the_operator_reach_the_pods() -> None:
    (policy,) = (d for d in documents(KUBERAY / "access.yaml") if d["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    assert policy["spec"]["policyTypes"] == ["Ingress"]
    for peer in rule["from"]:
        assert "ipBlock" not in peer
        assert "namespaceSelector" not in peer or peer["podSelector"]["matchLabels"]


@pytest.mark.parametrize("options", [[], [path.name for path in OPTIONS]], ids=["plain", "all options"])
def test_kustomize_puts_them_together(tmp_path: Path, options: list[str]) -> None:
    if not shutil.which("kubectl"):
        pytest.skip(
            "kubectl is not installed, so kustomize is not tried; the patches themselves are checked above"
        )
    shutil.copytree(KUBERAY, tmp_path / "kuberay")
    main = tmp_path / "kuberay" / "kustomization.yaml"
    main.write_text(yaml.safe_dump({**one(main), "components": [f"options/{name}" for name in options]}))
    told = subprocess.run(["kubectl", "kustomize", main.parent], capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stderr
    made = {document["kind"]: document for document in yaml.safe_load_all(told.stdout)}
    check(made["RayCluster"], "rayCluster")
    assert {"ServiceAccount", "NetworkPolicy", "RayCluster"} <= made.keys()
    assert ("StatefulSet" in made, "autoscalerOptions" in made["RayCluster"]["spec"]) == (
        bool(options),
        bool(options),
    )


def limits(group: dict[str, Any]) -> dict[str, str]:
    """Of the group's first container, where Ray runs."""
    found: dict[str, str] = group["template"]["spec"]["containers"][0]["resources"]["limits"]
    return found
