"""Names of shards from several places: unique, and independent of where the places lie."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from engine.catalog.shard import Shard


def distinct(places: Sequence[Iterable[Shard]]) -> list[Shard]:
    """Join the shards of several places, each shard once and under a name of its own.

    Names are relative to a place's root. Those of every root but the first are extended by the
    root's last directories, so that a place added at the end of the list renames nothing.
    """
    by_root: dict[str, dict[str, Shard]] = {}
    seen: set[tuple[str, str]] = set()
    for shard in (shard for shards in places for shard in shards):
        # A file may be found by way of two roots; a shard of files is one by its root and name.
        identity = (shard.uri, shard.name if shard.format == "files" else "")
        if identity not in seen:
            seen.add(identity)
            by_root.setdefault(root_of(shard), {})[shard.name] = shard
    named: dict[str, Shard] = {}
    for root, shards in by_root.items():
        prefix = _prefix(root, shards, named) if named else ""
        named |= {prefix + name: replace(shard, name=prefix + name) for name, shard in shards.items()}
    return list(named.values())


def root_of(shard: Shard) -> str:
    """The URI that a shard's name is relative to, as long as the name is its first one."""
    return shard.uri if shard.format == "files" else shard.uri.removesuffix(f"/{shard.name}")


def space_of(shard: Shard) -> str:
    """What tells the files of one root from those of another: the prefix of the shard's name.

    A shard of files is named `[prefix/]directory/number`, and which number a file falls under
    must not decide the id of its sample.
    """
    return "/".join(shard.name.split("/")[:-2])


def _prefix(root: str, names: Iterable[str], taken: dict[str, Shard]) -> str:
    """The fewest last directories of the root that make all its names new."""
    prefix = ""
    for directory in reversed(root.split("/")):
        prefix = f"{directory}/{prefix}"
        if not any(prefix + name in taken for name in names):
            break
    return prefix
