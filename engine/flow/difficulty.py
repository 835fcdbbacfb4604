"""The difficulty job on Ray: calibrate the voters, have them vote on every pair, sum up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import ray

from engine.clustering.drawing import bar, share_of
from engine.device import device_of
from engine.difficulty.agreement import Robustness, robustness
from engine.difficulty.calibration import Drawn, count_batches
from engine.difficulty.page import division_page
from engine.difficulty.part import divide
from engine.difficulty.tables import Division, drawn_by, rule_in_words, rule_of, voter_tables
from engine.difficulty.threshold import Threshold, choose_threshold
from engine.difficulty.voters import Voter, read_threshold, voters_of, write_threshold
from engine.difficulty.voting import CATEGORIES, VotingRule, categorize
from engine.embeddings import check_complete
from engine.errors import RecipeError
from engine.evaluation.pairs import PairTables
from engine.flow.spread import call, each, results, slices
from engine.maps.shares import draw_shares
from engine.recipe import Calibration, Difficulty, Recipe
from engine.rundir import RunDirectory


@dataclass(frozen=True)
class _Votes:
    """What all voters vote on, and by which rule."""

    voters: list[PairTables]
    thresholds: list[float]
    rule: VotingRule
    division: Division


def divide_run(
    recipe: Recipe, run: RunDirectory, start_ray: Callable[[], None], say: Callable[[str], None]
) -> list[Division]:
    """Divide each kind of captions, going on where an earlier run stopped; see `cluster_images`.

    Raises:
        RecipeError: vectors are missing, or there is nothing to calibrate on.
        StorageError: a run directory fails; finished parts and thresholds are kept.
    """
    settings = recipe.difficulty
    assert settings is not None
    work = [(captions, voter_tables(recipe, run, captions)) for captions in settings.captions]
    plan = run.read_plan()
    for _, tables in work:
        plan = check_complete([t for pairs in tables for t in (pairs.images, pairs.captions)], plan)
    voters = _calibrate(recipe, run, start_ray, say)
    # Under the names of this recipe: a model that was moved keeps its threshold.
    thresholds = [{**read_threshold(voter.note), "voter": voter.name} for voter in voters]
    made = list[Division]()
    for captions, tables in work:
        division = Division.of(run, recipe, captions, voters, plan)
        votes = _Votes(tables, [each["value"] for each in thresholds], rule_of(settings), division)
        _divide_all(votes, plan, settings, recipe.run.seed, start_ray, say)
        made.append(division)
    page, picture = Division.pages(run)
    page.write_bytes(division_page(made, thresholds, rule_in_words(settings), picture.name).encode())
    shares = np.array([[division.noted()["shares"][name] for name in CATEGORIES] for division in made])
    picture.write_bytes(draw_shares(settings.captions, shares, "Caption difficulty"))
    return made


def _calibrate(
    recipe: Recipe, run: RunDirectory, start_ray: Callable[[], None], say: Callable[[str], None]
) -> list[Voter]:
    """The voters, each with its threshold; those that are known are not chosen again."""
    settings, seed = recipe.difficulty, recipe.run.seed
    assert settings is not None
    calibration, voters = settings.calibration, voters_of(recipe, run)
    for voter in voters:
        if voter.note.exists():
            continue
        start_ray()
        say(f"calibrating {voter.name}")
        parts, rows = slices(voter.plan["part"].to_pylist()), sum(voter.plan["rows"].to_pylist())
        reserved = {"cpus": settings.cpus, "gpus": settings.gpus}
        # Readers draw somewhat more than is wanted, since some have no vector; rarely that is too few.
        for share in (share_of(calibration.pairs, rows), 1.0):
            pieces = each(parts, _draw, voter.pairs, seed, share)
            chosen, count = call(_choose, pieces, calibration, seed, settings.gpus, **reserved)
            if count == calibration.pairs or share >= 1:
                break
        if count < calibration.batch:
            say(f"           only {count:,} pairs, less than a batch of {calibration.batch:,}: they are one")
        write_threshold(voter.note, voter.name, chosen, min(count, calibration.batch))
    return voters


def _draw(parts: Sequence[str], pairs: PairTables, seed: int, share: float) -> Drawn:
    """Of a slice, about this share of the pairs: those with the lowest lots."""
    return Drawn.joined([Drawn.of(pairs.read(part), seed).below(bar(share), seed) for part in parts])


def _choose(pieces: Sequence[Any], calibration: Calibration, seed: int, gpus: float) -> tuple[Threshold, int]:
    some = Drawn.joined(ray.get(list(pieces))).lowest(calibration.pairs, seed)
    if len(some.numbers) < 2:
        raise RecipeError(
            f"difficulty.calibration: {len(some.numbers)} images have a vector and a caption "
            f"({calibration.captions}) with one; there is nothing to choose a threshold on"
        )
    histogram = count_batches(some, calibration.batch, device_of(gpus, "difficulty.gpus"))
    return choose_threshold(histogram, calibration.rule), len(some.numbers)


def _divide_all(
    votes: _Votes,
    plan: pa.Table,
    settings: Difficulty,
    seed: int,
    start_ray: Callable[[], None],
    say: Callable[[str], None],
) -> None:
    division, parts = votes.division, plan["part"].to_pylist()
    done = division.tables.done()
    todo = [part for part in parts if part not in done]
    if not todo and division.is_summed_up(settings, seed):
        return
    start_ray()
    if todo:
        say(f"dividing   {division.captions} captions of {len(todo):,} parts by {len(votes.voters)} voters")
        results(each(slices(todo), _divide, votes, cpus=1))
    pieces = each(slices(parts), _patterns, division)
    found = call(_sum_up, pieces, votes, settings, seed)
    division.finish({**found, "robustness_by": drawn_by(settings, seed), "finished": time.time()})


def _divide(parts: Sequence[str], votes: _Votes) -> None:
    for part in parts:
        table = divide(votes.voters, votes.thresholds, votes.rule, part)
        votes.division.tables.commit(part, table)


def _patterns(parts: Sequence[str], division: Division) -> Counter[bytes | None]:
    """How many pairs have which votes; None for captions without a category."""
    found = Counter[bytes | None]()
    for part in parts:
        lists = division.read(part, ["votes"])["votes"].combine_chunks().flatten()
        there = lists.is_valid().to_numpy(zero_copy_only=False)
        rows = lists.flatten().to_numpy(zero_copy_only=False).astype(np.uint8)
        patterns, counts = np.unique(rows.reshape(-1, len(division.voters)), axis=0, return_counts=True)
        found.update({row.tobytes(): int(n) for row, n in zip(patterns, counts, strict=True)})
        found[None] += int((~there).sum())
    return found


def _sum_up(pieces: Sequence[Any], votes: _Votes, settings: Difficulty, seed: int) -> dict[str, Any]:
    total = Counter[bytes | None]()
    for piece in ray.get(list(pieces)):
        total.update(piece)
    without = total.pop(None, 0)
    voters = len(votes.voters)
    patterns = sorted(name for name in total if name is not None)
    rows = np.array([list(name) for name in patterns], np.bool_).reshape(-1, voters)
    counts = np.array([total[name] for name in patterns], np.int64)
    codes = np.bincount(categorize(rows, votes.rule), counts, minlength=len(CATEGORIES))
    about: dict[str, Any] = {
        "captions": votes.division.captions,
        "pairs": int(counts.sum()),
        "without": without,
        "counts": dict(zip(CATEGORIES, codes.astype(int).tolist(), strict=True)),
        "shares": {n: float(c / max(counts.sum(), 1)) for n, c in zip(CATEGORIES, codes, strict=True)},
        "accepts": [float(rows[:, column] @ counts / max(counts.sum(), 1)) for column in range(voters)],
    }
    found = robustness(rows, votes.rule, settings.drawn, settings.repeats, seed, counts)
    return {**about, "robustness": {"draw": settings.drawn, **_told(found)}}


def _told(found: Robustness) -> dict[str, Any]:
    def number(value: float) -> float | None:
        return float(value) if np.isfinite(value) else None

    return {
        "drawn": [list(columns) for columns in found.drawn],
        "shares": found.shares.tolist(),
        "kappa": [number(value) for value in found.kappas],
        "linear_kappa": [number(value) for value in found.linear],
        "kappa_without": [number(value) for value in found.without],
    }
