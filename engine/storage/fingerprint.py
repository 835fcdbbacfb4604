"""Digests that name what decides an output: settings, contents, models."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from engine.errors import RecipeError

#: 64 bits: among the 400,000 parts of 100 million samples, two share a name with
#: probability 4e-9.
DIGEST_BYTES = 8
_CHUNK = 8 * 2**20


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
    """What decides a model's output: for a directory its files' contents, else name and commit.

    A hub name's commit is looked up in the local cache, so a run that resumes offline agrees
    with one that downloaded the model; without a cached copy the name and `revision` stand.

    Raises:
        RecipeError: `model` looks like a path but is no directory.
    """
    path = Path(model).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        with ThreadPoolExecutor(8) as threads:
            digests = threads.map(digest_file, files)
            return digest_of(*(text for f, d in zip(files, digests, strict=True) for text in (f.name, d)))
    if model.startswith((".", "/", "~")) or model.count("/") > 1:
        raise RecipeError(
            f"model {model}: no such directory; name a directory with config.json and *.safetensors, "
            "or a hub name such as Qwen/Qwen3-VL-8B-Instruct"
        )
    return digest_of(model, revision or "", _cached_commit(model, revision) or "")


def _cached_commit(model: str, revision: str | None) -> str | None:
    from huggingface_hub import scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    try:
        repositories = scan_cache_dir().repos
    except CacheNotFound:
        return None
    for repository in repositories:
        if repository.repo_id == model:
            commits = {ref: r.commit_hash for r in repository.revisions for ref in (*r.refs, r.commit_hash)}
            return commits.get(revision or "main")
    return None
