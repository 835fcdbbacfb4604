"""Words: cleaning what a model wrote, and telling whether two words are forms of one."""

from __future__ import annotations

import re
from functools import lru_cache

import simplemma

_TOKEN = re.compile(r"[^\W_]+(?:['’-][^\W_]+)*")


def clean(word: str) -> str:
    """A word or short phrase in lower case, without surrounding punctuation or extra spaces.

    Control characters, which grammars of constrained JSON let through, count as spaces.
    """
    if not word.isprintable():
        word = "".join(c if c.isprintable() else " " for c in word)
    return " ".join(word.split()).strip(" .,;:!?\"'`*()[]").casefold()


def tokens(text: str) -> list[str]:
    """The words of a text in lower case; hyphens and apostrophes stay inside a word."""
    return _TOKEN.findall(text.casefold())


@lru_cache(maxsize=100_000)
def lemma(word: str) -> str:
    """The dictionary form of an English word ('foxes' -> 'fox')."""
    return str(simplemma.lemmatize(word, lang="en")).casefold()


def repeats(phrase: str, original: str) -> bool:
    """Whether the phrase contains the original word or a form of it (METHODS A2: never)."""
    if phrase == original:
        return True
    forms = _forms(original)
    return any(lemma(token) in forms for token in tokens(phrase))


@lru_cache(maxsize=100_000)
def _forms(phrase: str) -> frozenset[str]:
    """The dictionary forms of a phrase's content words."""
    return frozenset(lemma(token) for token in tokens(phrase)) - _FUNCTION_WORDS


def contains(text: str, phrase: str) -> bool:
    """Whether the phrase stands in the text as whole words, whatever the case."""
    wanted, words = tokens(phrase), tokens(text)
    if not wanted:
        return False
    return any(words[i : i + len(wanted)] == wanted for i in range(len(words) - len(wanted) + 1))


def is_function_word(word: str) -> bool:
    """Whether the word belongs to the closed classes: articles, pronouns, prepositions, ..."""
    return word in _FUNCTION_WORDS


_FUNCTION_WORDS = frozenset(
    """a an the this that these those each every either neither some any no none all both few many much more
    most other another such same own several enough
    i me my mine myself you your yours yourself he him his himself she her hers herself it its itself we us
    our ours ourselves they them their theirs themselves who whom whose which what one ones someone something
    anyone anything everyone everything nobody nothing
    and or but nor so yet if because although though while whereas unless until since as than whether
    of in on at by for with about against between into through during before after above below to from up
    down out off over under near beside besides behind beyond along across around among amid toward towards
    onto upon within without per via inside outside beneath next
    is am are was were be been being do does did doing done have has had having will would shall should may
    might must can could ought
    not very too also just only even still again ever never always often there here then now when where why
    how well quite rather almost already once
    """.split()
)
