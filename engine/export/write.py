"""`connote export`: from a run directory to the files that other tools read."""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from itertools import islice

from engine.errors import RecipeError
from engine.export.card import card
from engine.export.choice import Counts, chosen_samples
from engine.export.mined import MinedRun, open_run
from engine.export.parquet import write_captions, write_images
from engine.export.settings import ExportSettings
from engine.export.target import Target, writing
from engine.export.tars import write_tars
from engine.export.tsv import TABLE, lies_in_files, write_tsv
from engine.rundir import RunDirectory


def export_run(directory: RunDirectory, target: str, settings: ExportSettings) -> Iterator[str]:
    """Write a run's captions to a new directory; replaces an earlier export that lies there.

    The target holds the earlier export, or nothing, until the new one is whole.

    Args:
        directory: the run; it need not be finished, what is committed is exported.
        target: a local directory.
        settings: the form, and which captions.

    Yields:
        Lines for the user: what was written, what was left out and why, how to use it.

    Raises:
        RecipeError: the target holds anything else, or the run has no such captions.
        StorageError: the run or an image cannot be read, or the target cannot be written.
    """
    run = open_run(directory)
    if settings.captions != "original" and "caption" not in run.fingerprints:
        raise RecipeError(
            f"{directory.root.uri}: its recipe has no section caption, so there are no mined captions; add "
            "the section, or use --captions original"
        )
    samples = sum(row["rows"] for row in run.parts())
    yield f"exporting {samples:,} samples of {directory.root.uri}"
    counts = Counts()
    with writing(target) as place:
        hints = _write(run, place, settings, counts)
        place.facts = {"connote_export": 1, "settings": asdict(settings), "counts": counts.to_dict()}
    yield f"{counts.captions:,} captions of {counts.images:,} images written to {place.final}"
    yield from _report(counts)
    yield from hints


def _write(run: MinedRun, place: Target, settings: ExportSettings, counts: Counts) -> list[str]:
    match settings.form:
        case "hf":
            return _write_hf(run, place, settings, counts)
        case "csv":
            return _write_csv(run, place, settings, counts)
        case _:
            return _write_tars(run, place, settings, counts)


def _write_hf(run: MinedRun, place: Target, settings: ExportSettings, counts: Counts) -> list[str]:
    chosen = chosen_samples(run, settings, counts, settings.images)
    samples = write_captions(chosen, place.work / "data", settings.shard_rows, counts)
    if settings.images:
        write_images(samples, place.work / "images", settings.shard_images)
    else:
        for _ in samples:
            pass
    (place.work / "README.md").write_text(card(run, counts, settings.images), encoding="utf-8")
    return [f'open it with: datasets.load_dataset("{place.final}", split="train")']


def _write_csv(run: MinedRun, place: Target, settings: ExportSettings, counts: Counts) -> list[str]:
    chosen = chosen_samples(run, settings, counts, images=not lies_in_files(run))
    copied = write_tsv(chosen, place, settings.shard_images, counts)
    files = f"{copied:,} images were copied to {place.final / 'images'}"
    table = shlex.quote(str(place.final / TABLE))
    return [
        files if copied else "the images stay where they are; the table names their files",
        f"train on it with: python -m open_clip_train.main --dataset-type csv --train-data {table}",
    ]


def _write_tars(run: MinedRun, place: Target, settings: ExportSettings, counts: Counts) -> list[str]:
    chosen = chosen_samples(run, settings, counts, images=True)
    sizes = write_tars(chosen, place.work, settings.shard_images, counts)
    names = sorted(sizes)
    braces = names[0] if len(names) == 1 else f"{{{names[0][:-4]}..{names[-1][:-4]}}}.tar" if names else ""
    shards = shlex.quote(str(place.final / braces))
    if settings.form == "webdataset":
        return [f"read them with: webdataset.WebDataset({shards!r})"] if names else []
    (place.work / "sizes.json").write_text(json.dumps(sizes, indent=1, sort_keys=True), encoding="utf-8")
    return [
        "each sample trains with its .txt, one caption drawn by seed; all of them are in its .json",
        f"train on them with: python -m open_clip_train.main --dataset-type webdataset --train-data {shards} "
        f"--train-num-samples {counts.images} --workers {min(4, len(names))}",
        "  (with webdataset <= 0.2.86, as open_clip_torch[training] installs it)",
    ]


def _report(counts: Counts) -> Iterator[str]:
    if counts.levels:
        yield "  by level: " + _list(counts.levels, len(counts.levels))
    if counts.flagged:
        total = sum(counts.flagged.values())
        yield f"  left out: {total:,} captions that failed a check ({_list(counts.flagged)})"
    if counts.left_out:
        total = sum(counts.left_out.values())
        yield f"  left out: {total:,} images without captions ({_list(counts.left_out)})"


def _list(counter: Counter[str], most: int = 5) -> str:
    """The most common entries with their counts; ties by name, so that equal runs print equally."""
    ordered = sorted(counter.items(), key=lambda item: (-item[1], item[0]))
    text = ", ".join(f"{name} {count:,}" for name, count in islice(ordered, most))
    return text + (f", {len(ordered) - most} more reasons" if len(ordered) > most else "")
