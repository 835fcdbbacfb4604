"""Pairwise preference on Ray: which image of a text is a right one, and whether the model prefers it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from engine.catalog.files import is_image
from engine.errors import RecipeError
from engine.evaluation.gallery import Gallery
from engine.evaluation.pairs import PairTables
from engine.evaluation.tables import Counted, figure_rows
from engine.flow.ranks import compare_own
from engine.flow.spread import call, each, slices
from engine.recipe import Evaluate, Preference
from engine.retrieval.figures import ALL, Figure
from engine.retrieval.preference import PREFERENCE, preferences


def measure_preference(
    plan: pa.Table, pairs: PairTables, model: str, chosen: Preference, settings: Evaluate, seed: int
) -> pa.Table:
    """How often a model prefers the right images of a text, one row of schema FIGURES.

    Its `count` are the texts that have an image of both kinds, `texts` all texts.

    Args:
        plan: the parts.
        pairs: of images and texts; captions that are equal are one text.
        model: its name.
        chosen: the preference.
        settings: how many draws there are.
        seed: of the draws, of texts.

    Raises:
        RecipeError: no text has an image of both kinds.
    """
    made = compare_own(plan, pairs)
    right = each(slices(plan.to_pylist()), _right, pairs, chosen.preferred)
    found: pa.Table = call(_score, made.whole, made.own, right, model, chosen, settings, seed)
    return found


def is_preferred(glob: str, key: str, uri: str) -> bool:
    """Whether an image is a right one.

    A glob with a slash is held against the whole key. Any other is held against the key's last
    component and the name of the image's file: a key may begin with a folder that is named by the text.
    """
    if "/" in glob:
        return fnmatchcase(key, glob)
    file = uri.rpartition("/")[2]
    names = [key.rpartition("/")[2], *([file] if is_image(file) else [])]
    return any(fnmatchcase(name, glob) for name in names)


def _right(rows: Sequence[Mapping[str, Any]], pairs: PairTables, glob: str) -> NDArray[np.bool_]:
    """(images of the slice that have a vector,): which are right ones."""
    found, reader = list[bool](), pairs.reader()
    assert reader is not None
    for row in rows:
        samples = reader.part(row)
        good = np.flatnonzero(pairs.images.images(row["part"]).good)
        found += [is_preferred(glob, samples[number].key, samples[number].uri) for number in good]
    return np.array(found, np.bool_)


def _score(
    gallery: Any,
    own: Any,
    pieces: Sequence[Any],
    model: str,
    chosen: Preference,
    settings: Evaluate,
    seed: int,
) -> pa.Table:
    whole: Gallery = gallery
    right = np.concatenate(ray.get(list(pieces)))
    counted = Counted(int(whole.images[-1]), int(whole.texts[-1]), whole.without)
    made = preferences(whole.matches.texts, right[whole.matches.images], own)
    if not len(made.texts):
        raise RecipeError(
            f"{chosen.place}: none of {counted.texts:,} texts ({chosen.captions}) has both an image that "
            f"matches '{chosen.preferred}' and one that does not; {int(right.sum()):,} of {counted.images:,} "
            "images match: correct `preferred`, a glob of keys or file names"
        )
    score, count = made.score(settings.draws, seed), len(made.texts)
    return figure_rows([Figure(PREFERENCE, ALL, "natural", PREFERENCE, score, count)], counted, model, chosen)
