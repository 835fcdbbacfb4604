"""The directory that an export writes: whole or not at all, and never over anything else."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa

from engine.errors import RecipeError, StorageError

#: Written last, into every export: what tells an export from any other directory.
MARKER = "_connote_export.json"


@dataclass
class Target:
    """An export while it is written.

    Attributes:
        work: where to write; becomes `final` when all is there.
        final: where the export will lie, for paths that files of it name.
        facts: what the marker tells beside the names of the files: settings, counts.
    """

    work: Path
    final: Path
    facts: dict[str, Any] = field(default_factory=dict)


@contextmanager
def writing(target: str) -> Iterator[Target]:
    """Write an export beside its place, and put it there at the end; replaces an earlier one.

    An earlier export stays whole until the new one is; a failure leaves nothing behind.

    Raises:
        RecipeError: the target is no local directory, or holds anything but an earlier export.
        StorageError: it cannot be written (disk full, no permission).
    """
    final = _checked(target)
    work = final.with_name(f".{final.name}.connote-partial")
    old = final.with_name(f".{final.name}.connote-old")
    try:
        for left_over in (work, old):
            shutil.rmtree(left_over, ignore_errors=True)
        work.mkdir(parents=True)
        place = Target(work, final)
        yield place
        names = sorted(path.name for path in work.iterdir())
        text = json.dumps({**place.facts, "files": names}, indent=1, ensure_ascii=False)
        (work / MARKER).write_text(text + "\n", encoding="utf-8")
        _swap(work, final, old)
    except (OSError, pa.ArrowException) as error:
        raise StorageError(
            f"{final}: cannot be written ({error}); name a directory with enough space that you may write to"
        ) from error
    finally:
        for left_over in (work, old):
            shutil.rmtree(left_over, ignore_errors=True)


def _swap(work: Path, final: Path, old: Path) -> None:
    if final.exists():
        final.rename(old)
    try:
        work.rename(final)
    except OSError:
        if old.exists():
            old.rename(final)
        raise


def _checked(target: str) -> Path:
    """The target's real path, if it may be written."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", target):
        raise RecipeError(f"{target}: exports are written to local directories; copy it there afterwards")
    if not target.strip():
        raise RecipeError("an empty path names no directory: name the directory to write the export to")
    final = Path(os.path.realpath(os.path.expanduser(target)))
    try:
        if not final.exists():
            return final
        if not final.is_dir():
            raise RecipeError(f"{final}: is a file; name a new directory for the export")
        _refuse_foreign(final, {path.name for path in final.iterdir()})
    except OSError as error:
        raise StorageError(f"{final}: cannot be read ({error}); name another directory") from error
    return final


def _refuse_foreign(final: Path, names: set[str]) -> None:
    if not names:
        return
    if MARKER not in names:
        raise RecipeError(
            f"{final}: holds files but no earlier export ({MARKER} is missing); name a new directory"
        )
    try:
        written = set(json.loads((final / MARKER).read_text(encoding="utf-8"))["files"])
    except (ValueError, KeyError, TypeError) as error:
        raise RecipeError(f"{final / MARKER}: is damaged; delete {final} or name a new directory") from error
    if added := sorted(names - written - {MARKER}):
        raise RecipeError(
            f"{final}: holds an earlier export and also {added[0]}, which is not of it and would be lost; "
            "move it away or name a new directory"
        )
