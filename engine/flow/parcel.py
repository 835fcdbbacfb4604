"""A part as Ray carries it: one row, whatever it holds.

Ray Data cuts blocks that grow beyond a size and joins small ones. A block of one row it can
neither cut nor, with a target size of one byte, join to another: so one part stays one block.
"""

from __future__ import annotations

import pyarrow as pa

from engine.flow.report import PartReport


def pack(report: PartReport, table: pa.Table | None = None) -> pa.Table:
    """One row: the report, and the part's rows as a list (null after the last pool); copies nothing."""
    data = pa.nulls(1) if table is None else _one_value(table)
    return pa.table({"report": [report.to_json()], "part": data})


def _one_value(table: pa.Table) -> pa.Array:
    rows = table.to_struct_array()
    whole = rows.chunk(0) if rows.num_chunks == 1 else rows.combine_chunks()
    return pa.LargeListArray.from_arrays(pa.array([0, len(whole)], pa.int64()), whole)


def unpack(block: pa.Table) -> tuple[PartReport, pa.Table]:
    """The report and the part's table; its columns share the block's memory."""
    report = PartReport.from_json(block["report"][0].as_py())
    return report, pa.Table.from_struct_array(block["part"][0].values)
