"""What a division came to, as Markdown: thresholds, shares, and how much depends on who votes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from engine.difficulty.tables import Division
from engine.difficulty.voting import CATEGORIES

_READING: Final = (
    "Each voter accepts a caption for its image where their cosine reaches its threshold, which was chosen "
    "on calibration pairs: in each batch an image and its own caption match, and all others do not. "
    "Precision and recall are of these pairs, at the threshold; but for Youden's J a threshold depends on "
    "the batch size. None of these: captions of another level, that failed a check, or without a vector."
)


def division_page(
    divisions: Sequence[Division], thresholds: Sequence[Mapping[str, Any]], rule: str, picture: str
) -> str:
    """The page of a run's divisions.

    Args:
        divisions: made to their end.
        thresholds: of each voter; see `engine.difficulty.calibration.read_threshold`.
        rule: of the votes, in words.
        picture: name of the figure's file beside the page.
    """
    noted = [division.noted() for division in divisions]
    parts = ["# Caption difficulty", _READING, f"![Shares by kind of captions]({picture})"]
    parts += ["## Shares", f"Rule: {rule}.", "\n".join(_shares(noted))]
    parts += ["## Voters", "\n".join(_voters(noted, thresholds))]
    names = [each["voter"] for each in thresholds]
    parts += ["## Who votes", "\n".join(_robustness(noted, names))]
    return "\n\n".join(parts) + "\n"


def _shares(noted: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    yield from _head("captions", "pairs", *CATEGORIES, "none of these")
    for about in noted:
        shares = (f"{about['shares'][name]:.1%} ({about['counts'][name]:,})" for name in CATEGORIES)
        yield _line(about["captions"], f"{about['pairs']:,}", *shares, f"{about['without']:,}")


def _voters(noted: Sequence[Mapping[str, Any]], thresholds: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    kinds = [about["captions"] for about in noted]
    yield from _head(
        "voter", "threshold", "rule", "precision", "recall", "batch", *(f"accepts of {k}" for k in kinds)
    )
    for number, each in enumerate(thresholds):
        accepts = (f"{about['accepts'][number]:.1%}" for about in noted)
        shares = (f"{each['precision']:.1%}", f"{each['recall']:.1%}", f"{each['batch']:,}")
        yield _line(each["voter"], f"{each['value']:.4f}", each["rule"], *shares, *accepts)


def _robustness(noted: Sequence[Mapping[str, Any]], voters: Sequence[str]) -> Iterator[str]:
    """Kappa between divisions by drawn voters, and between that of all and that of all but one."""
    yield from _head("captions", "drawn", "kappa", "linear kappa", "least kappa without one voter")
    for about in noted:
        found = about["robustness"]
        kappas = zip(voters, found["kappa_without"], strict=True)
        without = {voter: value for voter, value in kappas if value is not None}
        least = min(without, key=lambda voter: without[voter]) if without else None
        told = "-" if least is None else f"{without[least]:.3f} ({least})"
        drawn = f"{found['draw']} voters, {len(found['drawn'])} times"
        yield _line(about["captions"], drawn, _range(found["kappa"]), _range(found["linear_kappa"]), told)


def _range(values: Sequence[float | None]) -> str:
    there = [value for value in values if value is not None]
    return f"{np.mean(there):.3f} ({min(there):.3f} to {max(there):.3f})" if there else "-"


def _head(*names: str) -> Iterator[str]:
    yield _line(*names)
    yield f"|{'---|' * len(names)}"


def _line(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
