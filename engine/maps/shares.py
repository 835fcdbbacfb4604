"""Shares of easy, medium and hard captions as pies, one for each kind of captions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray

from engine.difficulty.voting import CATEGORIES
from engine.maps.picture import encode_png
from engine.maps.points import one_line

_DPI: Final = 160
#: Of one pie, inches; and how many stand in a row.
_SIDE, _ROW = 2.6, 4
#: From light to dark, so that the order is read without the colours.
_COLOURS: Final = ("#a8d5a2", "#f2c14e", "#b5473c")
#: Narrower pieces have no room for their share.
_NARROW: Final = 0.04


def draw_shares(names: Sequence[str], shares: NDArray[np.float64], title: str) -> bytes:
    """Draw a pie for each row.

    Args:
        names: of the rows.
        shares: (n, 3), of easy, medium and hard; a row of zeros or nan has no pie.
        title: one line, plain text.

    Returns:
        A PNG; the same arguments give the same bytes.

    Raises:
        ValueError: there is no row, or names and shares differ in number.
    """
    if not len(names) or np.shape(shares) != (len(names), len(CATEGORIES)):
        raise ValueError(f"{len(names)} names for shares {np.shape(shares)}; they are (n, {len(CATEGORIES)})")
    columns = min(len(names), _ROW)
    rows = -(-len(names) // columns)
    size = (max(columns, 2) * _SIDE, rows * _SIDE + 0.9)
    figure = Figure(figsize=size, dpi=_DPI, facecolor="white", layout="constrained")
    figure.suptitle(one_line(title, 60), fontsize=13, weight="bold", parse_math=False)
    for number, (name, share) in enumerate(zip(names, shares, strict=True)):
        axes = figure.add_subplot(rows, columns, number + 1)
        axes.set_title(one_line(name, 28), fontsize=11, parse_math=False)
        if np.nansum(share) > 0:
            told = [f"{100 * each:.0f} %" if each >= _NARROW else "" for each in share]
            axes.pie(
                share, labels=told, labeldistance=0.55, colors=_COLOURS, startangle=90, counterclock=False
            )
        else:
            axes.axis("off")
    lines = [Line2D([], [], color=each, marker="o", markersize=8, linestyle="") for each in _COLOURS]
    figure.legend(lines, CATEGORIES, loc="outside lower center", ncols=len(CATEGORIES), frameon=False)
    return encode_png(figure)
