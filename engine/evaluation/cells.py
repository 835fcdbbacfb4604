"""Figures as cells of tables in Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

#: Figures that are not shown as percent: places in a ranking, a cosine, and a score as the paper prints it.
_PLAIN: Final = ("meanR", "medR", "best meanR", "best medR", "CLIPScore", "VQAScore")


def cell(row: Mapping[str, Any] | None, figure: str) -> str:
    """A figure with its interval; shares as percent.

    Args:
        row: of schema FIGURES; None where there is none.
        figure: which.
    """
    if row is None or row["value"] is None:
        return "-"
    if row["low"] is None and row["high"] is None:
        return f"{row['value']:,.4g}" if figure in _PLAIN else f"{100 * row['value']:.1f}"
    if figure in _PLAIN:
        return f"{row['value']:,.4g} [{_end(row['low'], 1)}, {_end(row['high'], 1)}]"
    return f"{100 * row['value']:.1f} [{_end(row['low'], 100)}, {_end(row['high'], 100)}]"


def _end(value: float | None, times: int) -> str:
    if value is None:
        return "-"
    return f"{times * value:.1f}" if times > 1 else f"{value:,.4g}"


def table_lines(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    """The lines of a table; names in head and cells may hold anything."""
    yield _line(head)
    yield f"|{'---|' * len(head)}"
    for line in lines:
        yield _line(line)


def _line(texts: Sequence[str]) -> str:
    return f"| {' | '.join(' '.join(text.split()).replace('|', chr(92) + '|') for text in texts)} |"
