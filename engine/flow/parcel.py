"""A part as Ray carries it: one row, whatever it holds.

Ray Data cuts blocks that grow beyond a size and joins small ones. A block of one row it can
neither cut nor, with a target size of one byte, join to another: so one part stays one block.
"""

from __future__ import annotations

import struct

import pyarrow as pa

from engine.flow.report import PartReport


def pack(report: PartReport, table: pa.Table | None = None) -> pa.Table:
    """One row: the report, and the part's table in Arrow's stream format (null after the last pool)."""
    data = pa.nulls(1, pa.large_binary()) if table is None else _one_value(table)
    return pa.table({"report": [report.to_json()], "part": data})


def _one_value(table: pa.Table) -> pa.Array:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data = sink.getvalue()
    offsets = pa.py_buffer(struct.pack("<qq", 0, data.size))
    return pa.Array.from_buffers(pa.large_binary(), 1, [None, offsets, data])


def unpack(block: pa.Table) -> tuple[PartReport, pa.Table]:
    """The report and the part's table; its columns share the block's memory."""
    report = PartReport.from_json(block["report"][0].as_py())
    with pa.ipc.open_stream(block["part"][0].as_buffer()) as reader:
        return report, reader.read_all()
