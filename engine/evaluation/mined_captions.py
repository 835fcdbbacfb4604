"""The mined captions of one part, and which of them count in a set."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.errors import StorageError
from engine.schema import CAPTION
from engine.storage import StageTables


def mined_captions(
    tables: StageTables, part: str, level: str | None, rows: int | None = None
) -> tuple[pa.ListArray, pa.StructArray, NDArray[np.bool_]]:
    """Of a part.

    Args:
        tables: of the stage `caption`.
        part: its name.
        level: of `LEVELS`; None for all.
        rows: how many samples it has to have; None for any number.

    Returns:
        The list of each sample; the items of all of them, schema CAPTION_ITEM; and (c,), which of these
        passed their checks and are of the level.

    Raises:
        StorageError: the table is not there, or is not what its fingerprint says.
    """
    table = tables.read(part, CAPTION, rows, ["creative_captions"])
    if table is None:
        raise StorageError(f"{tables.table(part).uri}: is not there; run the recipe to its end")
    lists = table["creative_captions"].combine_chunks()
    lists = lists.combine_chunks() if isinstance(lists, pa.ChunkedArray) else lists
    items = lists.flatten()
    good = items.field("flag").is_null().to_numpy(zero_copy_only=False)
    if level is not None:
        good = good & (np.array(items.field("level").to_pylist(), object) == level)
    return lists, items, np.asarray(good)
