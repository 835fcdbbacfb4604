"""Ranks by blocks against whole sorted rows and columns."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from engine.retrieval.ranks import Matches, Ranks, matching_scores, ranks
from engine.retrieval.similarity import Similarity

torch.set_num_threads(1)


def of(matrix: Tensor) -> Similarity:
    return lambda rows, columns: matrix[rows, columns]


def pairs(matching: NDArray[np.bool_]) -> Matches:
    images, texts = np.nonzero(matching)
    return Matches(images.astype(np.int64), texts.astype(np.int64))


def sorted_ranks(matrix: NDArray[np.floating], matches: Matches) -> NDArray[np.int64]:
    """By sorting each row: the nearest first, of equal ones what does not match, then by number."""
    own = set(zip(matches.images.tolist(), matches.texts.tolist(), strict=True))
    found = []
    for image, text in zip(matches.images.tolist(), matches.texts.tolist(), strict=True):
        keys = [(-float(score), (image, number) in own, number) for number, score in enumerate(matrix[image])]
        found.append(1 + sorted(keys).index(keys[text]))
    return np.array(found, np.int64)


def check(matrix: Tensor, matches: Matches, block: tuple[int, int]) -> Ranks:
    found = ranks(of(matrix), matches, *matrix.shape, block=block)
    dense = matrix.double().numpy()
    np.testing.assert_array_equal(found.image_to_text, sorted_ranks(dense, matches))
    turned = Matches(matches.texts, matches.images)
    np.testing.assert_array_equal(found.text_to_image, sorted_ranks(dense.T, turned))
    return found


@settings(max_examples=60)
@given(st.data())
def test_ranks_are_those_of_sorting(data: st.DataObject) -> None:
    images, texts = data.draw(st.integers(1, 9)), data.draw(st.integers(1, 12))
    block = data.draw(st.tuples(st.integers(1, 10), st.integers(1, 13)))
    values = st.sampled_from([-np.inf, -1.0, -0.0, 0.0, 0.5, 1.0, np.inf])
    cells = data.draw(st.lists(values, min_size=images * texts, max_size=images * texts))
    marks = data.draw(st.lists(st.booleans(), min_size=images * texts, max_size=images * texts))
    matrix = torch.tensor(cells, dtype=torch.float32).reshape(images, texts)
    check(matrix, pairs(np.array(marks).reshape(images, texts)), block)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("block", [(5, 11), (64, 64), (1000, 1000)])
def test_five_texts_of_each_image(dtype: torch.dtype, block: tuple[int, int]) -> None:
    matrix = torch.randn(20, 100, generator=torch.Generator().manual_seed(1)).to(dtype)
    owners = np.repeat(np.arange(20), 5)[np.random.default_rng(0).permutation(100)]
    check(matrix, Matches(owners.astype(np.int64), np.arange(100)), block)


def test_every_pair_matches() -> None:
    found = check(torch.randn(6, 5), pairs(np.ones((6, 5), np.bool_)), (4, 2))
    assert sorted(found.image_to_text.tolist()) == sorted(list(range(1, 6)) * 6)


def test_what_cannot_tell_gets_no_credit() -> None:
    matching = np.zeros((3, 8), np.bool_)
    matching[1, [0, 4]] = True
    found = check(torch.zeros(3, 8), pairs(matching), (2, 3))
    assert found.image_to_text.tolist() == [7, 8]
    assert found.text_to_image.tolist() == [3, 3]


def test_pairs_may_be_named_in_any_order() -> None:
    rng = np.random.default_rng(3)
    matrix = torch.from_numpy(rng.integers(0, 4, (9, 14)).astype(np.float32))
    matches = pairs(rng.random((9, 14)) < 0.3)
    order = rng.permutation(len(matches.images))
    first = ranks(of(matrix), matches, 9, 14, (4, 4))
    again = ranks(of(matrix), Matches(matches.images[order], matches.texts[order]), 9, 14, (4, 4))
    np.testing.assert_array_equal(first.image_to_text[order], again.image_to_text)
    np.testing.assert_array_equal(first.text_to_image[order], again.text_to_image)


def test_the_order_of_the_gallery_does_not_matter() -> None:
    rng = np.random.default_rng(4)
    matrix, matching = rng.integers(0, 3, (8, 20)).astype(np.float32), rng.random((8, 20)) < 0.3
    order = rng.permutation(20)
    first = ranks(of(torch.from_numpy(matrix)), pairs(matching), 8, 20)
    moved = ranks(of(torch.from_numpy(matrix[:, order].copy())), pairs(matching[:, order]), 8, 20)
    for image in range(8):
        own = first.image_to_text[pairs(matching).images == image]
        other = moved.image_to_text[pairs(matching[:, order]).images == image]
        assert sorted(own.tolist()) == sorted(other.tolist())


def test_only_blocks_are_asked_for_and_those_with_matches_twice() -> None:
    matrix, asked = torch.randn(10, 40), list[tuple[int, int]]()

    def similarity(rows: slice, columns: slice) -> Tensor:
        asked.append((rows.start, columns.start))
        assert rows.stop - rows.start <= 5 and columns.stop - columns.start <= 10
        return matrix[rows, columns]

    matches = Matches(np.repeat(np.arange(10), 4), np.arange(40))
    ranks(similarity, matches, 10, 40, (5, 10))
    assert len(asked) == 2 * 4 + 4 and len(set(asked)) == 8


def test_a_similarity_that_no_product_gives() -> None:
    sets, words = torch.randn(12, 3, 4), torch.randn(12, 2, 4)

    def chamfer(rows: slice, columns: slice) -> Tensor:
        return torch.einsum("akd,bld->abkl", sets[rows], words[columns]).amax(dim=(2, 3))

    whole = chamfer(slice(0, 12), slice(0, 12))
    matches = Matches(np.arange(12), np.arange(12))
    found = ranks(chamfer, matches, 12, 12, (5, 12))
    np.testing.assert_array_equal(found.image_to_text, sorted_ranks(whole.numpy(), matches))


def test_a_whole_run_against_torchs_sort() -> None:
    generator = torch.Generator().manual_seed(2)
    images, texts = (torch.randn(n, 16, generator=generator, dtype=torch.float64) for n in (300, 1500))
    owners = torch.arange(1500) // 5
    found = ranks(
        lambda rows, columns: images[rows] @ texts[columns].T,
        Matches(owners.numpy(), np.arange(1500)),
        300,
        1500,
        (128, 256),
    )
    order = (images @ texts.T).argsort(dim=1, descending=True)
    places = torch.empty_like(order).scatter_(1, order, torch.arange(1500).expand(300, -1))
    expected = places[owners, torch.arange(1500)] + 1
    np.testing.assert_array_equal(found.image_to_text, expected.numpy())


def test_nothing_matches() -> None:
    none = Matches(np.empty(0, np.int64), np.empty(0, np.int64))
    for shape in ((4, 5), (0, 5), (0, 0)):
        found = ranks(of(torch.randn(shape)), none, *shape)
        assert found.image_to_text.shape == found.text_to_image.shape == (0,)


def test_matching_scores_are_the_pairs() -> None:
    matrix = torch.randn(7, 9)
    matches = pairs(np.random.default_rng(0).random((7, 9)) < 0.5)
    found = matching_scores(of(matrix), matches, 7, 9, (3, 4))
    assert torch.equal(found, matrix[matches.images, matches.texts])


@pytest.mark.parametrize("place", [(0, 0), (5, 7)])
def test_no_number_is_refused(place: tuple[int, int]) -> None:
    matrix = torch.zeros(6, 8)
    matrix[place] = torch.nan
    matches = Matches(np.array([2]), np.array([3]))
    with pytest.raises(ValueError, match=rf"image {place[0]} and text {place[1]} is no number"):
        ranks(of(matrix), matches, 6, 8, (3, 3))


def test_opposite_infinities_are_numbers() -> None:
    matrix = torch.tensor([[torch.inf, -torch.inf, 0.0]])
    check(matrix, Matches(np.array([0, 0]), np.array([1, 2])), (8, 8))


@pytest.mark.parametrize(
    ("images", "texts", "message"),
    [
        ([0, 6], [0, 0], "pair 1 names image 6, and there are 6 images"),
        ([-1], [0], "pair 0 names image -1"),
        ([0], [8], "pair 0 names text 8, and there are 8 texts"),
        ([1, 0, 1], [2, 2, 2], "image 1 and text 2 are a matching pair twice"),
    ],
)
def test_pairs_that_cannot_be(images: list[int], texts: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ranks(of(torch.zeros(6, 8)), Matches(np.array(images), np.array(texts)), 6, 8)


def test_a_block_of_another_shape_is_refused() -> None:
    matches = Matches(np.array([0]), np.array([0]))
    with pytest.raises(ValueError, match=r"block of \(6, 8\) images and texts are \(8, 6\)"):
        ranks(lambda rows, columns: torch.zeros(8, 6), matches, 6, 8)
