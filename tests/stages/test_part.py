import asyncio
import io
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from engine.decoding import Look
from engine.generation.prompts import parse_prompt
from engine.generation.protocol import Request
from engine.recipe import Describe
from engine.schema import CATALOG
from engine.stages import Part, Tally
from engine.stages.describe import DescribeStage
from tests.stages.answers import Answers

STAGE = DescribeStage(
    Describe(generator="g", attempts=1),
    parse_prompt("describe", "--- user ---\n$image", set(), True),
    0,
    Look(10**8, at_most=16),
    "f",
)


def png(side: int = 32) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (side, side), (200, 10, 10)).save(sink, "PNG")
    return sink.getvalue()


def part(images: list[bytes | None], errors: list[str | None] | None = None) -> Part:
    rows = [
        {"id": f"i{i}", "key": f"k{i}", "uri": "u", "offset": 0, "size": 1, "captions": ["c"], "extra": None}
        for i in range(len(images))
    ]
    table = pa.Table.from_pylist(rows, schema=CATALOG)
    table = table.set_column(
        table.column_names.index("error"), "error", pa.array(errors or [None] * len(images), pa.string())
    )
    return Part.of("part-0", table.append_column("image", pa.array(images, pa.large_binary())))


def run(part: Part, answer: Any = lambda request: "a red square", before: pa.Table | None = None) -> pa.Table:
    async def generator() -> Answers:
        return Answers(answer)

    with ThreadPoolExecutor(2) as threads:
        return asyncio.run(part.run(STAGE, generator, threads, Tally(), before))


def test_bad_rows_keep_their_place_and_reason() -> None:
    table = run(part([png(), b"not an image", png(), None], [None, None, "no image in the sample", None]))
    assert table.schema == STAGE.schema
    assert table["key"].to_pylist() == ["k0", "k1", "k2", "k3"]
    assert table["description"].to_pylist() == ["a red square", None, None, None]
    errors = table["error"].to_pylist()
    assert errors[0] is None and errors[2] == "no image in the sample"
    assert errors[1] and errors[3]


def test_pictures_are_scaled_down() -> None:
    seen: list[tuple[int, int]] = []

    def answer(request: Request) -> str:
        seen.append(request.pictures[0].image.size)
        return "x"

    run(part([png(64), png(4)]), answer)
    assert seen == [(16, 16), (4, 4)]


def test_only_error_rows_are_computed_again() -> None:
    asked: list[str] = []

    def answer(request: Request) -> str:
        asked.append(request.pictures[0].id)
        return "better"

    first = run(part([png(), b"broken", png()]))
    again = run(part([png(), png(), png()]), answer, before=first)
    assert asked == ["i1"]
    assert again["description"].to_pylist() == ["a red square", "better", "a red square"]
    assert again["error"].null_count == 3


def needing(*needs: str) -> Any:
    """A stage that needs others."""
    return SimpleNamespace(needs=needs)


def test_later_stages_see_what_failed() -> None:
    it = part([png(), b"broken"])
    it.attach(STAGE, run(it))
    later = needing("describe")
    assert [it.why_not(later, row) for row in (0, 1)] == [None, "skipped: describe failed"]
    assert [it.why_not(STAGE, row) for row in (0, 1)] == [None, None], "a stage that does not need it goes on"
    assert it.rows[0]["description"] == "a red square"
    onward = it.to_table([STAGE], images=True)
    back = Part.of("part-0", onward)
    assert (back.rows, back.errors, back.failed, back.images) == (it.rows, it.errors, it.failed, it.images)
    assert "image" not in it.to_table([STAGE], images=False).column_names


def test_a_part_of_bad_rows_asks_nothing() -> None:
    def answer(request: Request) -> str:
        pytest.fail("asked")

    table = run(part([None, None], ["gone", "gone"]), answer)
    assert table["error"].to_pylist() == ["gone", "gone"]


def test_a_retry_asks_with_other_seeds_each_time() -> None:
    seeds: list[int] = []

    def answer(request: Request) -> str:
        seeds.append(request.seed)
        return ""

    first = run(part([png()]), answer)
    second = run(part([png()]), answer, before=first)
    third = run(part([png()]), answer, before=second)
    assert third["error"].to_pylist() == ["empty description"]
    assert len(seeds) == 3 == len(set(seeds))
    assert run(part([png()]), answer, before=first).equals(second) and seeds[3] == seeds[1]
