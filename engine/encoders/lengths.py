"""Which texts are longer than a model reads, and so are cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from torch import Tensor

#: From texts and a length to (n,), bool: which have more tokens than that.
IsLonger: TypeAlias = Callable[[list[str], int], Tensor]
#: A token stands for at least a byte, but for the few that mark a text's start and end.
_MARKS = 4


def longer(texts: Sequence[str], most: int | None, is_longer: IsLonger) -> int:
    """How many texts are longer than `most` tokens; 0 where a model reads texts of any length.

    Only texts of more bytes than tokens that are read are looked at.
    """
    some = [text for text in texts if most and len(text.encode()) + _MARKS > most]
    return int(is_longer(some, most).sum()) if some and most else 0


def by_the_end(tokenize: Callable[[list[str], int], Tensor]) -> IsLonger:
    """For CLIP's way: padding behind a text, and an end token also where it is cut.

    With room for one token more, another one stands where the end was.

    Args:
        tokenize: from texts and a length to (n, length) tokens.
    """

    def is_longer(texts: list[str], most: int) -> Tensor:
        read, more = tokenize(texts, most), tokenize(texts, most + 1)
        return (more[:, :most] != read).any(dim=1)

    return is_longer


def by_the_mask(tokenizer: Any) -> IsLonger:
    """For tokenizers of transformers, which tell tokens from padding on whatever side."""

    def is_longer(texts: list[str], most: int) -> Tensor:
        made = tokenizer(
            texts,
            padding=True,
            truncation=True,
            max_length=most + 1,
            return_attention_mask=True,
            return_tensors="pt",
        )
        return made["attention_mask"].sum(dim=1) > most  # type: ignore[no-any-return]

    return is_longer
