"""The probability that an answer begins with a word, from the log-probabilities of its first token.

VQAScore (Lin et al. 2024; METHODS B9) is that of "Yes". A vocabulary has several tokens that read as one
word, such as "Yes", " yes" and "YES"; they are disjoint events, and all of them count.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any, Final

from engine.recipe import Sampling

#: How such a request is answered, whatever its own sampling: one token, the distribution as the model
#: gives it, neither sharpened by a temperature nor cut by top_p.
ONE_TOKEN: Final = Sampling(temperature=1, top_p=1, max_tokens=1)

#: How far off a probability may be, at most, of a word that a list of the most probable tokens lacks.
_DOUBT: Final = 0.01
#: So many tokens of such a word are reckoned with: with a capital or without, after a space or not.
_SPELLINGS: Final = 4

NOT_TOLD: Final = "no log-probabilities in the answer; use a server and a model that give them"


def reads_as(token: str, word: str) -> bool:
    """Whether a token's text is the word: white space around it and case do not count."""
    return token.strip().casefold() == word.strip().casefold()


def tokens_of(word: str, tokenizer: Any, size: int) -> tuple[int, ...]:
    """The tokens that read as the word, ascending; empty where none does.

    Args:
        word: one word.
        tokenizer: with `get_vocab`, `decode` and `all_special_ids`, as those of transformers.
        size: of the model's vocabulary; tokens beyond it have no probability.
    """
    special = set(tokenizer.all_special_ids)
    numbers = {number for number in tokenizer.get_vocab().values() if number < size} - special
    return tuple(number for number in sorted(numbers) if reads_as(tokenizer.decode([number]), word))


def sum_of(logs: Iterable[float]) -> float:
    """The probability that one of several tokens comes, from their log-probabilities; nan if one is."""
    total = sum(math.exp(log) for log in logs)
    return min(total, 1.0) if math.isfinite(total) else math.nan


def from_list(word: str, tokens: Sequence[tuple[str, float]]) -> tuple[float | None, str | None]:
    """The probability of the word by a list of the most probable tokens, and why there is none.

    Where the list has tokens of the word, they are summed; others of it are rarer than all that is listed.
    Where it has none, the word is not impossible but rare: each of its tokens is at most as probable as
    the rarest one in the list, and together they are at most what the list leaves. The probability is then
    half of that bound, and so off by no more than itself; a list by which that may be more than 0.01
    tells nothing. Nor does one of a model that begins with a mark, as those do that think aloud first.

    Args:
        word: one word.
        tokens: the text and the log-probability of each.
    """
    known = [(token, math.exp(min(log, 0.0))) for token, log in tokens if not math.isnan(log)]
    if not known:
        return None, NOT_TOLD
    if found := [share for token, share in known if reads_as(token, word)]:
        return min(sum(found), 1.0), None
    first = max(known, key=lambda pair: pair[1])[0]
    if first.lstrip().startswith("<"):
        # The answer comes behind what the model thinks, and nothing is known of it.
        return None, f"the model begins with '{first.strip()}' and not with an answer; turn its thinking off"
    rest = max(1 - sum(share for _, share in known), 0.0)
    half = min(rest, _SPELLINGS * min(share for _, share in known)) / 2
    if half > _DOUBT:
        return None, f"'{word}' is not among the log-probabilities of the answer, which end too early to tell"
    return half, None
