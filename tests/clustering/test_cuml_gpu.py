"""Both backends find the same clusters, and lay them out as well."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from benchmarks.cluster_speed_quality import mixture, trustworthiness
from engine.clustering.backend import Name
from engine.clustering.fitted import Fit, fit
from engine.recipe.analysis import Cluster

pytestmark = [pytest.mark.gpu, pytest.mark.slow]

ROWS = 20_000


@pytest.fixture(scope="module")
def fits() -> dict[Name, Fit]:
    if not torch.cuda.is_available():
        pytest.skip("no NVIDIA GPU")
    pytest.importorskip("cuml", exc_type=ImportError)
    vectors, _ = mixture(ROWS, seed=3, clusters=50)
    numbers = np.arange(ROWS, dtype=np.uint64)
    settings = Cluster.model_validate({"encoder": "open_clip:terrarium", "mode": "scale"})
    backends: tuple[Name, ...] = ("cpu", "cuml")
    return {name: fit(numbers, vectors, settings, name, seed=0) for name in backends}


def test_the_same_clusters(fits: dict[Name, Fit]) -> None:
    cpu, cuml = fits["cpu"].placed.label, fits["cuml"].placed.label
    # The rows between two clusters are noise to either; which way the last of them fall is chance.
    both = (cpu >= 0) & (cuml >= 0)
    assert both.mean() > 0.8
    assert adjusted_rand_score(cpu[both], cuml[both]) >= 0.95


def test_layouts_are_as_trustworthy(fits: dict[Name, Fit]) -> None:
    asked = np.random.default_rng(0).choice(ROWS, 500, replace=False)
    layouts = {
        f"{name} {side}": (places, places[asked])
        for name, made in fits.items()
        for side, places in (("plane", made.placed.plane), ("space", made.placed.space))
    }
    trust = trustworthiness(fits["cpu"].vectors, layouts, asked)
    for side in ("plane", "space"):
        assert abs(trust[f"cuml {side}"] - trust[f"cpu {side}"]) <= 0.01, trust


def test_a_result_has_the_same_form(fits: dict[Name, Fit]) -> None:
    for made in fits.values():
        placed = made.placed
        assert placed.plane.shape == (ROWS, 2) and placed.plane.dtype == np.float32
        assert placed.label.dtype == np.int32 and placed.strength.dtype == np.float32
        assert len(made.persistence) == placed.label.max() + 1
        assert np.isfinite(placed.plane).all() and np.isfinite(placed.space).all()
    assert fits["cpu"].tree.dtype.names == fits["cuml"].tree.dtype.names
