"""Where a measurement of polysemy lies in a run directory, and what its tables hold."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.polysemy.radius import Curve, bootstrap
from engine.rundir import RunDirectory
from engine.storage import Location, digest_settings

#: Raised when the code changes what it writes for the same settings.
CODE_VERSION = 3
_MEASURES = ("image_cosine", "caption_distance", "caption_spread", "caption_variance")

#: One row per radius: the mean over the queries and its 95 % bootstrap interval.
CURVE = pa.schema(
    [
        pa.field("captions", pa.string(), nullable=False),
        pa.field("radius", pa.float64(), nullable=False),
        *(pa.field(f"{name}{end}", pa.float64()) for name in _MEASURES for end in ("", "_low", "_high")),
    ]
)

#: One row per cluster, the most polysemous first; `images` are ids of those that were compared.
CLUSTER_POLYSEMY = pa.schema(
    [
        pa.field("captions", pa.string(), nullable=False),
        pa.field("label", pa.int32(), nullable=False),
        pa.field("polysemy", pa.float64()),
        *(pa.field(name, pa.float64()) for name in _MEASURES),
        pa.field("images", pa.list_(pa.string()), nullable=False),
    ]
)


@dataclass(frozen=True)
class Measurement:
    """RUN/polysemy/<fingerprint>/: curve.parquet, curve.md, curve.png, clusters.parquet, clusters.html."""

    directory: Location
    fingerprint: str

    @classmethod
    def of(cls, run: RunDirectory, decided_by: dict[str, Any]) -> Measurement:
        """The measurement that these settings and fingerprints decide."""
        fingerprint = digest_settings({"job": "polysemy", "code": CODE_VERSION, **decided_by})
        return cls(run.root / "polysemy" / fingerprint, fingerprint)

    @property
    def curve(self) -> Location:
        """The table of the radius curve, schema CURVE."""
        return self.directory / "curve.parquet"

    @property
    def clusters(self) -> Location:
        """The table of the clusters' polysemy, schema CLUSTER_POLYSEMY."""
        return self.directory / "clusters.parquet"

    @property
    def page(self) -> Location:
        """The most polysemous clusters, with examples; only of a run with clusters."""
        return self.directory / "clusters.html"

    @property
    def done(self) -> bool:
        """Whether it was measured to its end."""
        return (self.directory / "result.json").exists()

    def noted(self) -> dict[str, Any]:
        """The content of result.json; empty before it was measured."""
        return json.loads((self.directory / "result.json").read_text()) if self.done else {}

    def finish(self, about: dict[str, Any]) -> None:
        """Write result.json, the last of its files."""
        (self.directory / "result.json").write_bytes(json.dumps(about, indent=1, ensure_ascii=False).encode())


def curve_rows(curves: Sequence[tuple[str, Curve]], seed: int) -> pa.Table:
    """The table of curves, each of some captions (original, mined); schema CURVE."""
    rows: list[dict[str, Any]] = []
    for captions, curve in curves:
        bands = {name: bootstrap(getattr(curve, name), seed=seed) for name in _MEASURES}
        for column, radius in enumerate(curve.radii.tolist()):
            row: dict[str, Any] = {"captions": captions, "radius": radius}
            for name, band in bands.items():
                for end, values in zip(("", "_low", "_high"), band, strict=True):
                    value = float(values[column])
                    row[f"{name}{end}"] = value if np.isfinite(value) else None
            rows.append(row)
    return pa.Table.from_pylist(rows, schema=CURVE)


def joined(curves: Sequence[Curve]) -> Curve:
    """The curves of some queries each, as one."""
    measures = (np.concatenate([getattr(curve, name) for curve in curves]) for name in _MEASURES)
    return Curve(curves[0].radii, *measures)
