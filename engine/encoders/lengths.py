"""Which texts are longer than a model reads, and so are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

from torch import Tensor

#: From texts and a length to (n, length) tokens: shorter texts padded, longer ones cut.
Tokenize: TypeAlias = Callable[[list[str], int], Tensor]
#: A token stands for at least a byte, but for the few that mark a text's start and end.
_MARKS = 4


def longer(texts: Sequence[str], most: int | None, tokenize: Tokenize) -> int:
    """How many texts are longer than `most` tokens; 0 where a model reads texts of any length.

    A text that is cut still ends with the end token, so with room for one token more another one
    stands in its place. Only texts of more bytes than tokens that are read are looked at.
    """
    if not most:
        return 0
    some = [text for text in texts if len(text.encode()) + _MARKS > most]
    if not some:
        return 0
    read, more = tokenize(some, most), tokenize(some, most + 1)
    return int((more[:, :most] != read).any(dim=1).sum())
