"""What a run's clusters and curves look like: map.png, map.html, curve.png, curve.md, clusters.html.

Each is drawn by a task, since the coordinates of all images need not fit the driver.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.clustering.drawing import bar, drawn, lots
from engine.clustering.fold import names_of
from engine.clustering.tables import Clustering, numbers_in
from engine.export.mined import MinedRun
from engine.flow.glimpses import Glimpse, glimpses
from engine.flow.spread import each, results, slices
from engine.maps.curves import curve_table, draw_curves
from engine.maps.gallery import Exhibit, write_gallery
from engine.maps.points import Points
from engine.polysemy.compare import RADIUS, curves_of
from engine.polysemy.tables import Measurement
from engine.recipe import Polysemy
from engine.rundir import RunDirectory

#: Points of the picture at most; more of them are one blot.
_MOST_POINTS = 1_000_000
#: Images and captions of an exhibit.
_SHOWN = 6
_NO_CLUSTERS = (
    "no clusters: the recipe has no section cluster, or all images are noise (lower cluster.min_cluster_size)"
)


def draw_map(mined: MinedRun, place: Clustering, plan: Sequence[Mapping[str, Any]]) -> None:
    """map.png and map.html of a clustering."""
    from engine.maps.cluster_map import draw_png
    from engine.maps.cluster_page import Hover, write_html

    settings, seed = mined.recipe.cluster, mined.recipe.run.seed
    assert settings is not None
    names = names_of(place.clusters.read_table())
    # A few more than are drawn: by chance some slices have fewer of the lowest lots.
    limit = bar(1.1 * _MOST_POINTS / max(place.noted()["images"], 1))
    pieces = results(each(slices([row["part"] for row in plan]), _points_of, place, seed, limit))
    table = pa.concat_tables(pieces)
    order = drawn(table["number"].to_numpy(), seed, _MOST_POINTS)
    table = table.take(order)
    points = Points(*(table[name].to_numpy() for name in ("x", "y", "label", "strength")))
    title = f"{_name(mined.directory)}: {place.noted()['images']:,} images by {settings.encoder}"
    (place.directory / "map.png").write_bytes(draw_png(points, names, title))
    numbers = table["number"].to_numpy()[: settings.map_points]
    known = glimpses(numbers, mined, plan, place)
    shown = [known.get(int(number)) or Glimpse("?", (), (), None) for number in numbers]
    hover = Hover([one.key for one in shown], [one.captions for one in shown], [one.picture for one in shown])
    few = points.take(np.arange(len(numbers)))
    (place.directory / "map.html").write_bytes(write_html(few, hover, names, title).encode())


def _points_of(parts: Sequence[str], place: Clustering, seed: int, limit: np.uint64) -> pa.Table:
    """The places of those images of some parts whose lots are not above a limit."""
    columns = ["x", "y", "label", "strength"]
    table = pa.concat_tables(place.read(part, ("id", *columns)).drop_null() for part in parts)
    numbers = numbers_in(table)
    chosen = np.flatnonzero(lots(numbers, seed) <= limit)
    return table.select(columns).take(chosen).append_column("number", pa.array(numbers[chosen]))


def draw_curve(run: RunDirectory, place: Measurement, settings: Polysemy) -> None:
    """curve.png and curve.md of a measurement."""
    curves = curves_of(place.curve.read_table(), _name(run), place.noted())
    axis = RADIUS[settings.radius]
    (place.directory / "curve.png").write_bytes(draw_curves(curves, axis, "Polysemy by radius"))
    (place.directory / "curve.md").write_bytes(curve_table(curves).encode())


def draw_clusters(
    mined: MinedRun, place: Measurement, clustering: Clustering, plan: Sequence[Mapping[str, Any]]
) -> None:
    """clusters.html: the most polysemous clusters with examples."""
    settings = mined.recipe.polysemy
    assert settings is not None
    rows = place.clusters.read_table().to_pylist()
    names = names_of(clustering.clusters.read_table())
    best = [
        row
        for text in dict.fromkeys(row["captions"] for row in rows)
        for row in [one for one in rows if one["captions"] == text][: settings.show]
    ]
    wanted = {int(name, 16) for row in best for name in row["images"][:_SHOWN]}
    known = glimpses(np.array(sorted(wanted), np.uint64), mined, plan, clustering)
    page = write_gallery(
        [_exhibit(row, names, known) for row in best], "The most polysemous clusters", _NO_CLUSTERS
    )
    (place.directory / "clusters.html").write_bytes(page.encode())


def _exhibit(row: Mapping[str, Any], names: Mapping[int, str], known: Mapping[int, Glimpse]) -> Exhibit:
    shown = [known[number] for name in row["images"][:_SHOWN] if (number := int(name, 16)) in known]
    captions = [caption for one in shown for caption in getattr(one, row["captions"])[:2]]
    lines = [
        f"polysemy {_figure(row['polysemy'])} among the clusters of this run ({row['captions']} captions)",
        f"image cosine {_figure(row['image_cosine'])}, geodesic distance to captions "
        f"{_figure(row['caption_distance'])} rad, between captions {_figure(row['caption_spread'])} rad",
    ]
    pictures = [one.picture for one in shown if one.picture is not None]
    return Exhibit(names.get(row["label"], f"cluster {row['label']}"), lines, pictures, captions)


def _name(run: RunDirectory) -> str:
    return run.root.name or "run"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
