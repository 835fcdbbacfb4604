"""The checkpoints of a training: written while it goes on, and the newest whole one found again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, cast

from torch import Tensor

from engine.errors import StorageError
from engine.storage import Location
from engine.training.checkpoint_files import (
    BrokenCheckpoint,
    Checkpoint,
    contents,
    described,
    directory_name,
    listed,
    order,
    read,
    remove,
    write,
)

__all__ = ["Checkpoint", "Checkpoints"]


class Checkpoints:
    """The checkpoints of one training, of which this process is the only writer.

    Kept are the last `keep` by their step and the best by its score; of equal scores the latest.
    An older one goes when the new one is whole. A write that failed raises at the next call, of which `look`
    is one that does not wait.

    Args:
        directory: RUN/models/<name>/checkpoints.
        keep: at least 1.
        say: takes messages for the user, in the thread that reads.
    """

    def __init__(self, directory: Location, keep: int, say: Callable[[str], None] = print) -> None:
        if keep < 1:
            raise ValueError(f"keep is {keep}; at least one checkpoint must stay")
        self._directory, self._keep, self._say = directory, keep, say
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._pending: Future[None] | None = None
        self._broken: set[str] = set()
        self._scores: dict[str, float | None] = {}

    def save(
        self, step: int, weights: Mapping[str, Tensor], state: Mapping[str, Any], score: float | None = None
    ) -> None:
        """Copy everything, and write it while training goes on; waits for the write before this one.

        Args:
            step: of the training.
            weights: the trained parameters by name, on any device.
            state: dicts, lists and tuples of tensors and plain values, as `flatten` takes them.
            score: on validation data; what is no number counts as none.

        Raises:
            StorageError: the write before this one failed; this one is not begun.
            TypeError: the state holds what cannot be kept.
        """
        self.wait()
        number = score if score is not None and math.isfinite(score) else None
        self._pending = self._thread.submit(self._replace, step, contents(weights, state), number)

    def look(self) -> None:
        """Raise what the last save has met, if it is over; costs nothing, and is meant for every step.

        Raises:
            StorageError: it failed; the checkpoints before it are kept.
        """
        if self._pending and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Until the last save is whole.

        Raises:
            StorageError: it failed; the checkpoints before it are kept.
        """
        pending, self._pending = self._pending, None
        if pending:
            pending.result()

    def close(self) -> None:
        """Wait, and end the thread.

        Raises:
            StorageError: as `wait`.
        """
        try:
            self.wait()
        finally:
            self._thread.shutdown()

    def newest(self) -> Checkpoint | None:
        """The whole checkpoint of the highest step, if there is one; says which it passes over, and why.

        Raises:
            StorageError: the storage fails, so that it cannot be known.
        """
        return self._first(sorted(self._whole(), key=order, reverse=True))

    def best(self) -> Checkpoint | None:
        """The whole checkpoint of the highest score, if any has one; says which it passes over, and why."""
        return self._first(sorted(self._scored(self._whole()), key=self._rank, reverse=True))

    def at(self, step: int) -> Checkpoint:
        """The checkpoint of a step.

        Raises:
            StorageError: there is none that is whole.
        """
        of = [name for name in self._whole() if order(name)[0] == step]
        if found := self._first(sorted(of, key=order, reverse=True)):
            return found
        raise StorageError(f"{self._directory.uri}: holds no whole checkpoint of step {step:,}")

    def _whole(self) -> list[str]:
        """Those that say that they are whole, once nothing is being written."""
        self.wait()
        return [name for name, whole in listed(self._directory).items() if whole]

    def _first(self, names: Iterable[str]) -> Checkpoint | None:
        passed: list[str] = []
        found = None
        for name in names:
            try:
                found = read(self._directory / name)
                break
            except BrokenCheckpoint as broken:
                passed.append(str(broken))
                self._broken.add(name)
        instead = f"{found.directory.name} is used instead" if found else "there is no whole one before it"
        for reason in passed:
            self._say(f"{reason}; {instead}")
        return found

    def _replace(self, step: int, files: Mapping[str, memoryview], score: float | None) -> None:
        """Write a new checkpoint, then remove what it makes superfluous; runs in the thread."""
        found = listed(self._directory)
        whole = [name for name in found if found[name]]
        for name in found.keys() - whole:
            remove(self._directory / name)
        copies = [order(name)[1] for name in whole if order(name)[0] == step]
        new = directory_name(step, max(copies, default=-1) + 1)
        write(self._directory / new, step, files, score)
        self._scores[new] = score
        self._broken.discard(new)
        for name in self._old([*whole, new], new):
            remove(self._directory / name)

    def _old(self, names: list[str], new: str) -> list[str]:
        """What need not be kept beside the new one, the oldest first.

        What is broken does not count. Steps beyond the new one, which a user may have gone back
        from, stay until training passes them.
        """
        kept = set(sorted(self._scored(names), key=self._rank)[-1:])
        passed = sorted((name for name in names if order(name) <= order(new)), key=order)
        # Of a step that was saved again only the last copy.
        last = {order(name)[0]: name for name in passed if name not in self._broken}
        kept.update(list(last.values())[-self._keep :])
        return [name for name in passed if name not in kept]

    def _scored(self, names: Iterable[str]) -> list[str]:
        """Those that have a score and are not known to be broken."""
        for name in names:
            if name not in self._scores:
                try:
                    self._scores[name] = described(self._directory / name)["score"]
                except BrokenCheckpoint:
                    self._scores[name] = None
                    self._broken.add(name)
        return [name for name in names if name not in self._broken and self._scores[name] is not None]

    def _rank(self, name: str) -> tuple[float, tuple[int, int]]:
        return cast(float, self._scores[name]), order(name)
