"""The polysemy job on Ray: neighbours of the queries, the radius curve, and each cluster's polysemy."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pyarrow as pa
import ray
from numpy.typing import NDArray

from engine.analyses import measurement_of, sources_of, tables_of
from engine.clustering.drawing import drawn
from engine.clustering.tables import Clustering, numbers_in
from engine.embeddings import check_complete
from engine.encoders import EncoderName
from engine.flow.members import Members, collect, gather
from engine.flow.neighbourhood import MAP_NEIGHBOURS, Neighbourhood, neighbours_of_queries
from engine.flow.spread import call, each, results, slices
from engine.polysemy.account import Gaps, Queries, account, check_captions, left_out, notes
from engine.polysemy.clusters import measure_cluster, polysemy_rank
from engine.polysemy.radius import Curve, radius_curve
from engine.polysemy.tables import CLUSTER_POLYSEMY, Measurement, curve_rows, joined
from engine.recipe import Polysemy, Recipe
from engine.rundir import RunDirectory

#: Images that the queries, or the clusters, of one task want: some 50 MB of vectors.
_ROWS = 4096


def measure_polysemy(
    recipe: Recipe,
    run: RunDirectory,
    clustering: Clustering | None,
    start_ray: Callable[[], None],
    say: Callable[[str], None],
) -> Measurement:
    """Measure a run, unless that was done before; see `engine.flow.clustering.cluster_images`.

    Raises:
        RecipeError: vectors are missing, or too few images or captions have any; nothing is written then.
        StorageError: the run directory fails.
    """
    settings = recipe.polysemy
    assert settings is not None
    sources = sources_of(recipe, run)
    first, tables = sources[settings.texts[0]], tables_of(sources)
    plan = check_complete(tables, run.read_plan())
    parts = plan["part"].to_pylist()
    place = measurement_of(recipe, run, tables, clustering, plan)
    if place.done:
        return place
    start_ray()
    rows = sum(plan["rows"].to_pylist())
    count, radii = min(settings.queries, rows), ", ".join(f"{radius:g}" for radius in settings.radii)
    say(f"measuring  {count:,} queries at radii {radii}")
    neighbours, drawn_queries = neighbours_of_queries(
        settings, first.looks, clustering, parts, rows, recipe.run.seed
    )
    queries = Queries(drawn_queries, len(neighbours.queries))
    queries.check(settings)
    groups = _cluster_groups(settings, clustering, parts, recipe.run.seed)
    some, bunches = neighbours.batches(_ROWS), _bunches(groups, settings)
    wanted = [
        *(each_.wanted() for each_ in some),
        *(np.unique(np.concatenate([*b.values()])) for b in bunches),
    ]
    curves, found, gaps = [], list[dict[str, Any]](), dict[str, Gaps]()
    for text, source in sources.items():
        pieces, gaps[text] = gather(wanted, source, parts)
        curve = _curve(some, pieces[: len(some)], settings)
        queries = replace(queries, measured=len(curve.image_cosine))
        queries.check(settings)
        check_captions(curve, gaps[text], text, settings)
        curves.append((text, curve))
        found += _clusters(bunches, pieces[len(some) :], text)
    place.curve.write_table(curve_rows(curves, recipe.run.seed))
    place.clusters.write_table(pa.Table.from_pylist(found, schema=CLUSTER_POLYSEMY))
    cut = neighbours.cut(settings.radii)
    if cut:
        say(
            f"           {cut:,} queries have more than {MAP_NEIGHBOURS:,} images within the largest "
            "radius; their nearest are measured"
        )
    counted = account(queries, neighbours.others(), gaps, settings)
    for line in [*notes(counted, settings.radii), *left_out(counted)]:
        say(f"           {line}")
    about = {"cut": cut, "clusters": len(groups), "radius": settings.radius, "finished": time.time()}
    names = [settings.image_encoder, settings.text_encoder]
    models = [EncoderName.parse(name).digest() for name in names]
    place.finish({**counted, **about, "encoders": names, "models": models})
    return place


def _curve(some: Sequence[Neighbourhood], pieces: Sequence[Any], settings: Polysemy) -> Curve:
    batches = list(zip(some, pieces, strict=True))
    return joined(results(each(batches, _measure_queries, settings.radii, cpus=settings.cpus)))


def _measure_queries(batch: tuple[Neighbourhood, list[Any]], radii: Sequence[float]) -> Curve:
    some, members = batch[0], collect(batch[1])
    own, near = members.rows(some.queries), members.rows(some.near)
    # Both lines of the curve are of the same queries: those whose distance to captions is known.
    there = members.seen[own]
    own, near = own[there], near[there]
    cosines = _cosines(members, own, near) if some.cosines is None else some.cosines[there]
    distances = None if some.distances is None else some.distances[there]
    images = members.images[own]
    return radius_curve(own, near, cosines, images, members.captions, radii, distances)


def _cosines(members: Members, own: NDArray[np.int64], near: NDArray[np.int64]) -> NDArray[np.float64]:
    """(q, k); nan where a neighbour has a place on the map, and no vector here."""
    looks = members.looks
    # Query by query: all at once, neighbours' vectors would take gigabytes.
    cosines = np.empty(near.shape)
    for row, (query, others) in enumerate(zip(own.tolist(), near, strict=True)):
        cosines[row] = looks[others].astype(np.float64) @ looks[query].astype(np.float64)
    return np.where(members.looked[near], cosines, np.nan)


def _cluster_groups(
    settings: Polysemy, clustering: Clustering | None, parts: Sequence[str], seed: int
) -> dict[int, NDArray[np.uint64]]:
    """Some images of each cluster, by its label: those with the lowest lots."""
    if clustering is None:
        return {}
    pieces = each(slices(parts), _draw_clusters, clustering, seed, settings.cluster_rows)
    groups: dict[int, NDArray[np.uint64]] = call(_join_groups, pieces, seed, settings.cluster_rows)
    return groups


def _draw_clusters(
    parts: Sequence[str], clustering: Clustering, seed: int, count: int
) -> dict[int, NDArray[np.uint64]]:
    found: list[dict[int, NDArray[np.uint64]]] = []
    for part in parts:
        table = clustering.read(part, ("id", "label")).drop_null()
        numbers, label = numbers_in(table), table["label"].to_numpy()
        found.append({int(name): numbers[label == name] for name in np.unique(label) if name >= 0})
    return _join_groups(found, seed, count)


def _join_groups(pieces: Sequence[Any], seed: int, count: int) -> dict[int, NDArray[np.uint64]]:
    whole: dict[int, list[NDArray[np.uint64]]] = {}
    for piece in pieces:
        there = ray.get(piece) if isinstance(piece, ray.ObjectRef) else piece
        for label, numbers in there.items():
            whole.setdefault(label, []).append(numbers)
    groups = {}
    for label, found in sorted(whole.items()):
        numbers = np.concatenate(found)
        groups[label] = numbers[drawn(numbers, seed, count)]
    return groups


def _bunches(
    groups: dict[int, NDArray[np.uint64]], settings: Polysemy
) -> list[dict[int, NDArray[np.uint64]]]:
    """Clusters that one task measures."""
    return [dict(some) for some in slices(list(groups.items()), -(-_ROWS // settings.cluster_rows))]


def _clusters(
    bunches: Sequence[dict[int, NDArray[np.uint64]]], pieces: Sequence[Any], text: str
) -> list[dict[str, Any]]:
    """The rows of the clusters' table, the most polysemous first."""
    batches = list(zip(bunches, pieces, strict=True))
    rows = [row for batch in results(each(batches, _measure_clusters)) for row in batch]
    ranks = polysemy_rank(
        *(np.array([row[name] for row in rows]) for name in ("image_cosine", "caption_distance"))
    )
    for row, rank in zip(rows, ranks.tolist(), strict=True):
        row |= {"captions": text, "polysemy": rank}
    known = [{name: None if value != value else value for name, value in row.items()} for row in rows]
    return sorted(known, key=lambda row: (row["polysemy"] is None, -(row["polysemy"] or 0.0), row["label"]))


def _measure_clusters(batch: tuple[dict[int, NDArray[np.uint64]], list[Any]]) -> list[dict[str, Any]]:
    groups, members = batch[0], collect(batch[1])
    rows, both = [], members.looked & members.seen
    for label, numbers in groups.items():
        at = members.rows(numbers)
        numbers, at = numbers[both[at]], at[both[at]]
        some = members.take(np.sort(at))
        measured = measure_cluster(some.looks, some.images, some.captions)
        rows.append({"label": label, "images": [f"{n:016x}" for n in numbers.tolist()], **vars(measured)})
    return rows
