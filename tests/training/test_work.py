"""One worker without Ray: stopped at every kind of step and gone on with, bad batches, full disks."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from safetensors.numpy import load_file

from engine.encoders import EncoderName, load_encoder
from engine.errors import RecipeError, StorageError
from engine.export.mined import SampleReader, open_run
from engine.recipe import load_recipe
from engine.recipe.finetune import Finetune
from engine.rundir import RunDirectory
from engine.storage import Location
from engine.training import work as working
from engine.training.captions import collect
from engine.training.job import Job
from engine.training.model_directory import ModelDirectory, model_lines
from engine.training.pairs import join
from engine.training.settings_file import Begun
from engine.training.start import check_start
from engine.training.work import work
from engine.training.world import World
from tests.training import runs
from tests.training.checkpoints import newest_step
from tests.training.tiny import write_bert_clip, write_clip

#: Few of everything: a method is trained in a second.
SMALL = {"batch": 16, "epochs": 2, "checkpoint_every": 2, "validate_every": 5, "data": {"validation": 0.2}}


class Stopped(BaseException):
    """Stands for the end of a process."""


def job_of(root: Path, broken: Sequence[int] = (), **finetune: Any) -> Job:
    recipe = load_recipe(runs.mined(root, count=28, broken=broken, **{**SMALL, **finetune}))
    run, settings = RunDirectory.at(recipe.run.out or ""), recipe.finetune
    assert settings is not None
    place, mined = ModelDirectory.of(run, settings), open_run(run, recipe)
    reader = SampleReader(mined)
    parts = ((row["catalog"], row["start"], reader.part(row)) for row in mined.parts())
    join([collect(parts, settings.data)], settings, recipe.run.seed).write(place.pairs)
    job = Job(settings, recipe.run.seed, run, place, recipe.images.max_pixels)
    begun(job).write(place.settings)
    return job


def begun(job: Job, **changed: Any) -> Begun:
    """What decides the job's weights, with other settings of `finetune`."""
    settings = Finetune.model_validate({**job.settings.model_dump(), **changed})
    return Begun(settings, job.seed, job.max_pixels)


def train(job: Job, stop_after: int | None = None) -> list[str]:
    """Train, or die after so many steps; what was said."""
    torch.set_num_threads(1)
    lines = list[str]()

    def tell(line: str) -> None:
        lines.append(line)
        if stop_after is not None and line.startswith(f"finetune  {stop_after}/"):
            raise Stopped

    work(job, World(), tell)
    return lines


def weights(job: Job) -> dict[str, Any]:
    about = job.place.about()
    return load_file(Path(job.place.directory.uri) / about["files"].rpartition("/")[2])


def rows(job: Job) -> list[dict[str, str]]:
    with (Path(job.place.directory.uri) / "metrics.csv").open() as file:
        found = list(csv.DictReader(file))
    return [{name: row[name] for name in row if name not in ("samples/s", "waiting")} for row in found]


@pytest.mark.parametrize("method", ["full", "lora", "prefix", "pvse", "pcme", "dive"])
def test_a_resumed_training_is_the_undisturbed_one(tmp_path: Path, method: str) -> None:
    more = {"ema": 0.9} if method == "full" else {}
    wanted = job_of(tmp_path / "one", method=method, **more)
    said = train(wanted)
    assert any(line.startswith("finetune  6/") for line in said)
    job = job_of(tmp_path / "other", method=method, **more)
    # Before a checkpoint, right after one, in mid-epoch, and at the last step.
    last = wanted.place.about()["steps"]
    for stop in (1, 4, 7, last):
        with pytest.raises(Stopped):
            train(job, stop)
    assert any("going on from step" in line for line in train(job))
    found, true = weights(job), weights(wanted)
    assert found.keys() == true.keys()
    for name in true:
        assert np.array_equal(found[name], true[name]), f"{name} differs"
    assert rows(job) == rows(wanted)
    assert job.place.about()["validation"] == wanted.place.about()["validation"]


