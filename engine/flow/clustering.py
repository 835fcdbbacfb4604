"""The clustering job on Ray: draw a sample, fit it, place the rest, sum up, draw the map.

Vectors travel between the tables, tasks and workers; the driver sees counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa
import ray

from engine.analyses import told_by
from engine.clustering.backend import choose
from engine.clustering.fitted import Fit, Placer, check_rows, fit
from engine.clustering.fold import COLUMNS, Sums
from engine.clustering.tables import Clustering, read_about
from engine.device import device_of
from engine.embeddings import VectorTables, check_complete, vector_tables
from engine.errors import StorageError
from engine.export.mined import MinedRun, SampleReader, open_run
from engine.flow.drawn import draw_vectors, lowest
from engine.flow.progress import Progress
from engine.flow.spread import call, each, slices, spread, start
from engine.recipe import Cluster, Recipe
from engine.rundir import RunDirectory

#: Sums that one task joins.
_FAN_IN = 16


def cluster_images(
    recipe: Recipe, run: RunDirectory, start_ray: Callable[[], None], say: Callable[[str], None]
) -> Clustering:
    """Cluster the images of a run, going on where an earlier one stopped.

    Args:
        recipe: with the section `cluster`.
        run: whose images; all must have their vectors.
        start_ray: called before something is computed.
        say: takes the messages for the user.

    Raises:
        RecipeError: there are no vectors, too few, or no such backend; nothing is written then.
        StorageError: the run directory fails; finished parts are kept.
    """
    settings = recipe.cluster
    assert settings is not None
    vectors = vector_tables(recipe, run, settings.encoder, "images", "cluster.encoder")
    plan = check_complete([vectors], run.read_plan())
    place = Clustering.of(run, recipe, vectors, plan)
    rows = sum(plan["rows"].to_pylist())
    check_rows(min(rows, settings.fit_rows), settings)
    mined = open_run(run, recipe)
    done, by = place.tables.done(), told_by(recipe, mined)
    todo = [part for part in plan["part"].to_pylist() if part not in done]
    if not todo and place.noted().get("told_by") == by:
        return place
    made = (place.fit / "fit.json").exists()
    if done and not made:  # another fit has other clusters
        raise _gone(place)
    start_ray()
    if not made:
        say(f"clustering {min(rows, settings.fit_rows):,} of {rows:,} images; libraries compile for a minute")
        about = _fit(plan, vectors, place, recipe, rows)
        say(f"{about['clusters']:,} clusters by {about['backend']} ({about['mode']})")
        if not about["clusters"]:
            say(
                f"           all are noise: no {settings.min_cluster_size} images lie close together; lower "
                "cluster.min_cluster_size (a few hundred images have clusters of 5 or 10)"
            )
    if todo:
        _place(todo, vectors, place, settings, rows)
    result = _sum_up(plan, mined, place, recipe, by)
    if result["excluded"]:
        count = sum(result["excluded"].values())
        say(f"           {count:,} images have no vector and no place: {_listed(result)}")
    return place


def _fit(
    plan: pa.Table, vectors: VectorTables, place: Clustering, recipe: Recipe, rows: int
) -> dict[str, Any]:
    settings, seed = recipe.cluster, recipe.run.seed
    assert settings is not None
    drawings = draw_vectors(vectors, plan["part"].to_pylist(), rows, seed, settings.fit_rows)
    made: dict[str, Any] = call(
        _fit_and_save, drawings, place, settings, seed, cpus=settings.cpus, gpus=settings.gpus
    )
    return made


def _fit_and_save(drawings: list[Any], place: Clustering, settings: Cluster, seed: int) -> dict[str, Any]:
    device_of(settings.gpus, "cluster.gpus")  # before anything takes long
    backend = choose(settings.backend, settings.gpus)
    made = fit(*lowest(drawings, seed, settings.fit_rows), settings, backend, seed)
    made.save(place.fit)
    return made.about


class _PlaceWorker:
    """Places the images of a part among those of the fit, and commits its table.

    Args:
        made: a list of one reference to the fit, which is fetched with the first part.
    """

    def __init__(self, made: list[Any], vectors: VectorTables, place: Clustering, settings: Cluster) -> None:
        self._made, self._settings = made, settings
        self._vectors, self._place = vectors, place
        self._placer: Placer | None = None

    def work(self, part: str) -> int:
        """How many images the part has."""
        if self._placer is None:
            self._placer = Placer(ray.get(self._made[0]), self._settings)
        images = self._vectors.images(part)
        placed, fitted = self._placer.place(images.numbers[images.good], images.vectors[images.good])
        self._place.commit(part, images, placed, fitted)
        return len(images.ids)


def _read_fit(place: Clustering) -> Fit:
    if (made := Fit.read(place.fit)) is None:
        raise _gone(place)
    return made


def _gone(place: Clustering) -> StorageError:
    return StorageError(
        f"{place.fit.uri}: the fit by which images were placed is gone; delete {place.directory.uri} and "
        "run again"
    )


def _place(
    parts: Sequence[str], vectors: VectorTables, place: Clustering, settings: Cluster, rows: int
) -> None:
    made, progress = start(_read_fit, place), Progress("placing", rows)
    arguments = ([made], vectors, place, settings)
    for count in spread(parts, _PlaceWorker, arguments, settings.actors, settings.cpus, settings.gpus):
        progress.add(count)
    progress.close()


def _sum_up(plan: pa.Table, mined: MinedRun, place: Clustering, recipe: Recipe, by: str) -> dict[str, Any]:
    settings = recipe.cluster
    assert settings is not None
    parts = slices(plan.to_pylist())
    sums = each(parts, _sum_slice, mined.bare(), place, settings, recipe.run.seed)
    while len(sums) > 1:
        sums = each(slices(sums, _FAN_IN), _join, settings)
    result: dict[str, Any] = call(_write_clusters, sums[0], place, settings, by)
    return result


def _sum_slice(
    parts: Sequence[Mapping[str, Any]], mined: MinedRun, place: Clustering, settings: Cluster, seed: int
) -> Sums:
    reader, sums = SampleReader(mined), Sums()
    for row in parts:
        samples = reader.part(row)
        captions = [texts_of(sample, settings.captions) for sample in samples]
        sums.add(place.read(row["part"], COLUMNS), captions, settings, seed)
    return sums


def _join(sums: Sequence[Any], settings: Cluster) -> Sums:
    total = Sums()
    for reference in sums:
        total.join(ray.get(reference), settings)
    return total


def _write_clusters(total: Sums, place: Clustering, settings: Cluster, by: str) -> dict[str, Any]:
    about = read_about(place.fit) or {}
    place.clusters.write_table(total.table(about.pop("persistence"), settings))
    result = {
        **about,
        "told_by": by,
        "images": total.rows.total(),
        "noise": total.rows.get(-1, 0),
        "excluded": dict(total.excluded.most_common(100)),
    }
    place.note(result)
    return result


def texts_of(sample: Any, which: str) -> list[str]:
    """The captions of a sample: original, mined, or both; without those that could not be written."""
    mined = [item["caption"] for item in sample.creative_captions or () if item["caption"]]
    return [*(sample.captions if which != "mined" else ()), *(mined if which != "original" else ())]


def _listed(result: Mapping[str, Any]) -> str:
    return ", ".join(f"{count:,} x {reason}" for reason, count in Counter(result["excluded"]).most_common(3))
