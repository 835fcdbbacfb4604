from pathlib import Path

import pytest

from tests.command import connote, finish
from tests.planning import runs

COCO = "jobs/recipes/coco.yaml"


def write(tmp_path: Path, text: str = runs.RECIPE) -> Path:
    path = tmp_path / "recipe.yaml"
    path.write_text(text.replace("OUT", str(tmp_path / "out")))
    return path


def test_a_table_of_stages_with_their_cost(tmp_path: Path) -> None:
    rates = ("--rate", "describe=10", "--rate", "associate=10", "--rate", "caption=10")
    text = finish("plan", write(tmp_path), "--images", "360000", *rates, "--gpu-price", "2.5")
    table = {line.split()[0]: line.split() for line in text.splitlines() if line}
    assert table["describe"][1:9] == ["396,000", "59,400,000", "10.0", "a", "GPU", "10.0", "GPU", "1.2"]
    assert table["describe"][-1] == "25.00"
    assert table["caption"][-1] == "-", "it reserves no GPU"
    assert "images     360,000 (given)" in text
    assert "describe, associate, caption: requests and tokens assumed, rate given, disk assumed" in text
    # Two stages of ten GPU-hours each on 8 GPUs, while 3 actors take 10 hours between them.
    assert "pool       seer (describe, associate): 8 GPUs, 2.5 hours" in text
    assert "pool       poet (caption): 3 actors without a GPU, 3.3 hours" in text
    assert "GPUs       8 reserved for that time: 26.7 GPU-hours, cost 66.67 at 2.50" in text


def test_pools_that_are_auto_share_the_gpus_that_are_named(tmp_path: Path) -> None:
    auto = runs.RECIPE.replace("gpus: 2, actors: 4", "gpus: 2, share: 3, actors: auto")
    auto = auto.replace(
        "{backend: scripted, actors: 3}", "{backend: scripted, gpus: 1, share: 1, actors: auto}"
    )
    given = ("--images", "1000", "--rate", "describe=1", "--rate", "associate=1", "--rate", "caption=1")
    text = finish("plan", write(tmp_path, auto), *given, "--gpus", "16")
    assert "actors: auto shares 16 GPUs as `share` says" in text
    assert "seer (describe, associate): 12 GPUs" in text and "poet (caption): 4 GPUs" in text
    text = finish("plan", write(tmp_path, auto), *given)
    assert "actors: auto counts as one here; --gpus N says" in text
    text = finish("plan", write(tmp_path, auto), *given, "--gpus", "2")
    assert "2 GPUs are too few: the pools need 3 to begin" in text


def test_images_and_figures_come_from_the_run(tmp_path: Path) -> None:
    runs.finished(tmp_path / "out")
    text = finish("plan", write(tmp_path))
    assert "images     12 (counted in the catalog)" in text
    assert "describe: requests and tokens measured, rate measured, disk measured" in text
    assert "associate: requests and tokens measured, rate measured, disk assumed" in text
    assert "measured on 12 images" in text
    assert "time       not known: give --rate STAGE=IMAGES, or --measured-in RUN, for caption" in text


def test_a_pilot_run_elsewhere_measures_for_a_larger_one(tmp_path: Path) -> None:
    runs.finished(tmp_path / "pilot")
    text = finish("plan", write(tmp_path), "--images", "1000", "--measured-in", tmp_path / "pilot")
    assert "describe: requests and tokens measured, rate measured, disk measured" in text


def test_the_shipped_recipe_needs_no_bucket(monkeypatch: pytest.MonkeyPatch) -> None:
    # Nobody listens there: neither may a new user's laptop reach the run directory.
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "2")
    text = finish(
        "plan", COCO, "--images", "82783", "--set", "run.out=s3://nobody/runs", "--gpu-price", "2.5"
    )
    assert "nothing is taken from the run directory, which cannot be read" in text
    assert "caption" in text and "8 reserved for that time" in text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--images", "5", "--rate", "describe"), "--rate describe: write STAGE=IMAGES"),
        (("--images", "5", "--rate", "describe=0"), "--rate describe=0: write STAGE=IMAGES"),
        (("--images", "5", "--rate", "describe=nan"), "--rate describe=nan: write STAGE=IMAGES"),
        (("--images", "5", "--rate", "=3"), "--rate =3: write STAGE=IMAGES"),
        (("--images", "5", "--rate", "embed=3"), "--rate embed: the recipe has no such stage"),
        (("--images", "5", "--gpu-price", "-1"), "--gpu-price -1"),
        ((), "no image is cataloged there yet; say how many with --images"),
        (("--set", "run.out=null"), "run.out is not set, so no catalog tells how many"),
        (("--images", "5", "--set", "caption.draw=0"), "draws no association"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, arguments: tuple[str, ...], said: str) -> None:
    status, text = connote("plan", write(tmp_path), *arguments)
    assert (status, said in text) == (2, True), text


def test_statistics_are_asked_of_a_run_directory(tmp_path: Path) -> None:
    status, text = connote("plan", write(tmp_path), "--images", "5", "--measured-in", tmp_path / "empty")
    assert status == 3, text
    assert "no run directory" in text


def test_a_recipe_without_a_stage_has_no_plan(tmp_path: Path) -> None:
    status, text = connote("plan", write(tmp_path, "images: {source: folder, uri: x}"), "--images", "5")
    assert (status, "no stage to plan" in text) == (2, True), text


def test_ray_is_not_needed(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys; from jobs.plan import plan_lines; from pathlib import Path; "
        f"print(plan_lines(Path({str(write(tmp_path))!r}), [], None, 5, [], None, None, None)); "
        "sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
