"""Where a division into easy, medium and hard lies in a run directory, and what its tables hold."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from engine.difficulty.voters import Voter
from engine.difficulty.voting import CATEGORIES, Quorum, TieBreaker, Unanimity, VotingRule
from engine.errors import StorageError
from engine.evaluation.pairs import PairTables, PartPairs, pair_tables
from engine.recipe import Difficulty, Pairs, Recipe
from engine.rundir import RunDirectory
from engine.storage import Location, StageTables, digest_settings

#: Raised when the code changes what it writes for the same settings.
CODE_VERSION = 1


def pairs_schema(voters: int) -> pa.Schema:
    """One row per sample, and in each list an item per caption, null where a voter has no vector of it.

    `categories`: of `CATEGORIES`. `votes`, `similarities`: of each voter, in the recipe's order.
    """
    fields = [pa.field(name, pa.string(), nullable=False) for name in ("id", "key")]
    fields.append(pa.field("categories", pa.list_(pa.string())))
    fields.append(pa.field("votes", pa.list_(pa.list_(pa.bool_(), voters))))
    fields.append(pa.field("similarities", pa.list_(pa.list_(pa.float32(), voters))))
    return pa.schema([*fields, pa.field("error", pa.string())])


@dataclass(frozen=True)
class Division:
    """RUN/difficulty/<fingerprint>/: pairs/part-*.parquet, result.json; beside it division.md, shares.png."""

    directory: Location
    captions: str
    voters: tuple[str, ...]

    @classmethod
    def of(
        cls, run: RunDirectory, recipe: Recipe, captions: str, voters: Sequence[Voter], plan: pa.Table
    ) -> Division:
        """The division of one kind of captions.

        Args:
            run, recipe: of the pairs.
            captions: which; one of `difficulty.captions`.
            voters: of `voters_of`.
            plan: the parts.
        """
        settings = recipe.difficulty
        assert settings is not None
        decided_by = {
            "job": "difficulty",
            "code": CODE_VERSION,
            "pairs": [each.state(plan) for each in voter_tables(recipe, run, captions)],
            "thresholds": [voter.note.name for voter in voters],
            "rule": settings.model_dump(mode="json", include={"rule", "easy", "hard"}),
        }
        place = run.root / "difficulty" / digest_settings(decided_by)
        return cls(place, captions, settings.voters)

    @staticmethod
    def pages(run: RunDirectory) -> tuple[Location, Location]:
        """What tells of all divisions of the last recipe: a page and its picture."""
        return run.root / "difficulty" / "division.md", run.root / "difficulty" / "shares.png"

    @property
    def tables(self) -> StageTables:
        """The table of each part; schema `pairs_schema`."""
        return StageTables(self.directory / "pairs")

    def read(self, part: str, columns: Sequence[str]) -> pa.Table:
        """Some columns of a part's table.

        Raises:
            StorageError: it is not there.
        """
        table = self.tables.read(part, pairs_schema(len(self.voters)), columns=list(columns))
        if table is None:
            place = self.tables.table(part).uri
            raise StorageError(f"{place}: is not there; run the same command again to divide to the end")
        return table

    def codes(self, part: str, pairs: PartPairs) -> NDArray[np.int8]:
        """(m,), the category of each pair of a part, as codes of `CATEGORIES`; -1 where it has none."""
        return self.codes_of(part, pairs.rows[pairs.owners], pairs.places)

    def codes_of(self, part: str, rows: NDArray[np.int64], places: NDArray[np.int64]) -> NDArray[np.int8]:
        """The same of pairs that are told by their sample of the part and their place among its captions."""
        lists = self.read(part, ["categories"])["categories"].combine_chunks()
        counts = lists.value_lengths().fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
        names = lists.flatten().to_pylist()
        number = {name: code for code, name in enumerate(CATEGORIES)}
        codes = np.array([number.get(name, -1) for name in names], np.int8)
        starts = np.cumsum(counts) - counts
        # Of a sample that no voter could embed there are no categories.
        there = places < counts[rows]
        found = np.full(len(rows), -1, np.int8)
        found[there] = codes[starts[rows[there]] + places[there]]
        return found

    @property
    def done(self) -> bool:
        """Whether it was made to its end."""
        return (self.directory / "result.json").exists()

    def is_summed_up(self, settings: Difficulty, seed: int) -> bool:
        """Whether result.json is there, and tells of these draws of voters."""
        return self.done and self.noted().get("robustness_by") == drawn_by(settings, seed)

    def noted(self) -> dict[str, Any]:
        """What `finish` wrote; empty before."""
        place = self.directory / "result.json"
        return json.loads(place.read_text()) if place.exists() else {}

    def finish(self, about: Mapping[str, Any]) -> None:
        """Write result.json, the last of its files."""
        (self.directory / "result.json").write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode())


def voter_tables(recipe: Recipe, run: RunDirectory, captions: str) -> list[PairTables]:
    """The pairs of a run as each voter sees them.

    Raises:
        RecipeError: the run's recipe does not make such vectors.
    """
    settings = recipe.difficulty
    assert settings is not None
    chosen = Pairs.model_validate({"captions": captions})
    return [pair_tables(recipe, run, voter, chosen, "difficulty.voters") for voter in settings.voters]


def drawn_by(settings: Difficulty, seed: int) -> dict[str, Any]:
    """What decides how robust a division is found, beside the division."""
    return {"draw": settings.drawn, "repeats": settings.repeats, "seed": seed}


def rule_of(settings: Difficulty) -> VotingRule:
    """The section's rule."""
    if settings.rule == "quorum":
        assert settings.easy is not None and settings.hard is not None
        return Quorum(settings.easy, settings.hard)
    return TieBreaker() if settings.rule == "tie_breaker" else Unanimity()


def rule_in_words(settings: Difficulty) -> str:
    """The section's rule, for the page."""
    match settings.rule:
        case "quorum":
            return f"easy where at least {settings.easy} accept, hard where at most {settings.hard} do"
        case "tie_breaker":
            return f"the others' opinion, and where they are split in half that of {settings.voters[-1]}"
    return "easy where all accept, hard where none does"
