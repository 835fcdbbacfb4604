"""One worker without Ray: stopped at every kind of step and gone on with, bad batches, full disks."""

from __future__ import annotations

import csv
import json
import time
from concurrent.futures import wait as waited_for
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch

from engine.encoders import EncoderName, load_encoder
from engine.errors import RecipeError, StorageError
from engine.storage import Location
from engine.training import work as working
from engine.training.checkpoint import Checkpoints
from engine.training.loader import Loader
from engine.training.model_directory import model_lines
from engine.training.validation import Validator
from engine.training.work import work
from engine.training.world import World
from tests.training import runs
from tests.training.checkpoints import newest_step
from tests.training.tiny import write_bert_clip, write_clip
from tests.training.worker import Stopped, begun, job_of, rows, train, weights


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


def test_all_stop_at_a_bad_batch_when_what_is_kept_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first worker that stops ends the others, which may be writing."""
    job = job_of(tmp_path)
    write, found = Location.write_bytes, list[tuple[int, bool]]()

    def slow(self: Location, data: bytes, replace: bool = True) -> bool:
        if "step-00000005" in self.uri:
            time.sleep(0.2)
        return write(self, data, replace)

    def met(_: World) -> None:
        file = Path(job.place.directory.uri) / "bad-batch-00000005.json"
        found.append((newest_step(job.place.checkpoints), file.exists()))

    monkeypatch.setattr(Location, "write_bytes", slow)
    monkeypatch.setattr(World, "wait", met)
    poison(monkeypatch, {5})
    with pytest.raises(StorageError, match=r"step 5: its loss is nan"):
        train(job)
    assert found == [(5, True)]


def test_a_bias_beside_the_model_is_told(tmp_path: Path) -> None:
    """Its own form has no place for what the sigmoid loss learned."""
    job = job_of(tmp_path, max_steps=2, loss="sigmoid")
    train(job)
    about, card = job.place.about(), (Path(job.place.directory.uri) / "README.md").read_text()
    assert about["logit_bias"] == pytest.approx(-10, abs=0.1) and about["logit_bias"] != -10
    assert "logit_bias" not in weights(job)
    assert (
        f"a bias of the logits, {about['logit_bias']:.4g}, which the weights here have no place for" in card
    )


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


def test_a_full_disk_is_told_at_the_next_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the next checkpoint is due, which may be hours later."""
    job = job_of(tmp_path, checkpoint_every=5, max_steps=10, validate_every=10, epochs=9)
    save, accumulate, steps = Checkpoints.save, working.accumulate, list[int]()

    def full(*_: Any, **__: Any) -> bool:
        raise StorageError("the disk is full")

    def saved(self: Checkpoints, step: int, *more: Any) -> None:
        with monkeypatch.context() as during:
            during.setattr(Location, "write_bytes", full)
            save(self, step, *more)
            assert self._pending is not None
            waited_for([self._pending])

    def counted(*given: Any) -> Any:
        steps.append(len(steps))
        return accumulate(*given)

    monkeypatch.setattr(Checkpoints, "save", saved)
    monkeypatch.setattr(working, "accumulate", counted)
    with pytest.raises(StorageError, match="the disk is full"):
        train(job)
    assert len(steps) == 5


def test_a_validation_is_no_part_of_the_time_that_is_waited_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = job_of(tmp_path, max_steps=4, validate_every=1)
    scores = Validator.scores

    def slow(self: Validator, method: Any) -> dict[str, float]:
        time.sleep(0.3)
        return scores(self, method)

    monkeypatch.setattr(Validator, "scores", slow)
    monkeypatch.setattr(Loader, "waited", lambda _: 1e-4)
    train(job)
    with (Path(job.place.directory.uri) / "metrics.csv").open() as file:
        told = [row for row in csv.DictReader(file) if row["samples/s"]]
    assert len(told) == 4
    for row in told:
        seconds = 1e-4 / float(row["waiting"])
        assert 14 < float(row["samples/s"]) * seconds < 17, "the pairs of a batch"


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
