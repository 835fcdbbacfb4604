"""Radius curves of several runs in one plot, as the paper's Figure 3, and a table of each."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.errors import StorageError
from engine.maps.curves import Band, CurveOf, curve_table, draw_curves
from engine.polysemy.account import notes
from engine.polysemy.tables import CURVE
from engine.rundir import RunDirectory
from engine.storage import Location

#: What a curve's axis says, by the setting polysemy.radius.
RADIUS = {"neighbours": "nearest images within the radius", "map": "radius on the map"}


def compare_runs(runs: Sequence[RunDirectory], target: Location) -> list[str]:
    """Write curves.png and curves.md of the newest measurement of each run.

    Returns:
        Lines that say what was read and written.

    Raises:
        StorageError: a run has not been measured.
    """
    lines, curves, kinds = [], list[CurveOf](), set[str]()
    found = [newest(run) for run in runs]
    by = _encoders([about for _, about in found])
    for (folder, about), name, encoders in zip(found, _names(runs), by, strict=True):
        table = (folder / "curve.parquet").read_table()
        if not table.schema.equals(CURVE):
            raise StorageError(f"{folder.uri}: holds no radius curve of this version; measure the run again")
        curves += curves_of(table, name, about, encoders)
        kinds.add(about["radius"])
        lines.append(f"{name:<10} {folder.uri}")
    if len(kinds) > 1:
        raise StorageError(
            "the runs' radii count different things (polysemy.radius: neighbours and map), and have no axis "
            "in common; measure them with the same setting"
        )
    (target / "curves.png").write_bytes(draw_curves(curves, RADIUS[kinds.pop()], "Polysemy by radius"))
    (target / "curves.md").write_bytes(curve_table(curves).encode())
    return [*lines, f"written    {target.uri}/curves.png, curves.md"]


def newest(run: RunDirectory) -> tuple[Location, dict[str, Any]]:
    """The directory of the measurement that was finished last, and what its result.json says.

    Raises:
        StorageError: there is none.
    """
    root = run.root / "polysemy"
    places = [root / info.base_name for info in root.entries() if not info.is_file]
    done = [
        (place, json.loads((place / "result.json").read_text()))
        for place in places
        if (place / "result.json").exists()
    ]
    if not done:
        raise StorageError(
            f"{run.root.uri}: no polysemy has been measured there; give its recipe a section polysemy and "
            "run `connote polysemy RECIPE`"
        )
    return max(done, key=lambda found: float(found[1]["finished"]))


def curves_of(table: pa.Table, name: str, about: Mapping[str, Any], by: str = "") -> list[CurveOf]:
    """The curves of a table (schema CURVE), one for each kind of captions.

    Args:
        table: of one run.
        name: of the run.
        about: its result.json.
        by: the encoders that measured it, where they are to be told.
    """
    columns = {key: table[key].to_numpy(zero_copy_only=False) for key in table.schema.names}
    found = []
    for captions in dict.fromkeys(columns["captions"].tolist()):
        rows = np.flatnonzero(columns["captions"] == captions)
        cosine, distance = (
            Band(*(columns[f"{measure}{end}"][rows].astype(float) for end in ("", "_low", "_high")))
            for measure in ("image_cosine", "caption_distance")
        )
        radii = columns["radius"][rows].astype(float)
        told = tuple(notes(about, radii.tolist()))
        whose = f"{name}, {captions} captions" + (f", by {by}" if by else "")
        found.append(CurveOf(whose, radii, cosine, distance, told))
    return found


def _encoders(abouts: Sequence[Mapping[str, Any]]) -> list[str]:
    """What measured each run; empty where all were measured alike.

    Cosines and angles of other encoders have other scales (METHODS B5). Encoders are told apart by
    their digests: a name may stand for other weights in another place, or at another time.
    """
    names = [about.get("encoders", ["unknown encoders"]) for about in abouts]
    digests = [about.get("models", []) for about in abouts]  # none in older results
    differing = {json.dumps(digest or name) for digest, name in zip(digests, names, strict=True)}
    if len(differing) == 1:
        return [""] * len(abouts)
    if len({json.dumps(name) for name in names}) < len(differing):
        both = zip(names, digests, strict=True)
        names = [[*map("{} [{:.6}]".format, name, digest)] or name for name, digest in both]
    return [" and ".join(each) for each in names]


def _names(runs: Sequence[RunDirectory]) -> list[str]:
    """What tells the runs apart: the shortest ends of their paths that differ."""
    paths = [run.root.uri.rstrip("/").split("/") for run in runs]
    for length in range(1, max(map(len, paths), default=1) + 1):
        names = ["/".join(path[-length:]) for path in paths]
        if len(set(names)) == len(names):
            return names
    return [f"{run.root.uri} ({number})" for number, run in enumerate(runs, 1)]
