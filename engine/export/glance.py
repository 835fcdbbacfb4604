"""A glance at a run: a few samples with all that was mined from them, as text for a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from textwrap import wrap
from typing import Any

from engine.export.mined import MinedRun, MinedSample, SampleReader, open_run
from engine.rundir import RunDirectory
from engine.schema import LEVELS

WIDTH = 100
#: Captions that an image came with, as many as one of MS-COCO has.
_ORIGINALS = 5


def sample_lines(run: RunDirectory, count: int) -> list[str]:
    """A few samples from all over the run: description, associations, captions.

    The same samples at every call; those with errors are passed over.

    Raises:
        StorageError: this is no run directory, or a table cannot be read.
        RecipeError: see `open_run`.
    """
    mined = open_run(run)
    lines = [line for sample in _picked(mined, count) for line in [*_sample(sample), ""]]
    return lines or [f"{run.root.uri}: no sample has been mined without an error yet; see connote status"]


def _picked(mined: MinedRun, count: int) -> Iterator[MinedSample]:
    """Good samples of parts that lie evenly over the plan, one a part if there are parts enough."""
    reader, total = SampleReader(mined), len(mined.plan)
    step = max(total // count, 1)
    order = [index for first in range(step) for index in range(first, total, step)]
    share, left = -(-count // max(total, 1)), count
    for index in order:
        samples = reader.part(mined.plan.slice(index, 1).to_pylist()[0])
        good = [sample for sample in samples if not sample.why_not(*mined.fingerprints)]
        chosen = good[: min(share, left)]
        left -= len(chosen)
        yield from chosen
        if not left:
            return


def _sample(sample: MinedSample) -> Iterator[str]:
    yield plain(sample.key)
    shown, more = sample.captions[:_ORIGINALS], len(sample.captions) - _ORIGINALS
    for number, caption in enumerate([*shown, f"and {more:,} more"] if more > 0 else shown):
        yield from _row(("" if number else "  original", caption), (13, WIDTH - 14))
    if sample.description:
        yield from _row(("  description", sample.description), (13, WIDTH - 14))
    for item in sample.elements or ():
        yield f"  {plain(item['element'])}" + (f" ({plain(item['pos'])})" if item["pos"] else "")
        for level in LEVELS:
            written = [c for c in sample.creative_captions or () if _belongs(c, item["element"], level)]
            captions = [_caption(caption) for caption in written] or [""]
            words = ", ".join(item[level] or ())
            for first, caption in enumerate(captions):
                cells = (f"    {level}", words, caption) if not first else ("", "", caption)
                yield from _row(cells, (13, 34, WIDTH - 49))


def _belongs(caption: Mapping[str, Any], element: str, level: str) -> bool:
    return bool(caption["element"] == element and caption["level"] == level)


def _caption(item: Mapping[str, Any]) -> str:
    return (item["caption"] or "-") + (f" [{item['flag']}]" if item["flag"] else "")


def _row(cells: Sequence[str], widths: Sequence[int]) -> Iterator[str]:
    """Cells side by side, each wrapped to its width."""
    columns = [
        [cell] if index == 0 else wrap(plain(cell), width)
        for index, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    for line in zip_longest(*columns, fillvalue=""):
        yield " ".join(f"{c:<{w}}" for c, w in zip(line, widths, strict=True)).rstrip()


def plain(text: str) -> str:
    """The text without what a terminal would act on (escapes, line ends, changes of direction)."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