def test_asked_to_stop_it_leaves_with_a_checkpoint(tmp_path: Path) -> None:
    """As it does when there is room for more workers."""
    wanted = job_of(tmp_path / "one")
    train(wanted)
    job = job_of(tmp_path / "other", workers={"min": 1, "max": 2})
    said, asked = list[str](), list[int]()

    def stop() -> bool:
        asked.append(len(asked))
        return len(asked) == 2

    work(job, World(), said.append, stop)
    assert not job.place.finished() and newest_step(job.place.checkpoints) == 4
    assert model_lines(job.run) == [
        f"model      {job.place.directory.uri}: at step 4; `connote finetune RECIPE` goes on"
    ]
    assert any(line.startswith("there is room for more workers; stopped at step 4") for line in said)
    work(job, World(), said.append, lambda: False)
    assert "going on from step 4 of 14, with 1 worker" in said
    assert job.place.about()["workers"] == [{"from": 0, "workers": 1}]
    assert model_lines(job.run) == job.place.lines()
    found, true = weights(job), weights(wanted)
    assert all(np.array_equal(found[name], true[name]) for name in true)
    # A number that is fixed is not asked about.
    fixed = job_of(tmp_path / "fixed")
    work(fixed, World(), said.append, lambda: True)
    assert fixed.place.finished()


def test_a_finished_training_is_left_alone(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    train(job)
    assert train(job) == []


@pytest.mark.parametrize("method", ["prefix", "pvse", "pcme", "dive"])
def test_a_method_loads_as_an_encoder(tmp_path: Path, method: str) -> None:
    job = job_of(tmp_path, method=method, max_steps=2)
    train(job)
    name = f"connote:{job.place.directory.uri}"
    encoder = load_encoder(EncoderName.parse(name))
    picture = runs.picture()
    vectors = encoder.embed_images([encoder.prepare(picture)])
    several = {"pvse": (2,), "dive": (2,), "pcme": (7,)}.get(method, ())
    assert vectors.shape == (1, *several, 16)
    assert encoder.texts and encoder.embed_texts(["a red fish", "two"]).shape == (2, *several, 16)
    if encoder.similarity.unit:
        np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1, atol=1e-5)
    if method == "prefix":
        metaphor = load_encoder(EncoderName.parse(f"{name}@metaphor"))
        assert not np.allclose(metaphor.embed_images([metaphor.prepare(picture)]), vectors)
        plain = load_encoder(EncoderName.parse(job.settings.model))
        np.testing.assert_allclose(plain.embed_images([plain.prepare(picture)]), vectors, atol=1e-6)
    else:
        with pytest.raises(RecipeError, match=f"method {method} has no levels; leave out @metaphor"):
            load_encoder(EncoderName.parse(f"{name}@metaphor"))


def test_a_tokenizer_of_transformers_goes_with_the_model(tmp_path: Path) -> None:
    """open_clip looks for it beside the weights."""
    name, _ = write_bert_clip(tmp_path)
    job = job_of(tmp_path, model=name, max_steps=2, learning_rate=1e-4)
    train(job)
    encoder = load_encoder(EncoderName.parse(f"connote:{job.place.directory.uri}"))
    theirs, _ = open_clip.create_model_from_pretrained(f"local-dir:{job.place.directory.uri}")
    words = open_clip.get_tokenizer(f"local-dir:{job.place.directory.uri}")
    vectors = encoder.embed_texts(["a red fish"])
    with torch.no_grad():
        wanted = theirs.eval().encode_text(words(["a red fish"]), normalize=True)
    np.testing.assert_allclose(vectors, wanted.numpy(), atol=1e-6)
    # Not those of the model before: it has been trained.
    assert not np.allclose(vectors, load_encoder(EncoderName.parse(name)).embed_texts(["a red fish"]))


