"""Joining the captions that were collected part by part, and holding images out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from engine.clustering.drawing import bar, lots
from engine.embeddings import numbers_of
from engine.errors import RecipeError
from engine.generation.protocol import derive_seed
from engine.recipe.finetune import Finetune
from engine.schema import LEVELS
from engine.training.captions import AGAIN, ORIGINAL, PAIRS, Collected, collect, pairs_of
from engine.training.order import check_order
from engine.training.pairs_file import IMAGE, Pairs, most_of

__all__ = ["ORIGINAL", "PAIRS", "Collected", "Pairs", "collect", "join", "pairs_of"]


def join(found: Sequence[Collected], settings: Finetune, seed: int) -> Pairs:
    """The pairs of a run out of what was collected from its parts, in whatever order and cut.

    Samples of the same id are one image. Which images are held out depends on their ids and the
    seed alone.

    Raises:
        RecipeError: the settings choose no captions, or none of a level that they name; too few
            images to hold some out; or `finetune.batch` does not go with them.
    """
    left_out = sum((each.left_out for each in found), Counter[str]())
    table = _ordered(pa.concat_tables([PAIRS.empty_table(), *(each.table for each in found)]))
    table, again = _once(table)
    left_out += Counter({AGAIN: again} if again else {})
    _check_levels(table, settings, left_out)
    first = _begins(table, ["id"])
    images = table.select(IMAGE).filter(pa.array(first)).combine_chunks()
    held_out = _held_out(images, settings, seed)
    pairs = Pairs(
        (np.cumsum(first) - 1).astype(np.int32),
        table["level"].to_numpy(),
        table["weight"].to_numpy(),
        table["caption"].combine_chunks(),
        images,
        held_out,
        dict(left_out.most_common()),
    )
    check_order(pairs.image[pairs.training()], settings.order, settings.batch)
    return pairs


def _ordered(table: pa.Table) -> pa.Table:
    """By id, then as in the catalog; the captions of one row stay in their order."""
    keys = [(name, "ascending") for name in ("id", "catalog", "row")]
    return table.take(pc.sort_indices(table, sort_keys=keys)).combine_chunks()


def _begins(table: pa.Table, names: Sequence[str]) -> NDArray[np.bool_]:
    """(n,): the rows that differ from the one before in any of these columns."""
    begins = np.zeros(len(table), np.bool_)
    begins[:1] = True
    for name in names:
        column = table[name].combine_chunks()
        begins[1:] |= pc.not_equal(column[1:], column[:-1]).to_numpy(zero_copy_only=False)
    return begins


def _once(table: pa.Table) -> tuple[pa.Table, int]:
    """Without texts that an image has had in another row of the catalog, and how many those were."""
    first = _begins(table, ["id"])
    image = np.cumsum(first) - 1
    rows = np.bincount(image, _begins(table, ["id", "catalog", "row"]), minlength=int(first.sum()))
    several = np.flatnonzero(rows[image] > 1)
    texts = table["caption"].take(pa.array(several)).to_pylist()
    seen, again = set[tuple[int, str]](), np.zeros(len(table), np.bool_)
    for place, pair in zip(several.tolist(), zip(image[several].tolist(), texts, strict=True), strict=True):
        again[place] = pair in seen
        seen.add(pair)
    return table.filter(pa.array(~again)).combine_chunks(), int(again.sum())


def _check_levels(table: pa.Table, settings: Finetune, left_out: Mapping[str, int]) -> None:
    data = settings.data
    reasons = f" (left out: {most_of(left_out)})" if left_out else ""
    if not len(table):
        raise RecipeError(
            f"finetune.data.captions is [{', '.join(data.captions)}], and the run has no captions of that "
            f"kind{reasons}"
        )
    there = set(pc.unique(table["level"]).to_pylist())
    wanted = [*data.levels] if "mined" in data.captions else []
    missing = [level for level in wanted if LEVELS.index(level) not in there]
    if "original" in data.captions and ORIGINAL not in there:
        raise RecipeError(
            f"finetune.data.captions names original, and no image came with a caption{reasons}; take it out"
        )
    if missing:
        raise RecipeError(
            f"finetune.data.levels names {', '.join(missing)}, and the run has no such captions{reasons}; "
            "take it out, or mine that level"
        )


def _held_out(images: pa.Table, settings: Finetune, seed: int) -> NDArray[np.bool_]:
    share = settings.data.validation
    lot = lots(numbers_of(images["id"].to_pylist()), derive_seed(seed, "finetune", "validation"))
    held = lot < bar(share)
    if share and not held.any():
        raise RecipeError(
            f"finetune.data.validation is {share:g}, which holds out none of {len(held):,} images: raise it, "
            "or set it to 0 to train without validation"
        )
    if held.all():
        raise RecipeError(
            f"finetune.data.validation is {share:g}, which holds out all of {len(held):,} images: lower it"
        )
    return held
