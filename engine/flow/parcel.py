"""A part as Ray carries it: one row, whatever it holds.

Ray Data cuts blocks that grow beyond a size and joins small ones. A block of one row it can
neither cut nor, with a target size of one byte, join to another: so one part stays one block.
"""

from __future__ import annotations

import pyarrow as pa

from engine.flow.report import PartReport


def pack(report: PartReport, table: pa.Table | None = None) -> pa.Table:
    """One row: the report, and the part's table in Arrow's stream format (null after the last pool)."""
    data = None
    if table is not None:
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, table.schema) as writer:
            writer.write_table(table)
        data = sink.getvalue()
    return pa.table({"report": [report.to_json()], "part": pa.array([data], pa.large_binary())})


def unpack(block: pa.Table) -> tuple[PartReport, pa.Table]:
    """The report and the part's table; its columns share the block's memory."""
    report = PartReport.from_json(block["report"][0].as_py())
    with pa.ipc.open_stream(block["part"][0].as_buffer()) as reader:
        return report, reader.read_all()
