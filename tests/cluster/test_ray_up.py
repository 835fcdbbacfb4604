"""The files of `ray up`: Ray's own validation, and what this project asks of them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import pytest
from ray.autoscaler._private.util import prepare_config, validate_config
from ray.scripts.scripts import start

from tests.cluster.files import CLUSTER, IMAGE, one

FILES = [CLUSTER / "aws.yaml", CLUSTER / "gcp.yaml"]
each = pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)


def prepared(path: Path) -> dict[str, Any]:
    made: dict[str, Any] = prepare_config(one(path))
    return made


def ray_start(commands: list[str]) -> list[str]:
    """The words of the one `ray start` among commands."""
    (line,) = (command for command in commands if "ray start" in command)
    return shlex.split(line)


@each
def test_ray_accepts_it(path: Path) -> None:
    validate_config(prepared(path))


@each
def test_ray_refuses_a_key_that_it_does_not_know(path: Path) -> None:
    with pytest.raises(Exception, match="idle_timeout"):
        validate_config(prepare_config({**one(path), "idle_timeout": 3}))


@each
def test_every_node_asks_for_the_token(path: Path) -> None:
    config = prepared(path)
    variables = dict(
        o.removeprefix("--env=").split("=") for o in config["docker"]["run_options"] if "--env" in o
    )
    assert variables["RAY_AUTH_MODE"] == "token"
    assert variables["RAY_AUTH_TOKEN_PATH"] in config["file_mounts"]


@each
def test_the_head_does_no_work_and_shows_nobody_its_dashboard(path: Path) -> None:
    config = prepared(path)
    words = ray_start(config["head_start_ray_commands"])
    assert {"--head", "--num-cpus=0", "--dashboard-host=127.0.0.1"} <= set(words)
    assert config["available_node_types"][config["head_node_type"]]["resources"]["CPU"] == 0
    joining = ray_start(config["worker_start_ray_commands"])
    port = next(word.partition("=")[2] for word in words if word.startswith("--port="))
    assert f"--address=$RAY_HEAD_IP:{port}" in joining


@each
def test_ray_start_has_every_option(path: Path) -> None:
    known = {option for parameter in start.params for option in parameter.opts}
    for commands in ("head_start_ray_commands", "worker_start_ray_commands"):
        given = {word.partition("=")[0] for word in ray_start(one(path)[commands])[2:]}
        assert given <= known


@each
def test_the_coco_recipe_fits_into_what_is_started_first(path: Path) -> None:
    types = prepared(path)["available_node_types"].values()
    assert sum(t.get("min_workers", 0) * t["resources"].get("GPU", 0) for t in types) >= 8
    assert all("--gpus=all" in str(t.get("docker")) for t in types if t["resources"].get("GPU"))


@each
def test_one_image_on_all_nodes_and_weights_on_their_disks(path: Path) -> None:
    config = prepared(path)
    assert config["docker"]["image"] == f"{IMAGE}:gpu"
    (volume,) = (o for o in config["docker"]["run_options"] if o.startswith("--volume="))
    host, inside = volume.removeprefix("--volume=").split(":")
    assert inside == "/models" and any(host in command for command in config["initialization_commands"])


def test_both_start_ray_alike() -> None:
    aws, gcp = map(one, FILES)
    for key in (
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "file_mounts",
        "initialization_commands",
    ):
        assert aws[key] == gcp[key]


def test_on_aws_no_door_is_opened(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Ray's own preparation of AWS, against a simulated one: it uses our security group and makes none."""
    import boto3
    from moto import mock_aws
    from ray.autoscaler._private.aws.config import bootstrap_aws
    from ray.autoscaler._private.aws.utils import resource_cache

    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "test")
    monkeypatch.setenv("HOME", str(tmp_path))  # where the key of SSH is put
    config = prepared(CLUSTER / "aws.yaml")
    region = config["provider"]["region"]
    resource_cache.cache_clear()
    with mock_aws(config={"iam": {"load_aws_managed_policies": True}}):
        iam, ec2 = boto3.client("iam", region_name=region), boto3.resource("ec2", region_name=region)
        for profile in ("connote-storage", "ray-autoscaler-v1"):
            iam.create_instance_profile(InstanceProfileName=profile)
        iam.create_role(RoleName="ray-autoscaler-v1", AssumeRolePolicyDocument="{}")
        iam.add_role_to_instance_profile(
            InstanceProfileName="ray-autoscaler-v1", RoleName="ray-autoscaler-v1"
        )
        vpc = ec2.create_vpc(CidrBlock="10.1.0.0/16")
        subnet = vpc.create_subnet(CidrBlock="10.1.1.0/24", AvailabilityZone=f"{region}a")
        ec2.meta.client.modify_subnet_attribute(SubnetId=subnet.id, MapPublicIpOnLaunch={"Value": True})
        group = ec2.create_security_group(GroupName="ours", Description="ours", VpcId=vpc.id)
        before = {each.id for each in ec2.security_groups.all()}
        for node_type in config["available_node_types"].values():
            node_type["node_config"] |= {"SubnetIds": [subnet.id], "SecurityGroupIds": [group.id]}
        made = bootstrap_aws(config)
        assert {each.id for each in ec2.security_groups.all()} == before
    resource_cache.cache_clear()
    for node_type in made["available_node_types"].values():
        assert node_type["node_config"]["SecurityGroupIds"] == [group.id]
        assert node_type["node_config"]["KeyName"]
