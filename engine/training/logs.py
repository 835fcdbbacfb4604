"""What a training says while it goes on: to files, to services, and in a line for the terminal."""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from engine.flow.progress import clock
from engine.recipe.finetune import Finetune
from engine.storage import Location
from engine.training.log_files import CsvLog, Kind, TensorBoardLog
from engine.training.log_services import MlflowLog, WandbLog, check_services

#: Seconds that the end of a training waits for a service.
CLOSING_S = 60.0


class Log(Protocol):
    """Where figures go."""

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """Take the figures after so many steps."""

    def flush(self) -> None:
        """Keep what was taken: training will go on from here, if it must."""

    def close(self) -> None:
        """Keep everything, and take no more."""


class Logs:
    """All logs of one training: metrics.csv, TensorBoard, and the services that the recipe names.

    A log that fails is told of once; training goes on, and so do the other logs.
    """

    def __init__(self, logs: Sequence[Log]) -> None:
        self._logs = logs
        self._first: tuple[float, int] | None = None  # time and step of the first line

    @classmethod
    def open(
        cls,
        directory: Location,
        settings: Finetune,
        step: int,
        first: bool,
        tell: Callable[[str], None] = lambda text: print(text, file=sys.stderr, flush=True),
    ) -> Logs:
        """The logs of one worker.

        Args:
            directory: the model's.
            settings: the recipe's section.
            step: where training goes on from; what was logged behind it is dropped.
            first: whether this worker logs for all; the others have no logs.
            tell: takes the warnings; called from several threads.

        Raises:
            RecipeError: the package of a service is not installed.
        """
        if not first:
            return cls([])
        check_services(settings)
        logs: list[Log] = [
            _Guarded("metrics.csv", lambda: CsvLog(directory / "metrics.csv", step, tell), tell),
            _Guarded("TensorBoard", lambda: TensorBoardLog(directory / "tensorboard", step), tell),
        ]
        if settings.wandb:
            logs.append(_Behind("W&B", lambda: WandbLog(directory, settings), tell))
        if settings.mlflow:
            logs.append(_Behind("MLflow", lambda: MlflowLog(directory, settings), tell))
        return cls(logs)

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """See `Log.write`."""
        for log in self._logs:
            log.write(step, figures, kind)

    def flush(self) -> None:
        """See `Log.flush`; to be called before the checkpoint that training may go on from."""
        for log in self._logs:
            log.flush()

    def close(self) -> None:
        """See `Log.close`."""
        for log in self._logs:
            log.close()

    def line(self, step: int, total: int, figures: Mapping[str, float]) -> str:
        """See `line`; how long the rest takes is told from the second call on."""
        now = time.monotonic()
        self._first = self._first or (now, step)
        begun, at = self._first
        return line(step, total, figures, (now - begun) / (step - at) if step > at else None)


def line(step: int, total: int, figures: Mapping[str, float], step_s: float | None = None) -> str:
    """A line for the terminal: steps, samples a second, loss, share of waiting, time left.

    Args:
        step: that are done, of `total`.
        figures: of them `loss`, `samples/s` and `waiting` (a share of the time) are told.
        step_s: seconds that a step takes, validations and checkpoints included.
    """
    text = f"{'finetune':<9} {step:,}/{total:,} steps"
    if "samples/s" in figures:
        text += f"  {figures['samples/s']:,.1f} samples/s"
    if "loss" in figures:
        text += f"  loss {figures['loss']:.4f}"
    if "waiting" in figures:
        text += f"  {100 * figures['waiting']:.0f} % waiting for data"
    if step_s is not None and step < total:
        text += f"  {clock((total - step) * step_s)} left"
    return text


class _Guarded:
    """A log whose failures stop nothing; one that cannot be opened takes nothing."""

    def __init__(self, name: str, make: Callable[[], Log], tell: Callable[[str], None]) -> None:
        self._name, self._tell, self._told = name, tell, False
        self._log: Log | None = None
        self._attempt(lambda: setattr(self, "_log", make()))

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        if log := self._log:
            self._attempt(lambda: log.write(step, figures, kind))

    def flush(self) -> None:
        if log := self._log:
            self._attempt(log.flush)

    def close(self) -> None:
        if log := self._log:
            self._attempt(log.close)

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except Exception as error:  # services raise whatever they meet
            if not self._told:
                self._told = True
                self._tell(f"warning: {self._name} does not log ({error}); training goes on without it")


class _Behind:
    """A guarded log on a thread of its own: a service that does not answer holds up nothing."""

    def __init__(self, name: str, make: Callable[[], Log], tell: Callable[[str], None]) -> None:
        self._name, self._make, self._tell = name, make, tell
        self._rows: queue.SimpleQueue[tuple[int, Mapping[str, float], Kind] | None] = queue.SimpleQueue()
        # A daemon, since a service may never answer, and the process is to end all the same.
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._thread.start()

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        self._rows.put((step, dict(figures), kind))

    def flush(self) -> None:
        pass

    def close(self) -> None:
        self._rows.put(None)
        self._thread.join(CLOSING_S)
        if self._thread.is_alive():
            self._tell(f"warning: {self._name} has not taken all rows within {CLOSING_S:g} s")

    def _work(self) -> None:
        log = _Guarded(self._name, self._make, self._tell)
        while (row := self._rows.get()) is not None:
            log.write(*row)
        log.close()
