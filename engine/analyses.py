"""The jobs over a run's vectors: what each reads, and what decides where its result lies. No Ray in here."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from engine.clustering.tables import Clustering
from engine.embeddings import VectorTables, vector_tables
from engine.export.mined import MinedRun
from engine.polysemy.tables import Measurement
from engine.recipe import Polysemy, Recipe
from engine.rundir import RunDirectory
from engine.storage import Location, digest_of, digest_settings


@dataclass(frozen=True)
class Sources:
    """The tables that a measurement reads: image vectors of two encoders, captions of one."""

    looks: VectorTables
    images: VectorTables
    captions: VectorTables


def sources_of(recipe: Recipe, run: RunDirectory) -> dict[str, Sources]:
    """What `polysemy` reads, for each kind of captions that it asks for.

    Raises:
        RecipeError: the recipe does not make such vectors.
    """
    settings = recipe.polysemy
    assert settings is not None
    image, words = settings.image_encoder, settings.text_encoder
    return {
        text: Sources(
            vector_tables(recipe, run, image, "images", "polysemy.image_encoder"),
            vector_tables(recipe, run, words, "images", "polysemy.text_encoder"),
            vector_tables(recipe, run, words, text, "polysemy.text_encoder"),
        )
        for text in settings.texts
    }


def tables_of(sources: Mapping[str, Sources]) -> list[VectorTables]:
    """All tables among them, each once."""
    first = next(iter(sources.values()))
    return [first.looks, first.images, *(each.captions for each in sources.values())]


def measurement_of(
    recipe: Recipe,
    run: RunDirectory,
    tables: Sequence[VectorTables],
    clustering: Clustering | None,
    plan: pa.Table,
) -> Measurement:
    """Where the polysemy of a run lies: all that decides it decides the name."""
    assert recipe.polysemy is not None
    decided_by = {
        "settings": recipe.polysemy.model_dump(mode="json", exclude={"cpus", "gpus", "show"}),
        "seed": recipe.run.seed,
        "vectors": [table.state(plan) for table in tables],
        "clustering": [clustering.fingerprint, clustering.fitted()] if clustering else None,
        "parts": digest_of(*plan["part"].to_pylist()),
    }
    return Measurement.of(run, decided_by)


def told_by(recipe: Recipe, mined: MinedRun) -> str:
    """A digest of what decides how the clusters are told of: settings, and the captions there are."""
    assert recipe.cluster is not None
    settings = recipe.cluster.model_dump(include={"captions", "terms", "exemplars", "map_points"})
    captions: list[str] = []
    if "caption" in mined.fingerprints:
        tables = mined.tables("caption")
        # A retry may mend some of a part's captions, and leave others.
        failed = json.dumps(list(tables.failures_of(tables.failed())))
        captions = [mined.fingerprints["caption"], *sorted(tables.done()), failed]
    return digest_settings({**settings, "caption": digest_of(*captions), "seed": recipe.run.seed})


def page_by(settings: Polysemy, told: str) -> str:
    """What the page of the most polysemous clusters is made from; `told` is `told_by`."""
    return f"{told} {settings.show}"


def is_made(result: Location, by: str) -> bool:
    """Whether a file is there and was made from what `by` names; see `note_made`."""
    note = Location(f"{result.uri}.by")
    return result.exists() and note.exists() and note.read_text() == by


def note_made(result: Location, by: str) -> None:
    """Keep beside a file what it was made from."""
    Location(f"{result.uri}.by").write_bytes(by.encode())
