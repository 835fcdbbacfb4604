from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.errors import RecipeError
from engine.training import apart as apart_module
from engine.training.apart import apart
from engine.training.batches import Batches
from engine.training.order import Order, batch_count, check_order, epoch_batches
from engine.training.world import World

ORDERS: tuple[Order, ...] = ("shuffled", "balanced", "interleaved")
SHARES = (0.6, 0.4)


def epoch(
    image: Any, level: Any = None, order: Order = "shuffled", batch: int = 4, seed: int = 0, number: int = 0
) -> Batches:
    image = np.asarray(image, np.int32)
    level = np.zeros(len(image), np.int8) if level is None else np.asarray(level, np.int8)
    return epoch_batches(image, level, order, batch, SHARES, seed, number)


def rows(batches: Batches) -> list[list[int]]:
    return [found.tolist() for found, _ in batches]


def feasible(image: NDArray[Any], batch: int) -> bool:
    counts = np.unique(image, return_counts=True)[1]
    batches = -(-len(image) // batch)
    alone = batch > 1 and len(image) // batches < 2
    return len(counts) >= batch and bool(counts.max() <= batches) and not alone


@st.composite
def images_and_batch(draw: st.DrawFn) -> tuple[NDArray[np.int64], int]:
    """Captions' images in any order, with a batch size that goes with them."""
    counts = draw(st.lists(st.integers(1, 6), min_size=2, max_size=40))
    image = np.random.default_rng(draw(st.integers(0, 99))).permutation(
        np.repeat(np.arange(len(counts)), counts)
    )
    fitting = [batch for batch in range(1, len(counts) + 1) if feasible(image, batch)]
    return image, draw(st.sampled_from(fitting))


@given(images_and_batch(), st.integers(-5, 5), st.integers(0, 3))
@settings(max_examples=60)
def test_shuffled_has_every_caption_once_and_no_image_twice_in_a_batch(
    given_: tuple[NDArray[np.int64], int], seed: int, number: int
) -> None:
    image, batch = given_
    batches = epoch(image, None, "shuffled", batch, seed, number)
    found = rows(batches)
    assert len(found) == len(batches) == batch_count(len(image), "shuffled", batch) == -(-len(image) // batch)
    assert sorted(row for some in found for row in some) == list(range(len(image)))
    for some in found:
        assert len(set(image[some].tolist())) == len(some)
    sizes = {len(some) for some in found}
    assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    assert {weight for _, weight in batches} == {1.0}


@given(
    st.lists(st.tuples(st.integers(0, 7), st.integers(-1, 4)), min_size=1, max_size=80),
    st.integers(1, 30),
    st.sampled_from(ORDERS[1:]),
)
@settings(max_examples=60)
def test_other_orders_have_every_caption_once_in_each_stream(
    captions: list[tuple[int, int]], batch: int, order: Order
) -> None:
    image, level = zip(*captions, strict=True)
    batches = epoch(image, level, order, batch)
    streams = 2 if order == "interleaved" else 1
    assert len(batches) == batch_count(len(image), order, batch) == streams * -(-len(image) // batch)
    for stream in range(streams):
        of = rows(batches)[stream::streams]
        assert sorted(row for some in of for row in some) == list(range(len(image)))
        sizes = {len(some) for some in of}
        assert max(sizes) <= batch and max(sizes) - min(sizes) <= 1
    weights = [weight for _, weight in batches]
    assert weights == (list(SHARES) * (len(batches) // 2) if order == "interleaved" else [1.0] * len(batches))


@pytest.mark.parametrize("order", ORDERS)
def test_an_order_is_a_function_of_seed_and_epoch(order: Order) -> None:
    image, level = np.repeat(np.arange(40), 5), np.tile(np.arange(5), 40)

    def of(seed: int, number: int) -> list[list[int]]:
        return rows(epoch(image, level, order, 16, seed, number))

    assert of(3, 1) == of(3, 1)
    assert len({str(of(seed, number)) for seed in (-1, 0, 1) for number in (0, 1)}) == 6


def test_workers_share_a_batch_without_gap_or_overlap() -> None:
    batches = epoch(np.arange(23), None, "shuffled", 7)
    for found, _ in batches:
        for size in (1, 2, 3, 7, 9):
            parts = [found[World(rank, size).rows(len(found))] for rank in range(size)]
            assert np.concatenate(parts).tolist() == found.tolist()


@given(images_and_batch(), st.integers(0, 5))
@settings(max_examples=60)
def test_dealing_always_succeeds(given_: tuple[NDArray[np.int64], int], seed: int) -> None:
    image, batch = given_
    count = -(-len(image) // batch)
    stream = apart_module._dealt(image, count, np.random.default_rng(seed))
    assert sorted(stream.rows.tolist()) == list(range(len(image)))
    sizes = np.diff(stream.bounds)
    assert sizes.max() <= batch and sizes.max() - sizes.min() <= 1
    for begin, end in pairwise(stream.bounds.tolist()):
        some = image[stream.rows[begin:end]]
        assert len(set(some.tolist())) == len(some)


def test_mending_ends_and_dealing_takes_over_where_nothing_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every batch must hold every image but one: random swaps hardly ever fit.
    image, dealt = np.repeat(np.arange(60), 20), list[int]()
    original = apart_module._dealt
    monkeypatch.setattr(apart_module, "_dealt", lambda *given: (dealt.append(1), original(*given))[1])
    stream = apart(image, 21, np.random.default_rng(0))
    assert dealt and all(
        len(np.unique(image[stream.rows[begin:end]])) == end - begin
        for begin, end in pairwise(stream.bounds.tolist())
    )


def test_mending_alone_does_where_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(apart_module, "_dealt", None)
    image = np.repeat(np.arange(1000), 20)
    for found, _ in epoch(image, None, "shuffled", 128):
        assert len(np.unique(image[found])) == len(found)


def test_a_shuffled_order_is_shuffled() -> None:
    """Each pair of images meets about as often as any other, over many epochs."""
    image, met = np.repeat(np.arange(8), 2), Counter[tuple[int, int]]()
    for number in range(300):
        for found, _ in epoch(image, None, "shuffled", 4, 0, number):
            own = sorted(image[found].tolist())
            met.update((a, b) for a in own for b in own if a < b)
    # 4 batches of 6 pairs in each of 300 epochs, over 28 pairs of images.
    assert len(met) == 28
    assert all(abs(count - 7200 / 28) < 70 for count in met.values())


def test_balanced_takes_one_caption_of_each_level_per_image_and_pass() -> None:
    # Image 0 has two captions of level 0 and one of level 1, image 1 three of level 0, image 2 one of 4.
    image = np.array([0, 0, 0, 1, 1, 1, 2])
    level = np.array([0, 0, 1, 0, 0, 0, 4])
    first_pass = {(0, 0), (0, 1), (1, 0), (2, 4)}
    for number in range(20):
        found = rows(epoch(image, level, "balanced", 4, number=number))
        assert sorted(len(some) for some in found) == [3, 4]
        # The smaller batch is the first: three of the four captions of the first pass.
        (smaller,) = [some for some in found if len(some) == 3]
        kinds = {(int(image[row]), int(level[row])) for row in smaller}
        assert len(kinds) == 3 and kinds < first_pass


def test_balanced_batches_hold_all_levels_of_an_image_side_by_side() -> None:
    images = 50
    image, level = np.repeat(np.arange(images), 10), np.tile(np.arange(5), 2 * images)
    batches = epoch(image, level, "balanced", 25)
    for found, _ in batches:
        kinds = Counter(zip(image[found].tolist(), level[found].tolist(), strict=True))
        assert max(kinds.values()) == 1
        assert len(set(image[found].tolist())) == 5, "25 captions are five images with five levels each"
    # Batches are shuffled: in the order of passes, the first half would have every image once.
    halves: Counter[int] = Counter(image[np.concatenate([found for found, _ in batches][:10])].tolist())
    assert len(halves) < images
    inside = [image[found].tolist() for found, _ in batches]
    assert any(sorted(some) != some and sorted(some)[::-1] != some for some in inside)


def test_balanced_brings_the_captions_that_an_image_came_with_together() -> None:
    """Five of each image, and two of one level: so that `multi_positive` has positives."""
    image = np.repeat(np.arange(40), 7)
    level = np.tile([-1, -1, -1, -1, -1, 2, 2], 40)
    for batch in rows(epoch(image, level, "balanced", 28)):
        kinds = Counter((int(image[row]), int(level[row])) for row in batch)
        originals = [count for (_, of), count in kinds.items() if of < 0]
        # At a batch's ends an image may be cut in two.
        assert sum(count < 5 for count in originals) <= 2, kinds


def test_interleaved_alternates_plain_and_balanced_batches() -> None:
    image, level = np.repeat(np.arange(50), 10), np.tile(np.arange(5), 100)
    batches = list(epoch(image, level, "interleaved", 25))
    assert [weight for _, weight in batches] == [0.6, 0.4] * 20
    assert all(len(np.unique(image[found])) == 5 for found, _ in batches[1::2])
    assert sum(len(np.unique(image[found])) for found, _ in batches[::2]) > 20 * 15


def test_an_image_may_not_have_more_captions_than_there_are_batches() -> None:
    image = np.concatenate([np.arange(1, 91), np.zeros(10, np.int64)])
    with pytest.raises(RecipeError, match=r"finetune\.batch is 20, .* 5 batches .* 10 captions.*at most 11"):
        check_order(image, "shuffled", 20)
    check_order(image, "shuffled", 11)
    with pytest.raises(RecipeError, match="at most 11"):
        check_order(image, "shuffled", 12)
    for order in ORDERS[1:]:
        check_order(image, order, 20)
    with pytest.raises(RecipeError, match=r"10 captions, of which no two may be in one batch: take fewer"):
        check_order(np.concatenate([np.zeros(10, np.int64), [1, 2]]), "shuffled", 2)


def test_no_batch_is_a_single_caption() -> None:
    for order in ORDERS:
        check_order(np.arange(8), order, 2)
        with pytest.raises(RecipeError, match=r"batch is 2, and there are 7 captions: .* take 3$"):
            check_order(np.arange(7), order, 2)
    with pytest.raises(RecipeError, match=r"mine or name more images$"):
        check_order(np.array([0, 0, 1]), "shuffled", 2)


def test_a_batch_larger_than_the_data() -> None:
    with pytest.raises(
        RecipeError, match=r"batch is 512, and there are 300 images .*twice: lower it to at most 300$"
    ):
        check_order(np.repeat(np.arange(300), 4), "shuffled", 512)
    for order in ORDERS[1:]:
        with pytest.raises(RecipeError, match=r"there are 300 captions of 1 image: lower it to at most 300$"):
            check_order(np.zeros(300, np.int32), order, 512)
    # What is named can be taken: it is not lowered step by step.
    with pytest.raises(
        RecipeError, match=r"there are 300 captions of 75 images, .*: lower it to at most 75$"
    ):
        check_order(np.repeat(np.arange(75), 4), "shuffled", 512)
    check_order(np.repeat(np.arange(75), 4), "shuffled", 75)
    with pytest.raises(RecipeError, match=r"there are 300 captions of 1 image, .*: mine or name more images"):
        check_order(np.zeros(300, np.int32), "shuffled", 512)
    check_order(np.arange(512), "shuffled", 512)


@pytest.mark.parametrize("order", ORDERS)
def test_boundaries(order: Order) -> None:
    assert len(epoch([], [], order)) == 0 and list(epoch([], [], order)) == []
    for found, _ in epoch([0], [3], order, 1):
        assert found.tolist() == [0]
    batches = epoch(np.arange(10), None, order, 4)
    for index in (-1, len(batches)):
        with pytest.raises(IndexError):
            batches[index]


def test_many_captions_of_many_images_are_ordered_in_little_time() -> None:
    image, level = (
        np.repeat(np.arange(10_000, dtype=np.int32), 10),
        np.tile(np.arange(5, dtype=np.int8), 20_000),
    )
    for order in ORDERS:
        batches = epoch_batches(image, level, order, 512, SHARES, 1, 0)
        for found, _ in batches if order == "shuffled" else ():
            assert len(np.unique(image[found])) == len(found)
