"""What one worker does: go on from the newest checkpoint, step, validate, keep, finish."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from contextlib import nullcontext

import torch

from engine.errors import RecipeError, StorageError
from engine.recipe.finetune import Finetune
from engine.training.checkpoint import Checkpoints
from engine.training.checkpoint_files import Checkpoint
from engine.training.finish import finish, keep_start
from engine.training.job import Job
from engine.training.loader import Loader
from engine.training.logs import Logs
from engine.training.optimization import rate_at, set_rates
from engine.training.pairs_file import Pairs
from engine.training.reader import ImageReader
from engine.training.state import TrainingState
from engine.training.step import LocalBatch, accumulate
from engine.training.stretches import begin
from engine.training.validation import Validator, score
from engine.training.world import World

#: Ids of a bad batch that a message names; all of them are in its file.
_NAMED = 3
#: What may help where a loss is no number, beside leaving the batch out.
_CALMER = "choose a lower finetune.learning_rate and another finetune.name"


def work(
    job: Job, world: World, tell: Callable[[str], None], stop: Callable[[], bool] = lambda: False
) -> None:
    """Train to the end, with the other workers of `world`, and write the model.

    Args:
        job: what is trained.
        world: the workers.
        tell: takes lines for the user.
        stop: asked on the first worker at each checkpoint; if true, all leave with that checkpoint.

    Raises:
        RecipeError: the model cannot be had or cannot carry the method, or a step needs more memory
            than the device has.
        StorageError: the run directory fails, or more batches than allowed have no finite loss.
    """
    if not job.place.finished():
        _Worker(job, world, tell, stop).run()
    world.wait()


class _Worker:
    def __init__(self, job: Job, world: World, tell: Callable[[str], None], stop: Callable[[], bool]) -> None:
        self.job, self.settings, self.world, self.stop = job, job.settings, world, stop
        self.tell = tell if world.first else lambda line: None
        self.pairs = pairs = Pairs.read(job.place.pairs)
        self.checkpoints = Checkpoints(job.place.checkpoints, job.settings.keep, self.tell)
        self.found = self._on_all(self.checkpoints.newest)
        self.state = TrainingState.fresh(job.settings, job.seed, world, self.tell, started=self.found is None)
        if self.found is None and world.first:
            keep_start(job, self.state)
        self.loader = Loader(
            pairs,
            ImageReader(job.run.catalog, pairs.images),
            self.state.method.backbone,
            job.settings,
            world,
            job.seed,
            lambda id, reason: tell(f"image {id} is left out: {reason}"),
            job.max_pixels,
        )
        self.validator = Validator(pairs, self.loader, job.settings, world)
        per_epoch = self.loader.batches_of(0)
        self.total = min(per_epoch * self.settings.epochs, self.settings.max_steps or per_epoch * 10**9)
        self.every = self.settings.validate_every or per_epoch
        if self.total < (self.settings.max_steps or 0):
            self.tell(f"finetune.epochs, {self.settings.epochs}, end before finetune.max_steps")
        if self.settings.select == "best" and self.every >= self.total:
            self.tell(
                "finetune.select: best has nothing to choose from, the only validation is at the end; set "
                f"finetune.validate_every below {self.total:,}"
            )

    def run(self) -> None:
        """From where the newest checkpoint is to the end."""
        self._resume()
        self.logs = Logs.open(
            self.job.place.directory, self.settings, self.state.step, self.world.first, self.tell
        )
        self.since, self.pairs_since = time.monotonic(), 0
        try:
            if self.state.step == 0 and not self.state.before:
                self.state.before = self._validate()
            stopped = False
            while self.state.step < self.total and not stopped:
                stopped = self._epoch()
            self.checkpoints.wait()
            if stopped:
                self.tell(
                    f"there is room for more workers; stopped at step {self.state.step:,} to take them in"
                )
                return
            if self.settings.select == "best":
                self._go_back()
            finish(self.job, self.state, self.total, self.pairs, self.validator, self.world, self.tell)
        finally:
            self.checkpoints.close()
            self.logs.close()

    def _on_all(self, find: Callable[[], Checkpoint | None]) -> Checkpoint | None:
        """The checkpoint that the first worker finds, on every worker."""
        found = find() if self.world.first else None
        step = self.world.share(found.step if found else None)
        return None if step is None else found or self.checkpoints.at(step)

    def _resume(self) -> None:
        """Take up the checkpoint, and say with how many workers it goes on."""
        state = self.state
        if self.found is not None:
            if self.settings.select == "best" and self.world.first:
                self.checkpoints.best()  # read: a damaged one must not hold a whole one's place
            state.take(*self.found.read(self.world.device), origin=self.found.directory.uri)
            self.found = None  # its tensors have been copied
        self.tell(begin(state.workers, state.step, self.total, self.world.size))

    def _go_back(self) -> None:
        """To the step of the best validation."""
        best = self._on_all(self.checkpoints.best)
        if best is None:
            return
        if self.state.before and score(self.state.before) > (best.score or 0):
            self.tell("before training the model was better on the held-out images than at any step")
        if best.step < self.state.step:
            self.state.take(*best.read(self.world.device), origin=best.directory.uri)
            self.tell(f"the model is that of step {best.step:,}, the best of the validations on the way")

    def _epoch(self) -> bool:
        """To the end of the epoch; returns whether it was stopped before."""
        state = self.state
        for batch in self.loader.batches(state.epoch, state.batch):
            self.checkpoints.look()  # a full disk is told now, not when the next one is due
            self._step(batch)
            del batch  # its pixels make room for those of the batch that is begun next
            state.step, state.batch = state.step + 1, state.batch + 1
            ended = state.batch == self.loader.batches_of(state.epoch)
            if ended:
                state.epoch, state.batch = state.epoch + 1, 0
            last = state.step == self.total
            scores = self._validate() if state.step % self.every == 0 or last else None
            if scores or ended or last or state.step % self.settings.checkpoint_every == 0:
                self._keep(scores)
                if not last and self._stop():
                    return True
            if last:
                break
        return False

    def _stop(self) -> bool:
        """Whether to leave with the checkpoint that was just begun; the same on every worker."""
        least, most = self.settings.worker_bounds
        return least < most and bool(self.world.share(self.world.first and self.stop()))

    def _step(self, batch: LocalBatch) -> None:
        state, settings = self.state, self.settings
        set_rates(state.optimizer, rate_at(state.step, self.total, settings))
        state.optimizer.zero_grad(set_to_none=True)
        low = None if settings.precision == "float32" else getattr(torch, settings.precision)
        try:
            done = accumulate(state.method, batch, self.world, settings.micro_batch, low, state.scaler)
        except torch.OutOfMemoryError as error:
            raise RecipeError(_too_large(settings, error)) from error
        if done.pairs < 2:
            self._leave_out(batch, f"{done.pairs} of its pairs can be read", "mend these images")
            return
        if not math.isfinite(done.loss):
            self._leave_out(batch, f"its loss is {done.loss}")
            return
        norm = state.update(settings.clip_norm)
        if norm is None:
            self._leave_out(batch, f"its loss is {done.loss:.4g}, but its gradient is no number")
            return
        self.pairs_since += done.pairs
        if (state.step + 1) % settings.log_every == 0:
            self._log(done.loss, norm)

    def _leave_out(self, batch: LocalBatch, reason: str, way_out: str = _CALMER) -> None:
        """Note a batch that nothing can be learned from; all workers come here together."""
        self.state.bad += 1
        place = self.job.place.directory / f"bad-batch-{self.state.step:08d}.json"
        if self.world.first:
            text = json.dumps({"step": self.state.step, "reason": reason, "ids": list(batch.ids)}, indent=1)
            place.write_bytes(text.encode())
        if self.state.bad > self.settings.max_bad_batches:
            # The first of them that raises ends all: neither the file nor a checkpoint may be half written.
            self.checkpoints.wait()
            self.world.wait()
            named = ", ".join(dict.fromkeys(batch.ids[:_NAMED]))
            raise StorageError(
                f"finetune: step {self.state.step:,}: {reason} (images {named}, ...; all in {place.uri}); "
                f"leave such batches out with finetune.max_bad_batches, or {way_out}"
            )
        self.tell(f"step {self.state.step:,} is left out: {reason} ({place.name})")

    def _log(self, loss: float, norm: float) -> None:
        now = time.monotonic()
        seconds = max(now - self.since, 1e-9)
        figures = {
            "loss": loss,
            "rate": rate_at(self.state.step, self.total, self.settings) * self.settings.learning_rate,
            "norm": norm,
            "samples/s": self.pairs_since / seconds,
            "waiting": min(self.loader.waited() / seconds, 1.0),
        }
        self.since, self.pairs_since = now, 0
        self.logs.write(self.state.step + 1, figures, "train")
        self.tell(self.logs.line(self.state.step + 1, self.total, figures))

    def _validate(self) -> dict[str, float]:
        if not self.validator.levels:
            return {}
        begun = time.monotonic()
        with self.state.average.swapped() if self.state.average else nullcontext():
            scores = self.validator.scores(self.state.method)
        # Of the rate of training, and of the share of waiting, it is no part.
        self.since += time.monotonic() - begun
        self.logs.write(self.state.step, scores, "validation")
        told = "  ".join(f"{name} {100 * value:.1f} %" for name, value in scores.items() if "/" not in name)
        self.tell(f"step {self.state.step:,}: {told}")
        return scores

    def _keep(self, scores: dict[str, float] | None) -> None:
        if not self.world.first:
            return
        self.logs.flush()
        weights, rest = self.state.kept()
        self.checkpoints.save(self.state.step, weights, rest, score(scores) if scores else None)


def _too_large(settings: Finetune, error: torch.OutOfMemoryError) -> str:
    again = "" if settings.gradient_checkpointing else ", or set finetune.gradient_checkpointing"
    return (
        f"finetune.micro_batch: {settings.micro_batch} pairs at once need more memory than the device has; "
        f"lower it{again}: neither changes what is learned, and training goes on from its last checkpoint "
        f"({str(error).partition('. ')[0]})"
    )
