"""Who votes: each voter's view of the calibration set, and where its threshold is kept."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from engine.embeddings import check_complete
from engine.evaluation.pairs import PairTables, pair_tables
from engine.recipe import Calibration, Recipe
from engine.rundir import RunDirectory
from engine.storage import Location, digest_settings

if TYPE_CHECKING:  # which imports torch, and status does not compute
    from engine.difficulty.threshold import Threshold

#: Raised when the code chooses another threshold for the same settings.
CODE_VERSION = 2


@dataclass(frozen=True)
class Voter:
    """One voter before its threshold is known.

    Attributes:
        name: of its encoder.
        pairs: the calibration set as it sees it.
        plan: the parts of that set.
        note: where its threshold lies or will lie; see `write_threshold`.
    """

    name: str
    pairs: PairTables
    plan: pa.Table
    note: Location


def voters_of(recipe: Recipe, run: RunDirectory) -> list[Voter]:
    """The voters of a recipe's section `difficulty`, in its order.

    Raises:
        RecipeError: vectors of the calibration set are missing.
        StorageError: it is another run's, and there is no such run.
    """
    settings = recipe.difficulty
    assert settings is not None
    calibration, source, own = settings.calibration, run, recipe
    if calibration.run is not None:
        source = RunDirectory.at(calibration.run)
        own = source.read_recipe()
    plan, found = source.read_plan(), list[Voter]()
    for name in settings.voters:
        pairs = pair_tables(own, source, name, calibration, "difficulty.calibration, voters")
        plan = check_complete([pairs.images, pairs.captions], plan)
        found.append(Voter(name, pairs, plan, _note(run, pairs, calibration, recipe.run.seed, plan)))
    return found


def _note(run: RunDirectory, pairs: PairTables, settings: Calibration, seed: int, plan: pa.Table) -> Location:
    """RUN/difficulty/thresholds/<fingerprint>.json: all that decides a threshold decides its name."""
    decided_by = {
        "job": "calibration",
        "code": CODE_VERSION,
        "pairs": pairs.state(plan),
        "settings": settings.model_dump(mode="json", include={"pairs", "batch", "rule"}),
        "seed": seed,
    }
    return run.root / "difficulty" / "thresholds" / f"{digest_settings(decided_by)}.json"


def write_threshold(place: Location, voter: str, chosen: Threshold, batch: int) -> None:
    """Keep a voter's threshold with what it was chosen by; one that is there stands."""
    about = {"voter": voter, "batch": batch, **asdict(chosen)}
    place.write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode(), replace=False)


def read_threshold(place: Location) -> dict[str, Any]:
    """What `write_threshold` wrote: `voter`, `batch` and the fields of `Threshold`."""
    about: dict[str, Any] = json.loads(place.read_text())
    return about
