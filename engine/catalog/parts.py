"""The plan: consecutive samples of one shard, as many as a part may hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.catalog.tables import Catalogued, read_sizes
from engine.schema import PLAN
from engine.storage import Location, digest_of
from engine.storage.many import each_of

_LIMITS = b"limits"


def plan_parts(
    catalog: Location,
    shards: Iterable[Catalogued],
    part_rows: int,
    part_bytes: int,
    kept: pa.Table | None = None,
) -> pa.Table:
    """Cut every shard into parts; reads the sizes of the catalog only.

    The plan depends on the shards' names and contents and on the two limits, and on nothing
    else: not on the order of `shards`, the number of workers, or where the data lies.

    Args:
        catalog: the directory of the catalog tables.
        shards: the shards to plan.
        part_rows: the most samples in a part.
        part_bytes: the most image bytes in a part; a larger sample is a part of its own.
        kept: an earlier plan. Of shards that are the same, nothing is read.

    Returns:
        The plan (schema PLAN), ordered by shard name and row. Its metadata names the limits.

    Raises:
        StorageError: a catalog table cannot be read.
    """
    ordered = sorted(shards, key=lambda shard: shard.name)
    schema = PLAN.with_metadata({_LIMITS: f"{part_rows} {part_bytes}".encode()})
    parts = {} if kept is None else _kept_parts(kept, ordered, schema)
    new = [shard for shard in ordered if shard.file not in parts]
    cut = partial(_cut, catalog, part_rows, part_bytes)
    parts |= {shard.file: made for shard, made in zip(new, each_of(cut, new), strict=True)}
    tables = [parts[shard.file].replace_schema_metadata(schema.metadata) for shard in ordered]
    return pa.concat_tables([schema.empty_table(), *tables]).combine_chunks()


def _kept_parts(kept: pa.Table, shards: Sequence[Catalogued], schema: pa.Schema) -> dict[str, pa.Table]:
    """What a kept plan says of those shards that are still the same, by catalog table.

    The name of a shard's first part tells its content, and that tells how it was cut within these limits.
    """
    if not kept.schema.equals(schema, check_metadata=True) or not len(kept):
        return {}
    runs = pc.run_end_encode(kept["catalog"].combine_chunks())
    spans = dict(zip(runs.values.to_pylist(), pairwise([0, *runs.run_ends.to_pylist()]), strict=True))
    starts, rows = kept["start"].to_numpy(), kept["rows"].to_numpy()
    found = {}
    for shard in shards:
        begin, end = spans.get(shard.file, (0, 0))
        if begin == end or starts[end - 1] + rows[end - 1] != shard.rows:
            continue
        if kept["part"][begin].as_py() == part_name(shard, 0, int(rows[begin])):
            found[shard.file] = kept.slice(begin, end - begin)
    return found


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


def _cut(catalog: Location, part_rows: int, part_bytes: int, shard: Catalogued) -> pa.Table:
    """The plan of one shard. Its rows' sizes are dropped here: those of all shards would be a gigabyte."""
    sizes = read_sizes(catalog / shard.file).to_numpy()
    bounds = slice_rows(sizes, part_rows, part_bytes)
    starts, rows = bounds[:-1], np.diff(bounds)
    total = np.concatenate([[0], np.cumsum(sizes)])
    names = [part_name(shard, start, n) for start, n in zip(starts.tolist(), rows.tolist(), strict=True)]
    columns = [names, [shard.file] * len(names), starts, rows, np.diff(total[bounds])]
    arrays = [pa.array(values, field.type) for values, field in zip(columns, PLAN, strict=True)]
    return pa.table(arrays, schema=PLAN)


def part_name(shard: Catalogued, start: int, rows: int) -> str:
    """The id of a part: a function of the shard's name, its content, and the slice."""
    return f"part-{start:06d}-{digest_of(shard.name, shard.digest, str(start), str(rows))}"
