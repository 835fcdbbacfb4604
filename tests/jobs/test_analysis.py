"""The commands that read vectors: what they refuse, and curves of several runs in one plot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from engine.polysemy.radius import Curve
from engine.polysemy.tables import Measurement, curve_rows
from engine.rundir import RunDirectory
from jobs.command import app, guarded

RECIPE = """
images: {source: folder, uri: IMAGES}
embed: {encoders: ["open_clip:terrarium"], texts: [original]}
cluster: {encoder: "open_clip:terrarium"}
"""


def connote(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    """The status and the output of a command."""
    status = guarded(lambda: app(list(arguments), standalone_mode=False))
    captured = capfd.readouterr()
    return status, captured.out + captured.err


def measured(root: Path, level: float, fingerprint: str = "a", finished: float = 1.0, **about: Any) -> None:
    """A run whose polysemy was measured."""
    run = RunDirectory.at(str(root))
    radii = np.array([0.0, 1.0, 5.0])
    values = np.random.default_rng(0).normal(level, 0.01, (20, 3))
    place = Measurement.of(run, {"test": fingerprint})
    place.curve.write_table(curve_rows([("original", Curve(radii, values, values, values, values))], 0))
    place.finish({"radius": "neighbours", "finished": finished, **about})


def test_a_job_without_vectors_says_which_command_makes_them(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE.replace("IMAGES", str(tmp_path)))
    status, text = connote(capfd, "cluster", str(recipe), "--out", str(tmp_path / "out"))
    assert status == 2
    assert "there are no vectors yet; `connote run RECIPE` makes them" in text
    assert not (tmp_path / "out").exists(), "nothing half-written"


def test_a_recipe_without_the_section(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(RECIPE)
    status, text = connote(capfd, "polysemy", str(recipe), "--out", str(tmp_path / "out"))
    assert status == 2 and "it has no section polysemy" in text


def test_curves_of_several_runs(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measured(tmp_path / "coco" / "run", 0.5)
    measured(tmp_path / "cc12m" / "run", 0.7, others=4)
    arguments = [str(tmp_path / name / "run") for name in ("coco", "cc12m")]
    status, text = connote(capfd, "curves", *arguments, "--to", str(tmp_path / "plot"))
    assert status == 0, text
    table = (tmp_path / "plot" / "curves.md").read_text()
    assert "coco/run, original captions" in table and "cc12m/run, original captions" in table
    assert table.count("radius 5 reaches beyond the run's 4 other images: it holds all of them") == 1
    with Image.open(tmp_path / "plot" / "curves.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or ()) > 10


def test_curves_by_different_encoders_say_so(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Their cosines and angles have other scales."""
    for name, encoder in (("a", "open_clip:terrarium"), ("b", "open_clip:terrarium-small")):
        measured(tmp_path / name, 0.5, encoders=["hf:facebook/dinov2-large", encoder])
    measured(tmp_path / "c", 0.5)  # as they were once written
    runs = [str(tmp_path / name) for name in "abc"]
    assert connote(capfd, "curves", *runs, "--to", str(tmp_path / "plot"))[0] == 0
    table = (tmp_path / "plot" / "curves.md").read_text()
    assert "a, original captions, by hf:facebook/dinov2-large and open_clip:terrarium\n" in table
    assert "b, original captions, by hf:facebook/dinov2-large and open_clip:terrarium-small\n" in table
    assert "c, original captions, by unknown encoders\n" in table
    assert connote(capfd, "curves", *runs[:1], "--to", str(tmp_path / "one"))[0] == 0
    assert "dinov2" not in (tmp_path / "one" / "curves.md").read_text()


def test_encoders_of_one_name_may_be_others(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """As `connote:models/full` is in each run."""
    names, both = ["open_clip:terrarium", "connote:models/full"], ("1" * 32, "2" * 32, "2" * 32)
    for name, model in zip("abc", both, strict=True):
        measured(tmp_path / name, 0.5, encoders=names, models=["0" * 32, model])
    a, b, c = (str(tmp_path / name) for name in "abc")
    assert connote(capfd, "curves", a, b, "--to", str(tmp_path / "plot"))[0] == 0
    table = (tmp_path / "plot" / "curves.md").read_text()
    for name, model in (("a", "111111"), ("b", "222222")):
        by = f"open_clip:terrarium [000000] and connote:models/full [{model}]"
        assert f"{name}, original captions, by {by}\n" in table
    measured(tmp_path / "old", 0.5, encoders=names)
    assert connote(capfd, "curves", a, str(tmp_path / "old"), "--to", str(tmp_path / "plot"))[0] == 0
    table = (tmp_path / "plot" / "curves.md").read_text()
    assert "by open_clip:terrarium [000000] and connote:models/full [111111]\n" in table
    assert "old, original captions, by open_clip:terrarium and connote:models/full\n" in table
    assert connote(capfd, "curves", b, c, "--to", str(tmp_path / "plot"))[0] == 0
    assert "full" not in (tmp_path / "plot" / "curves.md").read_text()


def test_the_newest_measurement_counts(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    measured(tmp_path / "run", 0.9, "new", finished=2000.0)
    measured(tmp_path / "run", 0.5, "old", finished=1000.0)
    new = Measurement.of(RunDirectory.at(str(tmp_path / "run")), {"test": "new"}).fingerprint
    status, text = connote(capfd, "curves", str(tmp_path / "run"), "--to", str(tmp_path / "plot"))
    assert status == 0 and new in text
    assert "0.9" in (tmp_path / "plot" / "curves.md").read_text()


def test_a_run_that_was_not_measured(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    status, text = connote(capfd, "curves", str(tmp_path / "run"), "--to", str(tmp_path / "plot"))
    assert status == 3
    assert "no polysemy has been measured there" in text and "connote polysemy RECIPE" in text
    assert not (tmp_path / "plot").exists()
