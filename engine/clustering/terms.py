"""The words that tell a cluster from the others: class-based TF-IDF of its captions."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping

from engine.stages.words import is_function_word, lemma, tokens

#: Words kept for a cluster while counts are merged; the rarest fall out.
MOST_WORDS = 20_000


def words_of(captions: Iterable[str]) -> Counter[str]:
    """Content words in their dictionary form, counted; single letters and numbers are left out."""
    counts: Counter[str] = Counter()
    for caption in captions:
        for token in tokens(caption):
            if len(token) > 1 and not token.isdigit() and not is_function_word(token):
                counts[lemma(token)] += 1
    return counts


def merge(into: dict[int, Counter[str]], counts: Mapping[int, Counter[str]]) -> None:
    """Add counts by cluster to those there are."""
    for label, words in counts.items():
        known = into.setdefault(label, Counter())
        known.update(words)
        if len(known) > 2 * MOST_WORDS:
            into[label] = Counter(dict(known.most_common(MOST_WORDS)))


def top_terms(counts: Mapping[int, Counter[str]], number: int) -> dict[int, list[str]]:
    """The terms of each cluster by falling weight.

    The weight of term x in cluster c is tf(x, c) * log(1 + A / f(x)): tf is its share of the
    cluster's words, f its count in all clusters, A the mean number of words in a cluster
    (Grootendorst 2022, class-based TF-IDF). Equal weights go by the alphabet.

    Args:
        counts: words by cluster; noise is a class as any other.
        number: how many terms.
    """
    total: Counter[str] = Counter()
    for words in counts.values():
        total.update(words)
    average = sum(total.values()) / max(len(counts), 1)
    found = {}
    for label, words in counts.items():
        size = sum(words.values()) or 1
        weights = {word: n / size * math.log1p(average / total[word]) for word, n in words.items()}
        found[label] = sorted(weights, key=lambda word: (-weights[word], word))[:number]
    return found
