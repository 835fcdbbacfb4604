"""The same figures by other people's code: torchmetrics, and `eccv_caption` on the ground truth it brings."""

from __future__ import annotations

import warnings
from collections.abc import Mapping

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torchmetrics.functional.retrieval import (
    retrieval_average_precision,
    retrieval_hit_rate,
    retrieval_r_precision,
    retrieval_reciprocal_rank,
)

from engine.retrieval.cosines import Cosines
from engine.retrieval.figures import figures
from engine.retrieval.precision import precisions
from engine.retrieval.ranks import Matches, ranks
from engine.retrieval.recall import Resamples, recall
from tests.retrieval.test_ranks import pairs, sorted_ranks

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "failed to import `ujson`")
    from eccv_caption import Metrics

#: Items that `eccv_caption` is shown of each query: more than any query has matches there.
SHOWN = 64


def adversarial() -> dict[str, tuple[NDArray[np.float32], NDArray[np.bool_]]]:
    rng = np.random.default_rng(0)
    noise = rng.standard_normal((12, 40)).astype(np.float32)
    some = rng.random((12, 40)) < 0.2
    some[:, 0] = True
    one = np.zeros((12, 40), np.bool_)
    one[np.arange(12), rng.integers(40, size=12)] = True
    ties = rng.integers(0, 3, (12, 40)).astype(np.float32)
    doubled = np.repeat(noise[:, :20], 2, axis=1)
    return {
        "random": (noise, some),
        "one match each": (noise, one),
        "all match": (noise, np.ones((12, 40), np.bool_)),
        "few values": (ties, some),
        "every item twice": (doubled, some),
        "all equal": (np.zeros((12, 40), np.float32), some),
    }


@pytest.mark.parametrize("case", adversarial())
def test_torchmetrics_measures_the_same(case: str) -> None:
    matrix, matching = adversarial()[case]
    matches = pairs(matching)
    found = ranks(lambda rows, columns: torch.from_numpy(matrix)[rows, columns], matches, *matrix.shape)
    own = precisions(matches.images, found.image_to_text)
    # Theirs leaves the order of equal items open: they are shown the order of our rule.
    order = places(matrix, matches)
    for image in range(len(matrix)):
        shown, target = 1 / torch.from_numpy(order[image]).float(), torch.from_numpy(matching[image])
        assert own.full[image] == pytest.approx(float(retrieval_average_precision(shown, target)), abs=1e-6)
        assert own.r_precision[image] == pytest.approx(float(retrieval_r_precision(shown, target)), abs=1e-6)
        early = found.image_to_text[matches.images == image]
        assert 1 / early.min() == pytest.approx(float(retrieval_reciprocal_rank(shown, target)), abs=1e-6)
        for k in (1, 5, 10):
            hit = recall(np.zeros_like(early), early, k)
            assert hit == float(retrieval_hit_rate(shown, target, top_k=k))


def places(matrix: NDArray[np.float32], matches: Matches) -> NDArray[np.int64]:
    """The rank of every item: a match's own, and the places that are left to the others."""
    order = np.zeros(matrix.shape, np.int64)
    order[matches.images, matches.texts] = sorted_ranks(matrix, matches)
    for row in order:
        row[row == 0] = np.setdiff1d(np.arange(1, len(row) + 1), row)
    return order


def test_eccv_caption_measures_the_same_on_its_ground_truth() -> None:
    truth = Metrics()
    # Their ground truth names two captions that are not in the test set, and so are never found.
    matched = {caption for captions in truth.eccv_gts["i2t"].values() for caption in captions}
    missing = sorted(matched - set(truth.coco_ids.tolist()))
    names = [*truth.coco_ids.tolist(), *missing]
    owners = {caption: images[0] for caption, images in truth.coco_gts["t2i"].items()}
    image_ids = sorted(truth.coco_gts["i2t"])
    rng = np.random.default_rng(1)
    images = rng.standard_normal((len(image_ids), 16)).astype(np.float32)
    row_of = {image: row for row, image in enumerate(image_ids)}
    known = names[: -len(missing)]
    noise = rng.standard_normal((len(known), 16)).astype(np.float32)
    texts = np.pad(images[[row_of[owners[caption]] for caption in known]] + noise, ((0, 0), (0, 1)))
    images = np.pad(images, ((0, 0), (0, 1)), constant_values=20)
    texts = np.concatenate([texts, np.repeat(-np.eye(17, dtype=np.float32)[16:], len(missing), axis=0)])
    cosines = Cosines(unit(images), unit(texts))
    caption_of = np.array(names)
    shown = {
        "i2t": dict(zip(image_ids, caption_of[first(cosines, len(image_ids), len(names))], strict=True)),
        "t2i": dict(
            zip(names, np.array(image_ids)[first(cosines, len(image_ids), len(names), True)], strict=True)
        ),
    }
    theirs = truth.compute_all_metrics(
        *({query: row.tolist() for query, row in shown[way].items()} for way in ("i2t", "t2i")),
        target_metrics=("cxc_recalls", "eccv_map_at_r", "eccv_rprecision", "eccv_r1"),
        Ks=(1, 5, 10),
    )
    column_of = {caption: column for column, caption in enumerate(names)}
    for kind, gts in (("cxc", truth.cxc_gts), ("eccv", truth.eccv_gts)):
        for way, name in (("i2t", "image_to_text"), ("t2i", "text_to_image")):
            matches = matches_of(gts[way], row_of, column_of, way == "t2i")
            found = ranks(cosines, matches, len(image_ids), len(names))
            mine = {
                each.name: each.interval.value
                for each in figures(matches, found, Resamples(len(image_ids), draws=2))
                if each.way == name
            }
            for ours, other in figures_of(kind).items():
                assert mine[ours] == pytest.approx(theirs[other][way], abs=1e-9), (kind, way, ours)


def figures_of(kind: str) -> dict[str, str]:
    if kind == "eccv":
        return {"mAP@R": "eccv_map_at_r", "R-Precision": "eccv_rprecision", "R@1": "eccv_r1"}
    return {f"R@{k}": f"{kind}_r{k}" for k in (1, 5, 10)}


def matches_of(
    known: Mapping[int, list[int]], row_of: Mapping[int, int], column_of: Mapping[int, int], turned: bool
) -> Matches:
    """Their ground truth of one way, as pairs of an image's and a caption's number."""
    some = [(query, item) for query, items in known.items() for item in dict.fromkeys(items)]
    images = [row_of[item if turned else query] for query, item in some]
    texts = [column_of[query if turned else item] for query, item in some]
    return Matches(np.array(images, np.int64), np.array(texts, np.int64))


def unit(vectors: NDArray[np.float32]) -> NDArray[np.float32]:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def first(cosines: Cosines, images: int, texts: int, turned: bool = False) -> NDArray[np.int64]:
    """The first items of each query, by sorting."""
    found = []
    for start in range(0, texts if turned else images, 500):
        some, whole = slice(start, start + 500), slice(0, images if turned else texts)
        scores = cosines(whole, some).T if turned else cosines(some, whole)
        found.append(torch.topk(scores, SHOWN, dim=1).indices.numpy())
    return np.concatenate(found)
