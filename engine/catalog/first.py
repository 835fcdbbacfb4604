"""One file that stands for a source: whoever can read it can most likely read them all."""

from __future__ import annotations

import pyarrow as pa

from engine.catalog.anywhere import locate_image
from engine.catalog.read import read_catalog
from engine.catalog.shard import Shard
from engine.storage import Location


def first_file(shard: Shard) -> Location:
    """The shard's file, or the first of its files that was there when it was listed."""
    there = next((file for file in shard.files if file.size >= 0), None)
    return locate_image(shard.uri, there.path) if there else Location(shard.uri)


def first_planned(catalog: Location, plan: pa.Table) -> Location | None:
    """The file that the first sample of a plan (schema PLAN) lies in; None if there is no sample.

    Raises:
        StorageError: the catalog cannot be read.
    """
    if not len(plan):
        return None
    row = plan.slice(0, 1).to_pylist()[0]
    header, table = read_catalog(catalog / row["catalog"], row["start"], 1)
    return Location(table["uri"][0].as_py() if header.format == "files" else header.uri)
