from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.planning import Figure, Origin, Plan, estimate, measured
from engine.planning.measured import Measurements
from engine.stages import build_stages
from tests.planning import runs

MILLION = Figure(1_000_000, Origin.given)


def plan(tmp_path: Path, text: str = runs.RECIPE, found: Measurements | None = None, **rates: float) -> Plan:
    recipe = runs.recipe(tmp_path, text)
    return estimate(recipe, build_stages(recipe), MILLION, rates, found or {})


def test_given_rates_give_the_hours(tmp_path: Path) -> None:
    made = plan(tmp_path, describe=10.0, associate=20.0, caption=100.0)
    describe, associate, caption = made.stages
    assert describe.device_hours == pytest.approx(1e6 / 10 / 3600)
    assert describe.hours == pytest.approx(1e6 / 10 / 3600 / 8), "four actors of two GPUs"
    seer, poet = made.pools
    assert (seer.devices, seer.on_gpus, poet.devices, poet.on_gpus) == (8, True, 3, False)
    assert seer.hours == pytest.approx((1e6 / 10 + 1e6 / 20) / 8 / 3600), "stages of a pool share its GPUs"
    assert poet.hours == pytest.approx(caption.device_hours / 3 if caption.device_hours else 0)
    assert made.hours == max(seer.hours or 0, poet.hours or 0), "pools work at the same time"
    assert made.gpus == 8
    assert {stage.rate.origin for stage in made.stages if stage.rate} == {Origin.given}
    assert associate.requests.origin is Origin.assumed


def test_where_nothing_computes_on_a_gpu_of_the_run_no_rate_is_made_up(tmp_path: Path) -> None:
    made = plan(tmp_path)
    assert [stage.rate is None for stage in made.stages] == [False, False, True]
    assert made.pools[0].hours is not None
    assert (made.pools[1].hours, made.hours) == (None, None)


def test_a_measured_rate_stands_above_an_assumed_and_below_a_given_one(tmp_path: Path) -> None:
    found = measured(runs.finished(tmp_path))
    made = plan(tmp_path, found=found, associate=7.0)
    describe, associate, _ = made.stages
    assert describe.rate == Figure(12 / (16 * 0.75 * 2), Origin.measured)
    assert associate.rate == Figure(7.0, Origin.given)
    assert describe.requests == Figure(1.5e6, Origin.measured)
    assert made.measured_on == 12


def test_what_was_measured_with_other_settings_is_not_used(tmp_path: Path) -> None:
    found = measured(runs.finished(tmp_path))
    warmer = runs.RECIPE.replace("describe: {", "describe: {sampling: {temperature: 1}, ")
    assert plan(tmp_path, warmer, found).stages[0].requests.origin is Origin.assumed


def test_a_rate_of_actors_is_none_of_gpus(tmp_path: Path) -> None:
    found = measured(runs.finished(tmp_path))
    without = runs.RECIPE.replace("gpus: 2", "gpus: 0")
    made = plan(tmp_path, without, found)
    assert made.stages[0].requests.origin is Origin.measured, "tokens do not depend on the device"
    assert made.stages[0].rate is None


def test_captions_are_counted_from_the_recipe(tmp_path: Path) -> None:
    def requests(change: tuple[str, str]) -> float:
        return plan(tmp_path, runs.RECIPE.replace(*change)).stages[2].requests.value / 1e6

    usual = requests(("", ""))
    assert usual == pytest.approx(2 * 2 * 1.1), "two elements, two levels, one word drawn"
    assert requests(("caption: {", "caption: {draw: all, ")) == pytest.approx(3 * usual)
    assert requests(("caption: {", "caption: {draw: 99, ")) == pytest.approx(3 * usual), (
        "three words are there"
    )
    assert requests(("elements: 2", "elements: 4")) == pytest.approx(2 * usual)


def test_vectors_take_their_width(tmp_path: Path) -> None:
    embed = "\nembed: {encoders: ['open_clip:terrarium'], texts: [original, mined], gpus: 0.5, actors: 4}\n"
    made = plan(tmp_path, runs.RECIPE + embed, embed=50.0)
    images, original, mined = made.stages[3:]
    width = images.bytes.value / 1e6 / 2
    assert width == int(width) and width > 1, "float16 takes two bytes"
    assert original.bytes.value == images.bytes.value, "a folder's images have a caption each"
    assert mined.bytes.value == 4 * images.bytes.value
    assert made.pools[-1].devices == 2, "four actors share two GPUs"
    assert {stage.rate.value for stage in (images, original, mined) if stage.rate} == {50.0}


def test_a_rate_of_no_stage_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"--rate descrbe: .* it has describe, associate, caption"):
        plan(tmp_path, descrbe=3.0)
