"""Digests that name what decides an output: settings, contents, models."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from engine.errors import RecipeError

#: 64 bits: among the 400,000 parts of 100 million samples, two share a name with
#: probability 4e-9.
DIGEST_BYTES = 8
_CHUNK = 8 * 2**20
_HUB_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*/[A-Za-z0-9_.-]+")


def digest_of(*texts: str | bytes) -> str:
    """Hex digest of a sequence of texts; ("ab", "c") and ("a", "bc") differ."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    for text in texts:
        # Names of files need not be valid UTF-8.
        data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
        hasher.update(len(data).to_bytes(8, "little"))
        hasher.update(data)
    return hasher.hexdigest()


def digest_settings(settings: Mapping[str, Any]) -> str:
    """Hex digest of nested settings, whatever the order of their keys."""
    return digest_of(json.dumps(settings, sort_keys=True, ensure_ascii=False))


def digest_file(path: Path) -> str:
    """Hex digest of a local file's content."""
    hasher = hashlib.blake2b(digest_size=DIGEST_BYTES)
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return hasher.hexdigest()


def model_digest(model: str, revision: str | None = None) -> str:
    """What decides a model's output: a directory's files, or a hub name and its revision.

    Of a directory the relative paths and contents count, without hidden files and folders and
    `*.md`, which differ between copies of one model. A hub name is never resolved, so the digest
    is the same with and without a cached copy, online and offline; a new upstream commit is
    noticed only where `revision` is pinned to it (none means `main`).

    Raises:
        RecipeError: `model` is neither a directory nor a hub name.
    """
    # An empty name would be the working directory.
    if model and (path := Path(model).expanduser()).is_dir():
        return _directory_digest(path.resolve())
    _check_hub_name(model)
    return digest_of(model, revision or "main")


def _directory_digest(root: Path) -> str:
    files = {
        file.relative_to(root).as_posix(): file
        for file in root.rglob("*")
        if _counts(file.relative_to(root)) and file.is_file()
    }
    names = sorted(files)
    with ThreadPoolExecutor(8) as threads:
        digests = threads.map(digest_once, (files[name] for name in names))
        return digest_of(*(text for pair in zip(names, digests, strict=True) for text in pair))


def _counts(path: Path) -> bool:
    """Whether a file of a model, named relative to its directory, can decide its output."""
    return path.suffix.lower() != ".md" and not any(part.startswith(".") for part in path.parts)


def digest_once(file: Path) -> str:
    """Hex digest of a file's content, read once by a process while its size and time stay."""
    stat = file.stat()
    return _digest_version(file, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_version(file: Path, size: int, mtime_ns: int) -> str:
    """Weights take minutes to read, and one process may ask for them more than once."""
    return digest_file(file)


def _check_hub_name(model: str) -> None:
    """Refuse what is no ORG/NAME, or looks like a directory that is not there."""
    hub = "or a hub name such as Qwen/Qwen3-VL-8B-Instruct"
    if model and "/" not in model and not model.startswith((".", "~")):
        close = get_close_matches(model.lower(), ["terrarium"], n=1)
        meant = f"did you mean {close[0]}? Else " if close else ""
        raise RecipeError(f"model {model}: no such directory or model; {meant}name a directory, {hub}")
    if not _HUB_NAME.fullmatch(model):
        raise RecipeError(
            f"model {model}: no such directory; name a directory with config.json and *.safetensors, {hub}"
        )
    folder = model.partition("/")[0]
    if Path(folder).is_dir():
        raise RecipeError(
            f"model {model}: no such directory in {folder}/, which exists here, so this is not taken for a "
            f"hub name; correct the name, {hub} where no directory here is called like its organisation"
        )