@pytest.mark.parametrize("method", ["full", "prefix"])
def test_a_model_on_an_object_store_loads_as_an_encoder(
    tmp_path: Path, method: str, bucket: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    job, there = job_of(tmp_path, method=method, max_steps=2), Location(bucket) / "models" / "m"
    train(job)
    for path in Path(job.place.directory.uri).glob("*.*"):
        (there / path.name).write_bytes(path.read_bytes())
    picture = runs.picture()

    def seen(place: Location) -> Any:
        encoder = load_encoder(EncoderName.parse(f"connote:{place.uri}"))
        return encoder.embed_images([encoder.prepare(picture)])

    local = seen(job.place.directory)
    assert np.array_equal(seen(there), local)
    if method == "full":
        (there / "open_clip_model.safetensors").delete()
        assert np.array_equal(seen(there), local), "the second time it is read from its copy"
    copies = list((tmp_path / "cache").rglob("*.safetensors"))
    assert len(copies) == (1 if method == "full" else 0)


def test_a_step_too_large_for_the_device_names_the_setting(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has ...")

    job = job_of(tmp_path)
    monkeypatch.setattr(working, "accumulate", full)
    with pytest.raises(RecipeError, match=r"^finetune.micro_batch: \d+ pairs .*\(CUDA out of memory\)$"):
        train(job)
    monkeypatch.undo()
    train(job_of(tmp_path, micro_batch=4, gradient_checkpointing=True))


def test_a_batch_without_a_loss_stops_the_run_and_names_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    poison(monkeypatch, {5})
    with pytest.raises(StorageError, match=r"step 5: its loss is nan .*max_bad_batches"):
        train(job)
    noted = json.loads((Path(job.place.directory.uri) / "bad-batch-00000005.json").read_text())
    assert noted["step"] == 5 and len(noted["ids"]) in (15, 16)
    # As the message says; what was done up to it is kept.
    monkeypatch.undo()
    poison(monkeypatch, {0})
    raised = replace(job, settings=begun(job, max_bad_batches=1).settings)
    raised.place.check(begun(raised))
    said = train(raised)
    assert any("step 5 is left out" in line for line in said), said


def test_bad_batches_are_left_out_where_that_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, max_bad_batches=2)
    poison(monkeypatch, {3, 5})
    said = train(job)
    assert [line for line in said if "is left out" in line] == [
        f"step {step} is left out: its loss is nan (bad-batch-0000000{step}.json)" for step in (3, 5)
    ]
    assert job.place.about()["bad_batches"] == 2
    assert all(np.isfinite(value).all() for value in weights(job).values())


def test_images_that_cannot_be_read_are_left_out_and_named(tmp_path: Path) -> None:
    job = job_of(tmp_path, broken=range(4))
    said = train(job)
    named = [line for line in said if line.startswith("image ")]
    assert 1 <= len(named) <= 4 and all(line.endswith("is left out: truncated image") for line in named)
    assert job.place.finished()


def test_a_full_disk_while_saving_keeps_what_was_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path)
    write = Location.write_bytes

    def full(self: Location, data: bytes, replace: bool = True) -> bool:
        if "step-00000004" in self.uri:
            raise StorageError(f"{self.uri}: the disk is full; make room and run the same command again")
        return write(self, data, replace)

    monkeypatch.setattr(Location, "write_bytes", full)
    with pytest.raises(StorageError, match="the disk is full"):
        train(job)
    assert newest_step(job.place.checkpoints) == 2
    monkeypatch.undo()
    assert "going on from step 2 of" in train(job)[0]


def test_weights_are_gone_on_from_under_another_name(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4)
    train(first)
    second = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri, learning_rate=1e-12)
    train(second)
    for name, value in weights(first).items():
        np.testing.assert_allclose(weights(second)[name], value, atol=1e-6)
    with pytest.raises(RecipeError, match=r"finetune\.start: .* by method full; its weights fit that model"):
        train(job_of(tmp_path / "c", method="lora", start=first.place.directory.uri))


def test_of_averaged_weights_the_average_is_gone_on_from(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4, ema=0.5)
    train(first)
    second = job_of(tmp_path / "b", max_steps=1, start=first.place.directory.uri, learning_rate=1e-12)
    train(second)
    for name, value in weights(first).items():
        np.testing.assert_allclose(weights(second)[name], value, atol=1e-6)
    mixed = job_of(tmp_path / "c", max_steps=4, interpolate=[1])
    train(mixed)
    with pytest.raises(RecipeError, match=r"was interpolated, .* name what it holds as finetune\.model"):
        train(job_of(tmp_path / "d", start=mixed.place.directory.uri))


