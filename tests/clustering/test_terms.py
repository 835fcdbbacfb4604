"""The words that tell a cluster from the others."""

from __future__ import annotations

import itertools
import math
from collections import Counter

import numpy as np
import pytest

from engine.clustering import terms
from engine.clustering.terms import merge, top_terms, words_of

Counts = dict[int, Counter[str]]


def _naive(counts: Counts, label: int) -> dict[str, float]:
    """Grootendorst 2022: W(x, c) = tf(x, c) * log(1 + A / f(x)), word by word."""
    average = sum(sum(words.values()) for words in counts.values()) / len(counts)
    weights = {}
    for word in counts[label]:
        everywhere = sum(words[word] for words in counts.values())
        share = counts[label][word] / sum(counts[label].values())
        weights[word] = share * math.log(1 + average / everywhere)
    return weights


def _random(seed: int, clusters: int = 7) -> Counts:
    rng = np.random.default_rng(seed)
    names = [f"w{i}" for i in range(60)]
    return {
        label: Counter(rng.choice(names, size=rng.integers(5, 300)).tolist()) for label in range(-1, clusters)
    }


@pytest.mark.parametrize("seed", range(5))
def test_as_the_formula_says(seed: int) -> None:
    counts = _random(seed)
    found = top_terms(counts, 12)
    assert set(found) == set(counts), "noise (-1) is a class as any other"
    for label, words in found.items():
        weights = _naive(counts, label)
        best = sorted((round(weights[word], 12) for word in weights), reverse=True)[:12]
        assert [round(weights[word], 12) for word in words] == best
        assert len(set(words)) == len(words) == min(12, len(weights))


def test_by_hand() -> None:
    counts = {0: Counter(dog=3, red=1), 1: Counter(cat=2, red=2)}
    # A = 4; dog 3/4 log(1 + 4/3) = 0.635, red 1/4 log(1 + 4/3) = 0.212; cat 1/2 log 3 = 0.549
    assert top_terms(counts, 5) == {0: ["dog", "red"], 1: ["cat", "red"]}
    # Common to all, it loses to the rarer word of a quarter of its count: 4 of 20 against 1.
    counts = {0: Counter(thing=4, kite=3), 1: Counter(thing=80)}
    assert top_terms(counts, 1) == {0: ["kite"], 1: ["thing"]}


def test_noise_counts_as_a_class() -> None:
    """What noise is full of names no cluster."""
    alone = {0: Counter(picture=5, kite=4), 1: Counter(boat=9)}
    assert top_terms(alone, 1)[0] == ["picture"]
    assert top_terms({**alone, -1: Counter(picture=500)}, 1)[0] == ["kite"]


def test_ties_go_by_the_alphabet() -> None:
    words = ["pear", "fig", "apple", "zucchini", "lime"]
    for order in itertools.permutations(words):
        assert top_terms({0: Counter(order)}, 3) == {0: ["apple", "fig", "lime"]}


def test_nothing_to_count() -> None:
    assert top_terms({}, 3) == {}
    assert top_terms({0: Counter()}, 3) == {0: []}
    assert top_terms({0: Counter(), 1: Counter(dog=1)}, 3) == {0: [], 1: ["dog"]}


def test_merged_in_any_order() -> None:
    pieces = [_random(seed, clusters=3 + seed) for seed in range(4)]
    whole: Counts = {}
    for piece in pieces:
        for label, words in piece.items():
            whole.setdefault(label, Counter()).update(words)
    for order in itertools.permutations(pieces):
        merged: Counts = {}
        for piece in order:
            merge(merged, piece)
        assert merged == whole
        assert top_terms(merged, 10) == top_terms(whole, 10)


def test_merging_leaves_what_is_merged_alone() -> None:
    piece = {0: Counter(dog=1)}
    merged: Counts = {}
    merge(merged, piece)
    merge(merged, {0: Counter(dog=4, cat=1)})
    assert piece == {0: Counter(dog=1)} and merged == {0: Counter(dog=5, cat=1)}


def test_trimming_keeps_the_most_common(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terms, "MOST_WORDS", 10)
    merged: Counts = {0: Counter({f"rare{i}": 1 for i in range(15)}), 1: Counter(few=1)}
    merge(merged, {0: Counter({f"common{i}": 2 + i for i in range(5)})})
    assert len(merged[0]) == 20, "up to twice as many are kept"
    merge(merged, {0: Counter(common0=1, another=1), 1: Counter(few=1)})
    assert len(merged[0]) == 10
    assert {f"common{i}" for i in range(5)} < set(merged[0])
    assert merged[0]["common0"] == 3 and merged[0]["common4"] == 6
    assert merged[1] == Counter(few=2)


def test_what_is_no_content_word() -> None:
    found = words_of(["The two dogs, the 3 dogs and a x", "A dog runs", ""])
    assert found["dog"] == 3
    assert not set(found) & {"the", "and", "a", "x", "3"}
    assert words_of([]) == Counter()
