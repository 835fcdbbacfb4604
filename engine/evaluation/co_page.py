"""Co-captions in the page of an evaluation: a table of all encoders on each set, and the pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from engine.evaluation.co_figures import BINS
from engine.maps.densities import Densities, draw_densities

_READING: Final = (
    "How similar two captions of one image are: the cosine of their vectors, or BERTScore F1. The less "
    "similar, the more the images mean. The mean is over pairs, with the 95 % interval over draws of images "
    "in brackets; similarities by one encoder say nothing about those by another."
)
_HEAD: Final = (
    "set",
    "encoder",
    "mean",
    "sd",
    "first quartile",
    "median",
    "third quartile",
    "pairs",
    "images",
)
#: Bins of a picture, of those that hold any pair; at most.
_DRAWN: Final = 60


def co_captions_section(rows: Sequence[Mapping[str, Any]], pictures: Sequence[str]) -> str:
    """The section in Markdown.

    Args:
        rows: schema CO_CAPTIONS.
        pictures: names of the files beside the page.
    """
    table = [f"| {' | '.join(_HEAD)} |", f"|{'---|' * len(_HEAD)}", *map(_line, rows)]
    parts = ["# Co-captions", _READING, "\n".join(table), *_empty(rows)]
    if pictures:
        parts.append(" ".join(f"![Similarity of co-captions]({name})" for name in pictures))
    return "\n\n".join(parts) + "\n"


def _line(row: Mapping[str, Any]) -> str:
    cells = [row["set"], row["encoder"].replace("|", "\\|")]
    if row["pairs"]:
        mean, low, high, *rest = (
            f"{row[name]:.4f}" for name in ("mean", "low", "high", "sd", "quartile_1", "median", "quartile_3")
        )
        cells += [f"{mean} [{low}, {high}]", *rest]
    else:
        cells += ["-"] * 5
    cells += [f"{row[name]:,}" for name in ("pairs", "images")]
    return f"| {' | '.join(cells)} |"


def _empty(rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for name in dict.fromkeys(row["set"] for row in rows):
        if without := [row["encoder"] for row in rows if row["set"] == name and not row["pairs"]]:
            yield (
                f"In {name} no image has two captions that {', '.join(f'`{each}`' for each in without)} can "
                "compare, so there is no similarity to tell."
            )


def co_captions_picture(title: str, rows: Sequence[Mapping[str, Any]]) -> bytes | None:
    """A panel for each encoder with the density of each set; None if there is no pair.

    Args:
        title: one line.
        rows: schema ANSWER, with their names.
    """
    there = [row for row in rows if row["pairs"]]
    panels = []
    for encoder in dict.fromkeys(row["encoder"] for row in there):
        some = {row["set"]: np.array(row["counts"]) for row in there if row["encoder"] == encoder}
        full = np.flatnonzero(np.sum(list(some.values()), axis=0))
        low, step = int(full[0]), -(-int(full[-1] - full[0] + 1) // _DRAWN)
        places = np.arange(low, int(full[-1]) + step + 1, step)  # the last lies behind the last pair
        counts = {name: np.add.reduceat(each, places[:-1]) for name, each in some.items()}
        panels.append(Densities(encoder, places * 2 / BINS - 1, counts, "similarity"))
    return draw_densities(panels, title) if panels else None
