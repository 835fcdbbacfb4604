"""The probability of a first word: by the tokens that read as it, and by lists that may lack it."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.generation.first_word import NOT_TOLD, from_list, reads_as, sum_of, tokens_of
from engine.terrarium.tokens import build_tokenizer

SPELLINGS = ("Yes", " yes", "YES", "yes")


def test_space_and_case_make_no_other_word() -> None:
    assert all(reads_as(token, "Yes") for token in (*SPELLINGS, "yes\n"))
    assert not any(reads_as(token, "Yes") for token in ("No", "Yesterday", "Ye", "Yes.", "", " "))


def test_the_tokens_of_a_real_vocabulary() -> None:
    tokenizer = build_tokenizer()
    vocabulary = tokenizer.get_vocab()
    found = tokens_of("Boat", tokenizer, len(vocabulary))
    assert found == tuple(sorted((vocabulary["boat"], vocabulary["Ġboat"])))
    assert tokens_of("boat", tokenizer, found[1]) == found[:1], "beyond the model's own vocabulary"
    assert tokens_of("nowhere", tokenizer, len(vocabulary)) == ()
    assert tokens_of("<end>", tokenizer, len(vocabulary)) == (), "the end of an answer is no word of it"


def test_sums() -> None:
    assert sum_of([math.log(0.25), math.log(0.5), -math.inf]) == pytest.approx(0.75)
    assert sum_of([1e-9, -50]) == 1
    assert math.isnan(sum_of([math.nan, 0]))


@given(
    st.lists(st.floats(0.01, 100), min_size=1, max_size=len(SPELLINGS)),
    st.lists(st.floats(0.01, 100), min_size=1, max_size=40),
    st.integers(1, 20),
)
def test_what_a_list_tells_is_no_further_off_than_said(
    own: list[float], others: list[float], size: int
) -> None:
    weights = dict(zip(SPELLINGS, own, strict=False)) | {f"w{n}": w for n, w in enumerate(others)}
    total = sum(weights.values())
    shares = sorted(((token, w / total) for token, w in weights.items()), key=lambda each: -each[1])
    real = sum(share for token, share in shares if token in SPELLINGS)
    top = shares[:size]
    value, reason = from_list("Yes", [(token, math.log(share)) for token, share in top])
    rest = 1 - sum(share for _, share in top)
    if any(token in SPELLINGS for token, _ in top):
        assert value is not None and reason is None
        assert value <= real + 1e-9 and real - value <= min(rest, 3 * top[-1][1]) + 1e-9
    elif value is None:
        assert reason is not None and "end too early" in reason
        assert min(rest, 4 * top[-1][1]) > 0.02
    else:
        assert 0 <= value <= 0.01 and abs(real - value) <= value + 1e-9


def test_lists_that_tell_nothing() -> None:
    assert from_list("Yes", []) == (None, NOT_TOLD)
    assert from_list("Yes", [("Yes", math.nan)]) == (None, NOT_TOLD)
    assert from_list("Yes", [("No", 0.1), ("Yes", -math.inf)]) == (0, None)


def test_a_model_that_thinks_first_has_not_answered() -> None:
    value, reason = from_list("Yes", [("<think>", 0.0), ("Hmm", -20.0)])
    assert value is None and reason is not None and "'<think>'" in reason
    # A model that merely could begin so has.
    assert from_list("Yes", [("No", math.log(0.9)), ("<think>", math.log(0.1)), ("x", -30.0)])[1] is None
