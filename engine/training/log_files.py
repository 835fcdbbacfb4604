"""Logs that are files beside the model: metrics.csv, and event files for TensorBoard."""

from __future__ import annotations

import csv
import io
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from engine.storage import Location

Kind = Literal["train", "validation"]

_KEYS = ("step", "kind")


class CsvLog:
    """metrics.csv: a row for each step that was told of, a column for each figure.

    It is held in memory and written whole. Training that goes on from a step takes up the rows up
    to there and drops those behind it, so that the file becomes what an undisturbed training
    would have written.

    Args:
        place: the file, on any filesystem. One that cannot be read is moved aside.
        step: where training goes on from.
        tell: takes messages for the user.
    """

    def __init__(self, place: Location, step: int, tell: Callable[[str], None]) -> None:
        self._place = place
        self._rows = {key: row for key, row in _read(place, tell).items() if key[0] <= step}

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """Add a row; one of the same step and kind, which a killed training left, is replaced."""
        self._rows[step, kind] = {name: repr(float(value)) for name, value in figures.items()}
        if kind == "validation":
            self.flush()

    def flush(self) -> None:
        """Write the file.

        Raises:
            StorageError: it cannot be written; the one before it stays.
        """
        columns = dict.fromkeys(name for row in self._rows.values() for name in row)
        text = io.StringIO(newline="")
        writer = csv.DictWriter(text, [*_KEYS, *columns], lineterminator="\n")
        writer.writeheader()
        writer.writerows({"step": step, "kind": kind, **row} for (step, kind), row in self._rows.items())
        self._place.write_bytes(text.getvalue().encode())

    def close(self) -> None:
        """Write what is not yet written."""
        self.flush()


def _read(place: Location, tell: Callable[[str], None]) -> dict[tuple[int, str], dict[str, str]]:
    """The rows by step and kind; values stay the texts that they are, to the last digit."""
    if not place.exists():
        return {}
    rows: dict[tuple[int, str], dict[str, str]] = {}
    try:
        for row in csv.DictReader(io.StringIO(place.read_bytes().decode(), newline=""), strict=True):
            if None in row:
                raise ValueError("a row has more fields than the first line has names")
            key = (int(row.pop("step")), row.pop("kind"))
            rows[key] = {name: text for name, text in row.items() if text}
        return rows
    except (ValueError, KeyError, TypeError, csv.Error):
        aside = Location(f"{place.uri}.damaged")
        place.move(aside)
        tell(f"{place.uri}: is no log of a training; it was moved to {aside.name}, and a new one is begun")
        return {}


class TensorBoardLog:
    """Event files of TensorBoard, tags `train/loss`, `validation/t2i R@1` and so on.

    On an object store they are written on this machine and copied there at the end; those of a
    process that was killed are lost.

    Args:
        directory: of the event files; several processes, one after the other, may write to it.
        step: where training goes on from; TensorBoard hides what was logged behind it.
    """

    def __init__(self, directory: Location, step: int) -> None:
        # It takes seconds, and only the first worker logs.
        from torch.utils.tensorboard import SummaryWriter

        self._directory = directory
        self._local = None if directory.is_local else tempfile.TemporaryDirectory()
        directory.make_directory()
        path = self._local.name if self._local else directory.uri
        self._writer: Any = SummaryWriter(path, purge_step=step + 1)

    def write(self, step: int, figures: Mapping[str, float], kind: Kind) -> None:
        """Add a point to each figure's curve."""
        for name, value in figures.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)

    def flush(self) -> None:
        """Bring what was written to the disk."""
        self._writer.flush()

    def close(self) -> None:
        """End the file, and copy it where it belongs."""
        self._writer.close()
        if self._local:
            for file in Path(self._local.name).iterdir():
                (self._directory / file.name).write_bytes(file.read_bytes())
            self._local.cleanup()
