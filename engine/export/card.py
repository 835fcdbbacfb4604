"""The data set card of a Parquet export: what it holds, and which models made it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import yaml

from engine.export.choice import Counts
from engine.export.mined import MinedRun
from engine.schema import LEVELS

_COLUMNS = """\
| column | meaning |
|---|---|
| `id`, `key` | the image: its id in the run, the same for all its captions; its key in the source |
| `caption`, `source` | the caption; `mined`, or `original` where it came with the image |
| `element` | the salient element of the image that the caption starts from |
| `level`, `distance` | how far the association is from the element: {levels} |
| `association` | the word that the element evokes and the caption contains |
| `attempts`, `flag` | how often the caption was generated; the check that it failed, if any |
| `description` | the dense description of the image |
| `uri`, `offset`, `size` | where the image lies: file, position (in Parquet: the row), bytes |
| `extra` | every other field of the source, as JSON |
"""


def card(run: MinedRun, counts: Counts, images: bool) -> str:
    """The text of README.md: Hugging Face's YAML header, then the description."""
    header = yaml.safe_dump(_header(counts, images), sort_keys=False, allow_unicode=True)
    levels = ", ".join(f"{level} ({number})" for number, level in enumerate(LEVELS, 1))
    return "\n".join(
        [
            f"---\n{header}---\n",
            "# Creative captions, mined with Connote\n",
            f"{counts.captions:,} captions of {counts.images:,} images. {_left_out(counts)}\n",
            "## Captions by level\n",
            _table(("level", "distance", "captions"), _levels(counts)),
            "## Columns\n",
            _COLUMNS.format(levels=levels),
            "## How it was made\n",
            _table(("stage", "model", "backend", "temperature", "fingerprint"), _stages(run)),
            "A fingerprint is the digest of all that decides a stage's output: model, prompt, sampling, "
            "seed, and the stages before it.\n",
            _table(("prompt", "digest"), sorted(run.prompts.items())) if run.prompts else "",
        ]
    )


def _header(counts: Counts, images: bool) -> dict[str, Any]:
    configs: list[dict[str, Any]] = [
        {"config_name": "captions", "default": True, "data_files": _files("data")}
    ]
    header: dict[str, Any] = {
        "pretty_name": "Creative captions",
        "task_categories": ["image-to-text", "text-to-image"],
        "annotations_creators": ["machine-generated"],
        "size_categories": [_size(counts.captions)],
        "tags": ["connote", "associations", "creative-captions"],
    }
    if images:
        configs.append({"config_name": "images", "data_files": _files("images")})
        features = [
            {"name": "id", "dtype": "string"},
            {"name": "key", "dtype": "string"},
            {"name": "image", "dtype": "image"},
        ]
        header["dataset_info"] = [{"config_name": "images", "features": features}]
    return {"configs": configs, **header}


def _files(folder: str) -> list[dict[str, str]]:
    return [{"split": "train", "path": f"{folder}/train-*.parquet"}]


def _size(rows: int) -> str:
    """Hugging Face's name for the order of magnitude."""
    bounds = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    larger = ((10**7, "1M<n<10M"), (10**8, "10M<n<100M"), (10**9, "100M<n<1B"))
    return next((name for bound, name in (*bounds, *larger) if rows < bound), "n>1B")


def _left_out(counts: Counts) -> str:
    flagged, images = sum(counts.flagged.values()), sum(counts.left_out.values())
    return f"Left out: {flagged:,} captions that failed a check, {images:,} images without captions."


def _levels(counts: Counts) -> list[tuple[str, str, str]]:
    rows = [(level, str(number), f"{counts.levels[level]:,}") for number, level in enumerate(LEVELS, 1)]
    return [*rows, ("(original)", "", f"{counts.levels['original']:,}")]


def _stages(run: MinedRun) -> list[Sequence[str]]:
    rows: list[Sequence[str]] = []
    for name, stage in run.recipe.stages():
        generator = run.recipe.generators[stage.generator]
        model, revision = getattr(generator, "model", "none"), getattr(generator, "revision", None)
        named = f"{model} ({revision})" if revision else model
        temperature = str(stage.sampling.temperature)
        rows.append((name, named, generator.backend, temperature, run.fingerprints.get(name, "")))
    return rows


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = (" ".join(cell.split()).replace("|", "\\|") for cell in row)
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"
