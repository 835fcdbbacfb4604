"""Building the catalog in parallel: one Ray task a shard, each committing its own table."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pyarrow as pa
import ray

from engine.catalog import CatalogTables, Catalogued, Shard, Update, discover, first_file, plan_parts
from engine.catalog.tables import is_current
from engine.flow.explain import explain
from engine.flow.progress import Progress
from engine.recipe import Images, Recipe
from engine.rundir import RunDirectory
from engine.storage import Location

#: Scans that are submitted at once; more would only fill the driver's memory.
_IN_FLIGHT = 256
#: Warnings of the same run that are printed; all of them stay in the catalog's tables.
_WARNINGS = 10


def refresh_catalog(
    recipe: Recipe,
    run: RunDirectory,
    start: Callable[[Location], None],
    say: Callable[[str], None],
    retry_failed: bool = False,
) -> pa.Table:
    """Bring the catalog up to date and plan its parts.

    Args:
        recipe: names the source and the size of the parts.
        run: where the catalog lies.
        start: called before the first Ray task, if there is any, with a file that it will read.
        say: told of shards that changed or went, and of warnings.
        retry_failed: scan shards again that have samples which could not be read.

    Returns:
        The plan (schema PLAN), in the order of the shards' names.

    Raises:
        ConnoteError: the source or a shard cannot be read; shards scanned so far are kept.
    """
    tables = CatalogTables(run.catalog)
    shards = discover(recipe.images, run.root)
    known = tables.get_all(shards)
    for name in tables.gone(shards):
        say(f"shard {name} is not in the source any more: its samples are left out")
    current = {shard.name for shard in shards if shard.name in known and is_current(known[shard.name], shard)}
    if retry_failed:
        current -= {name for name in current if known[name].failed}
    open_shards = [shard for shard in shards if shard.name not in current]
    if open_shards:
        start(first_file(open_shards[0]))
        known |= _scan_all(tables, open_shards, recipe.images, say)
    catalogued = [known[shard.name] for shard in shards]
    _warn(catalogued, say)
    limits = recipe.run.part_rows, recipe.run.part_bytes
    return plan_parts(run.catalog, catalogued, *limits, kept=run.kept_plan())


def _scan_all(
    tables: CatalogTables, shards: Sequence[Shard], images: Images, say: Callable[[str], None]
) -> dict[str, Catalogued]:
    progress = Progress("catalog", len(shards), "shards")
    found: dict[str, Catalogued] = {}
    for update in _updates(tables, shards, images):
        found[update.shard.name] = update.shard
        if update.change:
            say(update.change)
        progress.add(1, update.shard.failed)
    progress.close()
    return found


def _updates(tables: CatalogTables, shards: Sequence[Shard], images: Images) -> Iterator[Update]:
    task = ray.remote(CatalogTables.scan)
    waiting = list(reversed(shards))
    running = [task.remote(tables, waiting.pop(), images) for _ in shards[:_IN_FLIGHT]]
    try:
        while running:
            done, running = ray.wait(running)
            yield from ray.get(done)
            if waiting:
                running.append(task.remote(tables, waiting.pop(), images))
    except Exception as error:
        raise explain(error) from error


def _warn(catalogued: Sequence[Catalogued], say: Callable[[str], None]) -> None:
    warnings = [warning for shard in catalogued for warning in shard.warnings]
    for warning in warnings[:_WARNINGS]:
        say(f"warning: {warning}")
    if len(warnings) > _WARNINGS:
        say(f"warning: and {len(warnings) - _WARNINGS} more; the catalog's tables hold them all")
