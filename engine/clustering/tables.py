"""Where a clustering lies in a run directory, and what its tables hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from engine.embeddings import ImageVectors, VectorTables, numbers_of
from engine.errors import StorageError
from engine.recipe import Recipe
from engine.rundir import RunDirectory
from engine.schema import cluster_schema
from engine.storage import Location, StageTables, digest_of, digest_settings

if TYPE_CHECKING:  # what a run holds is told without the libraries that computed it
    from engine.clustering.fitted import Placed

#: Raised when the code changes what it writes for the same settings.
CODE_VERSION = 3
#: Settings that decide no sample's place: who works, and how clusters are told of.
_NOT_DECIDING = {"actors", "cpus", "gpus", "captions", "terms", "exemplars", "map_points"}


@dataclass(frozen=True)
class Clustering:
    """RUN/clusters/<fingerprint>/: fit/, samples/part-*.parquet, clusters.parquet, map.png, map.html."""

    directory: Location
    fingerprint: str
    dimensions: int

    @classmethod
    def of(cls, run: RunDirectory, recipe: Recipe, vectors: VectorTables, plan: pa.Table) -> Clustering:
        """The clustering of a run by a recipe. It is of all its images: with new ones it is another."""
        assert recipe.cluster is not None
        fingerprint = digest_settings(
            {
                "job": "cluster",
                "code": CODE_VERSION,
                "settings": recipe.cluster.model_dump(mode="json", exclude=_NOT_DECIDING),
                "seed": recipe.run.seed,
                "vectors": vectors.state(plan),
                "parts": digest_of(*plan["part"].to_pylist()),
            }
        )
        return cls(run.root / "clusters" / fingerprint, fingerprint, recipe.cluster.dimensions)

    @property
    def fit(self) -> Location:
        """The directory of the fit."""
        return self.directory / "fit"

    def fitted(self) -> str | None:
        """What tells this fit from another one with the same settings; None before there is one.

        In the mode `scale` each is another, and a seeded one is who computes it.
        """
        about = read_about(self.fit) or {}
        return about.get("folder" if about.get("mode") == "scale" else "backend")

    @property
    def tables(self) -> StageTables:
        """The table of each part; see `engine.schema.cluster_schema`."""
        return StageTables(self.directory / "samples")

    @property
    def clusters(self) -> Location:
        """The table of the clusters."""
        return self.directory / "clusters.parquet"

    def sample(self, count: int) -> Location:
        """The table of so many images that cover the map evenly."""
        return self.directory / f"sample-{count}.parquet"

    def commit(self, part: str, images: ImageVectors, placed: Placed, fitted: Any) -> pa.Table:
        """Write the table of a part, of which the good images were placed."""
        columns = [
            pa.array(images.ids),
            pa.array(images.keys),
            *(_scattered(column, images) for column in (placed.plane[:, 0], placed.plane[:, 1])),
            _scattered_lists(placed.space, images),
            *(_scattered(column, images) for column in (placed.label, placed.strength, placed.outlier)),
            pa.array(_full(fitted, images), mask=~images.good),
            pa.array(images.errors, pa.string()),
        ]
        table = pa.table(columns, schema=cluster_schema(self.dimensions))
        return self.tables.commit(part, table)

    def read(self, part: str, columns: Sequence[str] | None = None) -> pa.Table:
        """The table of a part, or some of its columns.

        Raises:
            StorageError: it is not there, or not what it should be.
        """
        schema = cluster_schema(self.dimensions)
        table = self.tables.read(part, schema, columns=list(columns) if columns else None)
        if table is None:
            raise StorageError(
                f"{self.tables.table(part).uri}: is not there; run the same command again to cluster to "
                "the end"
            )
        return table

    def note(self, about: dict[str, Any]) -> None:
        """Write result.json: counts and how they came about."""
        (self.directory / "result.json").write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode())

    def noted(self) -> dict[str, Any]:
        """What was written there; empty before the first summing up."""
        place = self.directory / "result.json"
        return json.loads(place.read_text()) if place.exists() else {}


def read_about(directory: Location) -> dict[str, Any] | None:
    """What `fit.json` says: backend, mode, clusters and their persistence; None before a fit's end."""
    place = directory / "fit.json"
    return json.loads(place.read_text()) if place.exists() else None


def numbers_in(table: pa.Table) -> Any:
    """The ids of a table as numbers."""
    return numbers_of(table["id"].to_pylist())


def _full(values: Any, images: ImageVectors) -> Any:
    """The values of the good images in the places of all."""
    full = np.zeros((len(images.ids), *values.shape[1:]), values.dtype)
    full[images.good] = values
    return full


def _scattered(values: Any, images: ImageVectors) -> pa.Array:
    return pa.array(_full(np.asarray(values), images), mask=~images.good)


def _scattered_lists(values: Any, images: ImageVectors) -> pa.Array:
    full = _full(values, images)
    return pa.FixedSizeListArray.from_arrays(
        pa.array(full.ravel()), full.shape[1], mask=pa.array(~images.good)
    )
