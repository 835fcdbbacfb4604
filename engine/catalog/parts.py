"""The plan: consecutive samples of one shard, as many as a part may hold."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.catalog.tables import Catalogued, read_sizes
from engine.schema import PLAN
from engine.storage import Location, digest_of

_THREADS = 16


def plan_parts(catalog: Location, shards: Iterable[Catalogued], part_rows: int, part_bytes: int) -> pa.Table:
    """Cut every shard into parts; reads the sizes of the catalog only.

    The plan depends on the shards' names and contents and on the two limits, and on nothing
    else: not on the order of `shards`, the number of workers, or where the data lies.

    Args:
        catalog: the directory of the catalog tables.
        shards: the shards to plan.
        part_rows: the most samples in a part.
        part_bytes: the most image bytes in a part; a larger sample is a part of its own.

    Returns:
        The plan (schema PLAN), ordered by shard name and row.

    Raises:
        StorageError: a catalog table cannot be read.
    """
    ordered = sorted(shards, key=lambda shard: shard.name)
    columns: dict[str, list[pa.Array]] = {name: [] for name in PLAN.names}
    with ThreadPoolExecutor(_THREADS) as threads:
        for shard, sizes in zip(ordered, threads.map(lambda s: _sizes(catalog, s), ordered), strict=True):
            for name, values in _plan_shard(shard, sizes, part_rows, part_bytes):
                columns[name].append(values)
    return pa.table(
        [pa.chunked_array(columns[field.name], field.type).combine_chunks() for field in PLAN], schema=PLAN
    )


def slice_rows(sizes: npt.NDArray[np.int64], part_rows: int, part_bytes: int) -> npt.NDArray[np.int64]:
    """Where parts start, and the end: shape (parts + 1,), as many rows each as the limits allow.

    Args:
        sizes: bytes of each row's image, shape (rows,).
        part_rows: the most rows of a part.
        part_bytes: the most bytes of a part, unless it has one row.
    """
    total = np.concatenate([[0], np.cumsum(sizes)])
    bounds = [0]
    while (start := bounds[-1]) < len(sizes):
        fits = int(np.searchsorted(total, total[start] + part_bytes, side="right")) - 1
        bounds.append(min(max(fits, start + 1), start + part_rows, len(sizes)))
    return np.asarray(bounds, dtype=np.int64)


def _sizes(catalog: Location, shard: Catalogued) -> npt.NDArray[np.int64]:
    sizes: npt.NDArray[np.int64] = read_sizes(catalog / shard.file).to_numpy()
    return sizes


def _plan_shard(
    shard: Catalogued, sizes: npt.NDArray[np.int64], part_rows: int, part_bytes: int
) -> Iterator[tuple[str, pa.Array]]:
    """The plan's columns for one shard."""
    bounds = slice_rows(sizes, part_rows, part_bytes)
    starts, rows = bounds[:-1], np.diff(bounds)
    total = np.concatenate([[0], np.cumsum(sizes)])
    names = [part_name(shard, int(start), int(n)) for start, n in zip(starts, rows, strict=True)]
    yield "part", pa.array(names, pa.string())
    yield "catalog", pa.array([shard.file] * len(starts), pa.string())
    yield "start", pa.array(starts)
    yield "rows", pa.array(rows)
    yield "bytes", pa.array(np.diff(total[bounds]))


def part_name(shard: Catalogued, start: int, rows: int) -> str:
    """The id of a part: a function of the shard's name, its content, and the slice."""
    return f"part-{start:06d}-{digest_of(shard.name, shard.digest, str(start), str(rows))}"