@pytest.mark.parametrize(
    ("method", "then", "named"),
    [
        ("lora", {"adapter": {"rank": 2}}, r"finetune\.adapter\.rank 2, and here it is 8"),
        ("lora", {"adapter": {"alpha": 4}}, r"finetune\.adapter\.alpha 4\.0, and here it is 8\.0"),
        ("pvse", {"adapter": {"embeddings": 1}}, r"finetune\.adapter\.embeddings 1, and here it is 2"),
        (
            "full",
            {"towers": ["text"]},
            r"finetune\.towers \['text'\], and here it is \['image', 'text'\]",
        ),
    ],
)
def test_weights_of_another_shape_are_not_gone_on_from(
    tmp_path: Path, method: str, then: dict[str, Any], named: str
) -> None:
    first = job_of(tmp_path / "a", method=method, max_steps=1, **then)
    train(first)
    second = job_of(tmp_path / "b", method=method, start=first.place.directory.uri)
    with pytest.raises(RecipeError, match=rf"finetune\.start: \S* was trained with {named}; set"):
        check_start(second.settings)
    with pytest.raises(RecipeError, match="holds no whole checkpoint"):
        check_start(begun(second, start=str(tmp_path / "nothing")).settings)


def test_a_damaged_start_is_told_and_the_checkpoint_before_it_taken(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=4)
    train(first)
    newest = Path(first.place.checkpoints.uri) / "step-00000004" / "weights.safetensors"
    newest.write_bytes(newest.read_bytes()[:-9])
    said = train(job_of(tmp_path / "b", max_steps=1, start=first.place.directory.uri))
    assert any("weights.safetensors has" in line and "step-00000002 is used instead" in line for line in said)
    assert f"starting from {first.place.directory.uri}, step-00000002" in said


def test_what_is_mixed_in_is_what_training_began_with(tmp_path: Path) -> None:
    """Also where the directory that it started from has gone since."""
    first = job_of(tmp_path / "a", max_steps=2)
    train(first)
    wanted = weights(first)
    mixed = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri, interpolate=[0])
    with pytest.raises(Stopped):
        train(mixed, stop_after=3)
    shutil.rmtree(first.place.directory.uri)
    train(mixed)
    assert all(np.array_equal(weights(mixed)[name], value) for name, value in wanted.items())


def test_a_resumed_training_needs_its_start_no_more(tmp_path: Path) -> None:
    first = job_of(tmp_path / "a", max_steps=2)
    train(first)
    second = job_of(tmp_path / "b", max_steps=4, start=first.place.directory.uri)
    with pytest.raises(Stopped):
        train(second, stop_after=3)
    shutil.rmtree(first.place.directory.uri)
    assert train(second)[0].startswith("going on from step 2 of")


def test_the_best_mixture_of_old_and_new_weights(tmp_path: Path) -> None:
    for method in ("full", "lora"):
        job = job_of(tmp_path / method, method=method, interpolate=[0, 1], learning_rate=1e-12)
        train(job)
        found = job.place.about()["interpolation"]
        # All shares score alike: the smallest is taken, which is the model as it was.
        assert found["share"] == 0 and [share for share, _ in found["tried"]] == [0, 1]


def test_the_model_is_that_of_the_best_validation_where_that_is_wanted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path / "a", select="best")
    # Of three validations the first is the best, and that before training still better.
    told = chain((0, -1, -2), repeat(1))
    monkeypatch.setattr(working, "score", lambda scores: next(told))
    said = train(job)
    assert "the model is that of step 5, the best of the validations on the way" in said
    assert "before training the model was better on the held-out images than at any step" in said
    about = job.place.about()
    assert (about["steps"], about["steps_in_all"]) == (5, 14)
    card = (job.place.directory / "README.md").read_bytes().decode()
    assert "for 5 steps on" in card and "Training went on to step 14" in card
    kept = load_file(Path(job.place.checkpoints.uri) / "step-00000005" / "weights.safetensors")
    found = {f"backbone.model.{name}": value for name, value in weights(job).items()}
    assert all(np.array_equal(value, found[name]) for name, value in kept.items())
    # The same without it is that of the last step; killed at its end, the best is found again.
    last = job_of(tmp_path / "b")
    train(last)
    assert last.place.about()["steps"] == 14 and "steps_in_all" not in last.place.about()
    (job.place.directory / "connote.json").delete()
    train(job)
    assert job.place.about() == about
    # And another training goes on from it.
    more = job_of(tmp_path / "c", max_steps=1, start=job.place.directory.uri, learning_rate=1e-12)
    train(more)
    for name, value in weights(job).items():
        np.testing.assert_allclose(weights(more)[name], value, atol=1e-6)
    with pytest.raises(RecipeError, match=r"select: chosen on held-out images; set data\.validation above 0"):
        job_of(tmp_path / "d", select="best", data={"validation": 0})


