"""How pools whose actors are `auto` share a cluster: by share, by measured and assumed rates, or evenly."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.planning.measured import Measurements, measured
from engine.planning.placing import Demand
from engine.planning.sizing import demands, on_gpus
from engine.stages import build_stages
from tests.planning import runs

AUTO = runs.RECIPE.replace("gpus: 2, actors: 4", "gpus: 2, actors: auto").replace(
    "{backend: scripted, actors: 3}", "{backend: scripted, actors: auto, gpus: 1}"
)


def wanted(tmp_path: Path, text: str, found: Measurements | None = None) -> tuple[list[Demand], str]:
    recipe = runs.recipe(tmp_path, text)
    return demands(recipe, build_stages(recipe), lambda: found or {})


def test_numbers_are_what_the_pools_insist_on(tmp_path: Path) -> None:
    recipe = runs.recipe(tmp_path)
    seer, poet = demands(recipe, build_stages(recipe), lambda: pytest.fail("nothing depends on it"))[0]
    assert (seer.least, seer.most, seer.gpus) == (4, 4, 2)
    assert (poet.least, poet.most, poet.gpus) == (3, 3, 0)


def test_given_shares(tmp_path: Path) -> None:
    shared = AUTO.replace("gpus: 2,", "gpus: 2, share: 3,").replace("gpus: 1}", "gpus: 1, share: 1}")
    pools, told = wanted(tmp_path, shared)
    assert [pool.weight for pool in pools] == [3, 1] and "share" in told
    assert on_gpus(pools, 16) == {pools[0].name: 6, pools[1].name: 4}, "12 GPUs and 4"


def test_a_share_for_one_pool_alone_says_nothing(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"share: poet \(caption\) has none"):
        wanted(tmp_path, AUTO.replace("gpus: 2,", "gpus: 2, share: 3,"))


def test_where_nobody_knows_the_rates_devices_are_shared_evenly(tmp_path: Path) -> None:
    pools, told = wanted(tmp_path, AUTO)
    assert [pool.weight for pool in pools] == [1, 1] and "nobody knows" in told
    assert on_gpus(pools, 16) == {pools[0].name: 4, pools[1].name: 8}


def test_assumed_and_measured_rates(tmp_path: Path) -> None:
    both = AUTO.replace("{backend: scripted,", "{backend: vllm, model: terrarium,")
    pools, told = wanted(tmp_path, both)
    assert "assumed" in told and pools[0].weight != pools[1].weight
    run = runs.finished(tmp_path)  # describe and associate of 12 images: 16 s on two GPUs
    alone = (
        runs.RECIPE.replace("actors: 4", "actors: auto")
        .replace("caption:", "vqascore:")
        .replace("{generator: poet, levels: [synonym, metaphor]}", "{generator: poet}")
    )
    pools, told = wanted(tmp_path, alone, measured(run))
    assert told == "", "one pool shares with nobody"
    found = measured(run)
    pools, told = wanted(tmp_path, both, found)
    assert "assumed" in told, "of poet nothing was measured"
    assert pools[0].weight == pytest.approx(16 * 2 / 12 / 3600), "of a GPU for one image"


def test_only_pools_with_gpus_whose_number_is_open_are_counted(tmp_path: Path) -> None:
    pools, _ = wanted(tmp_path, AUTO.replace(", gpus: 1}", "}"))
    seer = pools[0].name
    assert on_gpus(pools, 8) == {seer: 4}
    assert on_gpus(pools, 1) == {seer: 1}, "what it cannot do without, though there is no room"
    typed = AUTO.replace("gpus: 2,", "gpus: 2, gpu_type: H100,").replace(", gpus: 1}", "}")
    assert on_gpus(wanted(tmp_path, typed)[0], 8) == {seer: 4}
    grows, _ = wanted(tmp_path, runs.RECIPE.replace("actors: 4", "actors: {min: 1, max: 8}"))
    assert on_gpus(grows, 16) == {}
