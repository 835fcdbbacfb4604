"""One checkpoint on a filesystem: written so that it is whole or not there, read so that it is right.

step-00001234/ holds weights.safetensors, state.safetensors and state.json and, written last,
checkpoint.json with their sizes and digests. Only where that is there and right is there a
checkpoint, so that nothing has to be renamed, which object stores cannot do.
"""

from __future__ import annotations

import errno
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from engine.errors import StorageError
from engine.storage import Location, digest_of
from engine.storage.location import explained
from engine.training.model_directory import WHOLE
from engine.training.tensors import flatten, pack, take, unflatten, unpack

WEIGHTS, STATE, PLAIN = "weights.safetensors", "state.safetensors", "state.json"
_CONTENTS = (WEIGHTS, STATE, PLAIN)

#: A step that is saved again while its checkpoint stands gets a directory of its own: the old one
#: may be the only one. Step, then which copy of it.
_NAME = re.compile(r"step-(\d{8,18})(?:-(\d{1,9}))?")


class BrokenCheckpoint(Exception):
    """A checkpoint is not what its writer wrote; the text names it and says what is wrong."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A whole checkpoint, in memory.

    Attributes:
        directory: where it lies.
        step: of the training.
        score: on validation data, higher is better; None where it was not measured.
        weights: the trained parameters by name, on the processor.
        state: everything else, as it was given; its tensors on the processor.
    """

    directory: Location
    step: int
    score: float | None
    weights: dict[str, Tensor]
    state: dict[str, Any]

    def read(self, device: torch.device) -> tuple[dict[str, Tensor], dict[str, Any]]:
        """The weights on a device, and the state, of which `load_state_dict` moves what has to be there."""
        return {name: value.to(device) for name, value in self.weights.items()}, self.state

    def load_into(self, parameters: Mapping[str, Tensor]) -> None:
        """Overwrite the parameters, on whatever device.

        Raises:
            StorageError: it lacks some, or has others or other shapes; nothing has been changed.
        """
        take(parameters, self.weights, self.directory.uri)


def directory_name(step: int, copy: int = 0) -> str:
    """The name of the directory of a step's checkpoint, or of a later copy of it."""
    return f"step-{step:08d}" + (f"-{copy}" if copy else "")


def order(name: str) -> tuple[int, int]:
    """Step and copy of a directory that `listed` found: the newer, the greater."""
    step, copy = cast("re.Match[str]", _NAME.fullmatch(name)).groups()
    return int(step), int(copy or 0)


def listed(directory: Location) -> dict[str, bool]:
    """The directories of checkpoints, and whether each says that it is whole."""
    root = directory.resolve()[1].rstrip("/")
    found: dict[str, bool] = {}
    for info in directory.entries(recursive=True):
        name, _, inside = info.path.removeprefix(f"{root}/").partition("/")
        if _NAME.fullmatch(name) and (inside or not info.is_file):
            found[name] = found.get(name, False) or inside == WHOLE
    return found


def contents(weights: Mapping[str, Tensor], state: Mapping[str, Any]) -> dict[str, memoryview]:
    """A copy of everything, as the bytes of a checkpoint's files.

    Raises:
        TypeError: the state holds what cannot be kept.
    """
    tensors, plain = flatten(dict(state))
    text = json.dumps(plain, allow_nan=False).encode()
    return {WEIGHTS: pack(weights), STATE: pack(tensors), PLAIN: memoryview(text)}


def write(place: Location, step: int, files: Mapping[str, memoryview], score: float | None) -> None:
    """Write a checkpoint.

    Raises:
        StorageError: it cannot be written; what was written of it is removed if that can be.
    """
    try:
        for name, data in files.items():
            (place / name).write_bytes(data)
        told = {name: {"bytes": data.nbytes, "digest": _digest(data)} for name, data in files.items()}
        text = json.dumps({"step": step, "score": score, "files": told}, indent=1)
        (place / WHOLE).write_bytes(text.encode())
    except Exception as error:
        # A full disk needs the room; what cannot be removed is no checkpoint, and goes next time.
        with suppress(StorageError):
            remove(place)
        if isinstance(error, StorageError):
            raise
        raise StorageError(
            f"{place.uri}: cannot be written ({type(error).__name__}: {error}); those before it are kept"
        ) from error


def remove(place: Location) -> None:
    """Remove a checkpoint; first what makes it one, so that a crash in between leaves none with gaps."""
    (place / WHOLE).delete()
    fs, path = place.resolve()
    with explained(place):
        fs.delete_dir(path)


def described(place: Location) -> dict[str, Any]:
    """What checkpoint.json says: `step`, `score`, and the `bytes` and `digest` of each of the `files`.

    Raises:
        BrokenCheckpoint: it is missing, or says something else.
        StorageError: the storage fails.
    """
    text = _content(place / WHOLE)
    try:
        told = json.loads(text)
        whole = (
            told["step"] == order(place.name)[0]
            and (told["score"] is None or math.isfinite(told["score"]))
            and all({"bytes", "digest"} <= told["files"][name].keys() for name in _CONTENTS)
        )
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        whole = False
    if not whole:
        raise BrokenCheckpoint(f"{place.uri}/{WHOLE} does not describe this checkpoint")
    return cast("dict[str, Any]", told)


def read(place: Location) -> Checkpoint:
    """Read a checkpoint and compare it with its digests.

    Raises:
        BrokenCheckpoint: a file is missing, or is not what was written.
        StorageError: the storage fails.
    """
    told, found = described(place), dict[str, bytes]()
    for name in _CONTENTS:
        data, wanted = _content(place / name), told["files"][name]
        if len(data) != wanted["bytes"]:
            raise BrokenCheckpoint(f"{place.uri}/{name} has {len(data)} bytes instead of {wanted['bytes']}")
        if _digest(data) != wanted["digest"]:
            raise BrokenCheckpoint(f"{place.uri}/{name} has other bytes than were written")
        found[name] = data
    try:
        state = unflatten(unpack(found[STATE]), json.loads(found[PLAIN]))
        return Checkpoint(place, told["step"], told["score"], unpack(found[WEIGHTS]), state)
    except (ValueError, LookupError, TypeError, RecursionError) as error:
        raise BrokenCheckpoint(f"{place.uri} cannot be understood ({error})") from error


def _content(place: Location) -> bytes:
    """A file's bytes. That storage fails as a whole is no fault of a checkpoint's, and is raised."""
    try:
        return place.read_bytes()
    except StorageError as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise BrokenCheckpoint(f"{place.uri} is missing") from error
        if getattr(error.__cause__, "errno", None) == errno.EIO:
            raise BrokenCheckpoint(f"{place.uri} cannot be read from its disk") from error
        raise


def _digest(data: bytes | memoryview) -> str:
    # The buffer itself is hashed: weights need not be copied for it.
    return digest_of(cast(bytes, data))
