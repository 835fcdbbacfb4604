"""What `cuml_backend` asks of cuML is there in the pinned version: checked without a GPU or cuML."""

from __future__ import annotations

import ast
import json
import sys
import tomllib
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from engine.recipe.analysis import Cluster
from tests.clustering import record_cuml

ROOT = Path(__file__).parents[2]
BACKEND = ROOT / "engine" / "clustering" / "cuml_backend.py"
REFERENCE: dict[str, Any] = json.loads(Path(__file__).with_name("cuml-26.10.json").read_text())


@pytest.fixture(scope="module")
def tree() -> ast.Module:
    return ast.parse(BACKEND.read_text())


def calls(tree: ast.Module, name: str) -> list[ast.Call]:
    """The calls that make a model of a class."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [node for node in found if isinstance(node.func, ast.Name) and node.func.id == name]


def models(tree: ast.Module, name: str) -> set[str]:
    """The variables that hold such a model."""
    return {
        node.targets[0].id
        for node in ast.walk(tree)
        if isinstance(node, ast.Assign) and node.value in calls(tree, name)
        if isinstance(node.targets[0], ast.Name)
    }


def strings(node: ast.AST) -> set[str]:
    constants = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
    return {value for value in constants if isinstance(value, str)}


def test_the_reference_is_of_the_pinned_version() -> None:
    pins = dict(line.split("==") for line in (ROOT / "requirements" / "gpu.txt").read_text().split())
    assert pins["cuml-cu13"] == REFERENCE["version"]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    wanted = next(line for line in extras["gpu"] if line.startswith("cuml"))
    assert wanted == "cuml-cu13==" + ".".join(REFERENCE["version"].split(".")[:2]) + ".*"


@pytest.mark.parametrize("name", ["UMAP", "HDBSCAN"])
def test_every_argument_is_taken(tree: ast.Module, name: str) -> None:
    made = calls(tree, name)
    assert made, f"cuml_backend makes no {name}"
    for call in made:
        assert not call.args, "cuML takes keywords only"
        given = {keyword.arg for keyword in call.keywords}
        assert given <= set(REFERENCE[name]["methods"]["__init__"])


@pytest.mark.parametrize("name", ["UMAP", "HDBSCAN"])
def test_every_algorithm_and_every_key_of_its_is_known(tree: ast.Module, name: str) -> None:
    for call in calls(tree, name):
        for keyword in call.keywords:
            if keyword.arg in ("build_algo", "build_kwds"):
                known = REFERENCE[name][keyword.arg]
                # cuML looks up the keys it knows and is silent about any other.
                assert strings(keyword.value) <= set(known), f"{name}({keyword.arg}=...)"


@pytest.mark.parametrize("name", ["UMAP", "HDBSCAN"])
def test_everything_read_is_there(tree: ast.Module, name: str) -> None:
    holders = models(tree, name)
    read = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in holders
    }
    assert read, f"cuml_backend uses nothing of {name}"
    assert read <= {*REFERENCE[name]["methods"], *REFERENCE[name]["attributes"]}


def test_the_condensed_tree_is_of_hdbscan() -> None:
    # cuML wraps its tree in hdbscan's own class, which gives the rows that `Tree` reads.
    from hdbscan.plots import CondensedTree

    rows = np.zeros(2, [("parent", int), ("child", int), ("lambda_val", float), ("child_size", int)])
    assert CondensedTree(rows, np.zeros(2, int)).to_numpy().dtype.names == rows.dtype.names


class Recorder:
    """Stands for a class of cuML and notes what it is asked."""

    def __init__(self, **asked: Any) -> None:
        made.append(asked)

    def fit_transform(self, rows: Any) -> Any:
        return np.zeros((len(rows), made[-1]["n_components"]), np.float32)


made: list[dict[str, Any]] = []


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The backend upon recorders in the place of cuML."""
    for name in ("cuml", "cuml.cluster", "cuml.manifold"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setattr(sys.modules["cuml.cluster"], "HDBSCAN", Recorder, raising=False)
    monkeypatch.setattr(sys.modules["cuml.manifold"], "UMAP", Recorder, raising=False)
    monkeypatch.delitem(sys.modules, "engine.clustering.cuml_backend", raising=False)
    made.clear()
    from engine.clustering.cuml_backend import CumlBackend

    yield CumlBackend()
    sys.modules.pop("engine.clustering.cuml_backend", None)


@pytest.mark.parametrize("rows", [100, 60_000, 500_001, 1_400_000])
def test_partitions_are_more_than_those_a_row_belongs_to(backend: Any, rows: int) -> None:
    settings = Cluster.model_validate({"encoder": "open_clip:terrarium", "mode": "scale"})
    backend.layouts(np.zeros((rows, 2), np.float32), settings, None)
    defaults = REFERENCE["UMAP"]["build_kwds"]
    for asked in made:
        given = {**defaults, **(asked["build_kwds"] or {})}
        count, overlap = given["knn_n_clusters"], given["knn_overlap_factor"]
        assert count == 1 or overlap < count, "cuML refuses that"


def test_a_seeded_layout_is_reproducible(backend: Any) -> None:
    settings = Cluster.model_validate({"encoder": "open_clip:terrarium", "mode": "seeded"})
    backend.layouts(np.zeros((60_000, 2), np.float32), settings, 7)
    # "NN Descent produces non-deterministic KNN graphs", says cuML, whatever the seed.
    assert all(asked["random_state"] == 7 and asked["build_algo"] != "nn_descent" for asked in made)


def test_versions_are_told_by_the_module(backend: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not by the package: that is cuml-cu12 elsewhere, and a fit was lost for want of its name."""
    monkeypatch.setattr(sys.modules["cuml"], "__version__", "26.10.0", raising=False)
    assert backend.versions() == {"cuml": "26.10.0"}


CYTHON = """
class A(
    Base,
):
    labels_ = Reflected()

    @property
    def tree_(self):
        self.count_ = 1

    def fit(
        self,
        X, y=None, *, int size=(1, 2)[0],
        unsigned int seed=0,
    ) -> "A":
        pass


def after(clusterer):
    self.no_ = 1
"""


def test_signatures_are_read_from_cython() -> None:
    body = record_cuml.class_body(CYTHON, "A")
    assert record_cuml.parameters(body, "fit") == ["X", "y", "size", "seed"]
    assert record_cuml.attributes(body) == {"labels_", "tree_", "count_"}
    assert REFERENCE["UMAP"]["methods"]["fit_transform"] == ["X", "y", "knn_graph"]
