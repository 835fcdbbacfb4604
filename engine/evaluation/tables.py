"""What models reach on test sets, as a table of one row per figure; where it lies in a run directory."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from engine.difficulty.tables import Division
from engine.evaluation.labels import Labels, told_by
from engine.evaluation.pairs import PairTables
from engine.recipe import Evaluate, Preference, TestSet
from engine.rundir import RunDirectory
from engine.storage import Location, digest_settings

if TYPE_CHECKING:  # which imports torch, and status does not compute
    from engine.retrieval.figures import Figure

#: Raised when the code changes what it writes for the same settings.
CODE_VERSION = 1

#: `way`, `category`, `reading`, `figure` and `count` are those of `engine.retrieval.figures`; recalls
#: and precisions are 0 to 1. `low` and `high` are ends of the 95 % interval over draws of images, of
#: the way `preference` over draws of texts.
FIGURES = pa.schema(
    [
        *(pa.field(name, pa.string(), nullable=False) for name in ("model", "set", "way", "category")),
        *(pa.field(name, pa.string(), nullable=False) for name in ("reading", "figure")),
        *(pa.field(name, pa.float64()) for name in ("value", "low", "high")),
        *(pa.field(name, pa.int64(), nullable=False) for name in ("count", "images", "texts", "without")),
    ]
)


@dataclass(frozen=True)
class Counted:
    """What a set holds for a model.

    Attributes:
        images: of the gallery.
        texts: of the gallery.
        without: images without a vector, which are left out.
    """

    images: int
    texts: int
    without: int


@dataclass(frozen=True)
class Evaluation:
    """RUN/evaluation/: <fingerprint>.parquet of each model on each set, and of a recipe all together."""

    directory: Location

    @classmethod
    def of(cls, run: RunDirectory) -> Evaluation:
        """Of a run."""
        return cls(run.root / "evaluation")

    def one(
        self,
        pairs: PairTables,
        categories: Division | Labels | None,
        negatives: PairTables | None,
        settings: Evaluate,
        seed: int,
        plan: pa.Table,
    ) -> Location:
        """The table of one model on one set, schema FIGURES: all that decides it decides its name."""
        decided_by = {
            "job": "evaluate",
            "code": CODE_VERSION,
            "pairs": pairs.state(plan),
            **told_by(categories),
            "at": settings.at,
            "draws": settings.draws,
            "seed": seed,
        }
        # What a set does not have is not told, so that its tables keep their names.
        if negatives is not None:
            decided_by["negatives"] = negatives.state(plan)
        return self.directory / f"{digest_settings(decided_by)}.parquet"

    def preference(
        self, pairs: PairTables, chosen: Preference, settings: Evaluate, seed: int, plan: pa.Table
    ) -> Location:
        """The table of one model on one preference; see `one`."""
        decided_by = {
            "job": "preference",
            "code": CODE_VERSION,
            "pairs": pairs.state(plan),
            "preferred": chosen.preferred,
            "draws": settings.draws,
            "seed": seed,
        }
        return self.directory / f"{digest_settings(decided_by)}.parquet"

    @property
    def figures(self) -> Location:
        """The table of all models and sets of the recipe, schema FIGURES."""
        return self.directory / "figures.parquet"

    @property
    def csv(self) -> Location:
        """The same as text."""
        return self.directory / "figures.csv"

    @property
    def co_captions(self) -> tuple[Location, Location]:
        """How similar co-captions are by each encoder on each set, as Parquet and as text."""
        return self.directory / "co-captions.parquet", self.directory / "co-captions.csv"

    def picture(self, kind: str, chosen: str) -> Location:
        """A picture of one set: `similarities`, `auprc`, or `co-captions`."""
        return self.directory / f"{kind}-{chosen}.png"

    @property
    def page(self) -> Location:
        """The same as Markdown, laid out as the paper's tables."""
        return self.directory / "tables.md"


def figure_rows(
    found: Sequence[Figure], counted: Counted, model: str, chosen: TestSet | Preference
) -> pa.Table:
    """The table of one model on one set, schema FIGURES."""
    rows = [
        {
            "model": model,
            "set": chosen.name,
            "way": each.way,
            "category": each.category,
            "reading": each.reading,
            "figure": each.name,
            **{end: _finite(getattr(each.interval, end)) for end in ("value", "low", "high")},
            "count": each.count,
            **vars(counted),
        }
        for each in found
    ]
    return pa.Table.from_pylist(rows, schema=FIGURES)


def renamed(table: pa.Table, model: str, chosen: TestSet | Preference) -> pa.Table:
    """A cached table under the names by which this recipe calls its model and its set."""
    for name, value in (("model", model), ("set", chosen.name)):
        column = pa.array([value] * len(table), pa.string())
        table = table.set_column(FIGURES.get_field_index(name), FIGURES.field(name), column)
    return table


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