def test_a_damaged_best_does_not_drive_out_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path, select="best", keep=1)
    by_step = {5: 0.9, 10: 0.8, 14: 0.1}

    def score(scores: Any) -> float:
        return by_step.get(steps[-1], 0.0)

    steps = [0]
    monkeypatch.setattr(working, "score", score)
    keep = working._Worker._keep

    def noted(self: Any, scores: Any) -> None:
        steps.append(self.state.step)
        keep(self, scores)

    monkeypatch.setattr(working._Worker, "_keep", noted)
    with pytest.raises(Stopped):
        train(job, stop_after=8)
    damaged = Path(job.place.checkpoints.uri) / "step-00000005" / "weights.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-9])
    assert "the model is that of step 10, the best of the validations on the way" in train(job)


def test_a_best_step_needs_several_validations(tmp_path: Path) -> None:
    said = train(job_of(tmp_path, select="best", max_steps=3, validate_every=5))
    assert any("only validation is at the end; set finetune.validate_every below 3" in line for line in said)


def test_changed_settings_are_refused_by_name(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job.place.check(begun(job, batch=8))  # nothing is trained yet: all may change
    with pytest.raises(Stopped):
        train(job, stop_after=3)
    with pytest.raises(RecipeError, match=r"finetune\.batch is 8 \(was 16\): this training began"):
        job.place.check(begun(job, batch=8))
    with pytest.raises(RecipeError, match=r"run\.seed is 4 \(was 3\)"):
        job.place.check(replace(begun(job), seed=4))
    with pytest.raises(RecipeError, match=r"images\.max_pixels is 9 \(was 100000000\)"):
        job.place.check(replace(begun(job), max_pixels=9))
    free = {"workers": 3, "keep": 9, "micro_batch": 4, "gradient_checkpointing": True, "validate_every": 1}
    job.place.check(begun(job, max_bad_batches=7, **free))
    # What did not exist then: settings are what they are by default, the base is taken as it is.
    kept = Path(job.place.directory.uri) / "settings.json"
    told = json.loads(kept.read_text())
    del told["finetune"]["towers"], told["base"], told["images"]
    kept.write_text(json.dumps(told))
    job.place.check(begun(job))
    with pytest.raises(RecipeError, match=r'towers is \["text"\] \(was \["image", "text"\]\)'):
        job.place.check(begun(job, towers=["text"]))


@pytest.mark.parametrize("damage", ["{", "{}", "[]", '{"finetune": {"of_next_year": 1}, "run": {"seed": 3}}'])
def test_settings_that_cannot_be_understood_are_named(tmp_path: Path, damage: str) -> None:
    job = job_of(tmp_path)
    with pytest.raises(Stopped):
        train(job, stop_after=3)
    Path(job.place.settings.uri).write_text(damage)
    with pytest.raises(RecipeError, match=r"settings\.json: cannot be understood .* put it back"):
        job.place.check(begun(job))


def test_another_model_under_the_same_name_is_refused(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    with pytest.raises(Stopped):
        train(job, stop_after=3)
    write_clip(tmp_path / "clip", seed=1)
    with pytest.raises(RecipeError, match=r"finetune\.model: .* is not what this training began with"):
        job.place.check(begun(job))
    write_clip(tmp_path / "clip")
    job.place.check(begun(job))
    (Path(job.place.directory.uri) / "settings.json").unlink()
    with pytest.raises(RecipeError, match=r"settings\.json is gone"):
        job.place.check(begun(job))


def poison(monkeypatch: pytest.MonkeyPatch, steps: set[int]) -> None:
    """Give the batches of these steps captions whose tokens make the model's output no number."""
    from engine.training import work as module

    accumulate, seen = module.accumulate, iter(range(10**6))

    def poisoned(method: Any, batch: Any, *more: Any) -> Any:
        if next(seen) in steps:
            batch.pixels.fill_(float("nan"))
        return accumulate(method, batch, *more)

    monkeypatch.setattr(module, "accumulate", poisoned)
