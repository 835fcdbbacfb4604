"""Categories of pairs, whose names travel with their codes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from engine.difficulty.voting import CATEGORIES
from engine.errors import RecipeError

#: Each has figures, and intervals, of its own.
MAX_CATEGORIES: Final = 100


@dataclass(frozen=True)
class Categories:
    """The category of each pair.

    Attributes:
        codes: (p,), int8, places in `names`; -1 for none.
        names: of the categories, each once.
    """

    codes: NDArray[np.int8]
    names: tuple[str, ...] = ()

    @classmethod
    def of(cls, labels: Sequence[str | None]) -> Categories:
        """From the label of each pair, None for none: easy, medium and hard, then the others by the alphabet.

        Raises:
            RecipeError: there are more than `MAX_CATEGORIES`, or a label means something else in the tables.
        """
        names = _ordered({label for label in labels if label is not None})
        number: dict[str | None, int] = {name: code for code, name in enumerate(names)}
        return cls(np.array([number.get(label, -1) for label in labels], np.int8), names)

    @classmethod
    def joined(cls, pieces: Sequence[Categories]) -> Categories:
        """Those of several parts, one after the other; see `of`."""
        names = _ordered({name for piece in pieces for name in piece.names})
        numbers = [np.array([*(names.index(name) for name in piece.names), -1], np.int8) for piece in pieces]
        # The code -1 is the last place of the numbers.
        codes = [number[piece.codes] for number, piece in zip(numbers, pieces, strict=True)]
        return cls(np.concatenate([np.empty(0, np.int8), *codes]), names)

    def some(self, rows: NDArray[Any]) -> Categories:
        """Those of some pairs."""
        return replace(self, codes=self.codes[rows])

    def rows(self) -> dict[str, NDArray[np.bool_]]:
        """(p,) by name: which pairs are of each; empty where no pair is of any."""
        if not (self.codes >= 0).any():
            return {}
        return {name: self.codes == code for code, name in enumerate(self.names)}


def _ordered(names: set[str]) -> tuple[str, ...]:
    # Late, since they import torch, and status does not compute.
    from engine.evaluation.similarities import OTHERS
    from engine.retrieval.figures import ALL

    if len(names) > MAX_CATEGORIES:
        raise RecipeError(
            f"evaluate.sets, categories: {len(names):,} different labels, such as {min(names)!r} and "
            f"{max(names)!r}; each has figures of its own, and {MAX_CATEGORIES} are the most: name a field "
            "of categories"
        )
    if taken := names & {ALL, OTHERS}:
        raise RecipeError(
            f"evaluate.sets, categories: the label {min(taken)!r} has a meaning of its own in the tables; "
            "give that category another name"
        )
    return (*(name for name in CATEGORIES if name in names), *sorted(names - {*CATEGORIES}))
