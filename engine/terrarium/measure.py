"""How well a model finds held-out scenes by their texts, and the texts by their scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.retrieval.ranks import Matches, ranks
from engine.retrieval.recall import best_ranks
from engine.retrieval.similarity import Similarity
from engine.terrarium.held_out import TextSet, knower
from engine.terrarium.lexicon import LEVELS
from engine.terrarium.world import Scene
from engine.training.method import Method, Outputs
from engine.training.methods.prefix import Prefix

Way = Literal["t2i", "i2t"]

#: What is told of which sets: abstract are the captions of the two last levels. Where several sets
#: go together, each is searched by itself and the questions of both count alike.
COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "literal": ("literal",),
    **{level: (level,) for level in LEVELS},
    "abstract": LEVELS[3:],
    "poems": ("poems",),
    "metaphors": ("metaphors",),
}
#: Images or texts that go through a model at once.
_BATCH: Final = 125


@dataclass(frozen=True)
class SetRanks:
    """How a model ranks one set.

    Attributes:
        scenes: (m,), int64: the scene of each text.
        text_to_image: (m,), int64: the rank of the text's scene among all scenes.
        image_to_text: (m,), int64: the rank of the text among all texts of the set, for its scene.
    """

    scenes: NDArray[np.int64]
    text_to_image: NDArray[np.int64]
    image_to_text: NDArray[np.int64]


@dataclass(frozen=True)
class Hits:
    """Which questions are answered.

    Attributes:
        values: (q,), float64: 1 where the right answer is among the first ones, else 0; of several
            training seeds the mean.
        scenes: (q,), int64: the scene that each question belongs to.
    """

    values: NDArray[np.float64]
    scenes: NDArray[np.int64]


@torch.inference_mode()
def measure(method: Method, pixels: Tensor, sets: Sequence[TextSet]) -> dict[str, SetRanks]:
    """Rank every set of texts about the same scenes.

    Method `prefix` sees the images at the level of the texts: captions at their own, poems and
    metaphors at the last, literal captions without one. Others see them in one way.

    Args:
        method: in evaluation mode.
        pixels: (n, 3, height, width), the prepared images of the scenes.
        sets: of `engine.terrarium.held_out.text_sets`.
    """
    seen: dict[int, Outputs] = {}
    found = {}
    for each in sets:
        level = level_of(each.name) if _sees_levels(method) else -1
        if level not in seen:
            seen[level] = _images(method, pixels, level)
        found[each.name] = _ranked(
            _compared(method, seen[level], _texts(method, each.texts)), each, len(pixels)
        )
    return found


def level_of(name: str) -> int:
    """The level at which `prefix` sees the images of a set, -1 for none."""
    if name == "literal":
        return -1
    return LEVELS.index(name) if name in LEVELS else len(LEVELS) - 1


def measure_knower(scenes: Sequence[Scene], sets: Sequence[TextSet], seed: int = 0) -> dict[str, SetRanks]:
    """The ranks of `engine.terrarium.held_out.knower`, what it cannot tell apart in drawn order."""
    rng, found = np.random.default_rng(seed), {}
    for each in sets:
        scores = knower(scenes, each.texts)
        drawn = torch.from_numpy(scores + 1e-6 * rng.random(scores.shape))
        found[each.name] = _ranked(_cut_from(drawn), each, len(scenes))
    return found


def hits(ranked: Mapping[str, SetRanks], column: str, way: Way, k: int) -> Hits:
    """The questions of one of `COLUMNS`: each text (t2i), or each scene that has texts (i2t).

    A scene's question is answered by the first of its texts.
    """
    parts = []
    for name in COLUMNS[column]:
        one = ranked[name]
        if way == "t2i":
            parts.append(Hits((one.text_to_image <= k).astype(np.float64), one.scenes))
        else:
            best = best_ranks(one.scenes, one.image_to_text)
            parts.append(Hits(best.found(k), best.queries))
    return Hits(
        np.concatenate([part.values for part in parts]), np.concatenate([part.scenes for part in parts])
    )


def over_seeds(found: Sequence[Hits]) -> Hits:
    """The same questions asked of models of several training seeds: the mean answer of each."""
    return Hits(np.mean([each.values for each in found], axis=0), found[0].scenes)


def _sees_levels(method: Method) -> bool:
    """Whether the method sees an image otherwise at each level."""
    return isinstance(method, Prefix)


def _ranked(similarity: Similarity, texts: TextSet, scenes: int) -> SetRanks:
    matches = Matches(texts.scenes, np.arange(len(texts.texts), dtype=np.int64))
    found = ranks(similarity, matches, scenes, len(texts.texts))
    return SetRanks(texts.scenes, found.text_to_image, found.image_to_text)


def _compared(method: Method, images: Outputs, texts: Outputs) -> Similarity:
    def similarity(rows: slice, columns: slice) -> Tensor:
        return method.similarity(_rows(images, rows), _rows(texts, columns))

    return similarity


def _cut_from(scores: Tensor) -> Similarity:
    return lambda rows, columns: scores[rows, columns]


def _rows(outputs: Outputs, rows: slice) -> Outputs:
    return {key: value[rows] for key, value in outputs.items()}


def _images(method: Method, pixels: Tensor, level: int) -> Outputs:
    parts = [pixels[start : start + _BATCH] for start in range(0, len(pixels), _BATCH)]
    return _joined([method.image_side(part, torch.full((len(part),), level)) for part in parts])


def _texts(method: Method, texts: Sequence[str]) -> Outputs:
    parts = [texts[start : start + _BATCH] for start in range(0, len(texts), _BATCH)]
    return _joined([method.text_side(method.backbone.tokenize(list(part))) for part in parts])


def _joined(parts: Sequence[Outputs]) -> Outputs:
    return {key: torch.cat([part[key] for part in parts]) for key in parts[0]}
