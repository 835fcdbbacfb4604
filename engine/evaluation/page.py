"""The tables of an evaluation as Markdown, laid out as IMP's Tables 3, 4, 6 and 11 are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from engine.evaluation.cells import cell, table_lines
from engine.evaluation.reference import published_rows
from engine.recipe import Preference, TestSet
from engine.retrieval.figures import ALL, WAYS
from engine.retrieval.preference import PREFERENCE

_WAYS: Final = dict(zip(WAYS, ("image to text", "text to image"), strict=True))
_READING: Final = (
    "Percent, but for ranks and the two scores, with the 95 % interval over draws of images in brackets. "
    "`meanR` and `medR` go over all pairs, `best` ones over the best match of each question. `mAP@R` and "
    "`R-Precision` are those of ECCV Caption; `mAP` is the full average precision, which IMP printed as "
    "mAP@R. Of equal similarities the matches stand last. CLIPScore is the mean similarity of the pairs: "
    "their cosine, or what else a model compares by. AUPRC tells them from pairs that do not match, each "
    "image with a caption of another one where a set names no refused captions, and guessing reaches the "
    "base rate. VQAScore is the mean probability that a vision-language model says that the image shows the "
    "caption."
)

_PREFERENCES: Final = (
    "Percent of texts whose right image is nearer than another image of the same text, with the 95 % "
    "interval over draws of texts; equal similarities count one half. Of a text with several images of a "
    "side all pairs count alike."
)

_Rows = Mapping[tuple[str, ...], Mapping[str, Any]]


def page(table: pa.Table, asked: Sequence[TestSet | Preference]) -> str:
    """All figures of a table with schema FIGURES, and published ones beside them.

    Args:
        table: the figures.
        asked: the sets and preferences that they are of.
    """
    rows = table.to_pylist()
    found = {tuple(row[name] for name in _KEY): row for row in rows}
    parts = ["# Retrieval", _READING]
    for chosen in [each for each in asked if isinstance(each, TestSet)]:
        name = chosen.name
        some = [row for row in rows if row["set"] == name]
        ranked = [row for row in some if row["way"] in WAYS]  # a VQAScore ranks nothing
        models = list(dict.fromkeys(row["model"] for row in ranked))
        printed = published_rows(chosen.reference, name) if chosen.reference else []
        found |= {tuple(row[key] for key in _KEY): row for row in printed}
        parts += [f"## {name}", " ".join([_gallery(ranked), *_told(chosen, some)])]
        for way in WAYS:
            theirs = _models(printed, way, of_category=False)
            parts += [f"### {_WAYS[way]}", _overall(found, name, way, [*models, *theirs], some)]
        for figure in ("CLIPScore", "AUPRC", "VQAScore"):
            both = list(dict.fromkeys(row["model"] for row in [*some, *printed] if row["figure"] == figure))
            if pairs := _pairs(found, name, both, some, figure):
                parts += [f"### {figure}", pairs]
        parts.append(f"![Similarities](similarities-{name}.png)")
        if any(row["figure"] == "AUPRC" for row in some):
            parts[-1] += f" ![AUPRC by category](auprc-{name}.png)"
        categories = [each for each in dict.fromkeys(row["category"] for row in some) if each != ALL]
        for way in WAYS if categories else ():
            both = [*models, *_models(printed, way, of_category=True)]
            parts += [f"### {_WAYS[way]}, by category", _by_category(found, name, way, both, categories)]
    if preferences := [each for each in asked if isinstance(each, Preference)]:
        parts += ["## Preferences", _PREFERENCES, _preferences(rows, preferences)]
    return "\n\n".join(parts) + "\n"


_KEY: Final = ("set", "model", "way", "category", "reading", "figure")


def _models(rows: Sequence[Mapping[str, Any]], way: str, of_category: bool) -> list[str]:
    """The models that have figures of a way, overall or by category."""
    there = (row["model"] for row in rows if row["way"] == way and (row["category"] != ALL) == of_category)
    return list(dict.fromkeys(there))


def _gallery(rows: Sequence[Mapping[str, Any]]) -> str:
    """How many images and texts there are; a line for each model where they differ."""
    told = {row["model"]: (row["images"], row["texts"], row["without"]) for row in rows}
    lines = {
        f"{images:,} images, {texts:,} texts" + (f"; {without:,} images without a vector" if without else "")
        for images, texts, without in told.values()
    }
    return "; ".join(sorted(lines)) + "."


def _told(chosen: TestSet, rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """What a set says of its other pairs and of its categories."""
    counts = {(row["model"], row["figure"]): row["count"] for row in rows if row["category"] == ALL}
    if chosen.negatives:
        # The base rate is one of all pairs, AUPRC counts the matching ones.
        others = {
            count - counts[model, "AUPRC"]
            for (model, figure), count in counts.items()
            if figure == "base rate" and (model, "AUPRC") in counts
        }
        many = " or ".join(f"{count:,}" for count in sorted(others))
        yield f"Pairs that do not match: {many} captions refused for their very image ({chosen.negatives})."
    if chosen.categories:
        there = any(row["category"] != ALL for row in rows)
        said = "labels of the source" if there else "none, since no caption of a pair has a label there"
        yield f"Categories: {said} ({chosen.categories})."


def _overall(found: _Rows, name: str, way: str, models: Sequence[str], rows: Sequence[Any]) -> str:
    figures = list(
        dict.fromkeys(row["figure"] for row in rows if (row["way"], row["category"]) == (way, ALL))
    )
    lines = [
        [model, *(cell(found.get((name, model, way, ALL, "natural", each)), each) for each in figures)]
        for model in models
    ]
    return "\n".join(table_lines(["model", *figures], lines))


def _by_category(found: _Rows, name: str, way: str, models: Sequence[str], categories: Sequence[str]) -> str:
    """A recall and medR of each category, by the paper's denominators and the natural ones."""
    recalls = [key[-1] for key in found if key[:3] == (name, models[0], way) and key[-1].startswith("R@")]
    figures = ("R@5" if "R@5" in recalls else recalls[0], "medR")
    head, lines = ["model", "denominators"], list[list[str]]()
    head += [f"{figure}, {category}" for figure in figures for category in categories]
    for model in models:
        for reading in ("paper", "natural"):
            cells = [
                cell(found.get((name, model, way, category, reading, figure)), figure)
                for figure in figures
                for category in categories
            ]
            # Of published figures there is one reading.
            if set(cells) != {"-"}:
                lines.append([model, reading, *cells])
    return "\n".join(table_lines(head, lines))


def _pairs(
    found: _Rows, name: str, models: Sequence[str], rows: Sequence[Mapping[str, Any]], figure: str
) -> str:
    """CLIPScore, VQAScore, or AUPRC beside the base rate that guessing reaches, of all pairs and by category.

    Args:
        found: all rows.
        name: of the set.
        models: that have the figure, measured or published; those of no category of the set are left out.
        rows: of the set.
        figure: which; without any measured there is no table.
    """
    categories = list(dict.fromkeys(row["category"] for row in rows if row["figure"] == figure))
    head, lines = ["model"], list[list[str]]()
    for category in categories:
        head += [f"{figure}, {category}", *(["base rate"] if figure == "AUPRC" else [])]
    for model in models:
        cells = list[str]()
        for category in categories:
            key = (name, model, "pairs", category, "natural")
            cells.append(cell(found.get((*key, figure)), figure))
            if figure == "AUPRC":
                base = found.get((*key, "base rate"))
                cells.append(f"{100 * base['value']:.1f}" if base else "-")
        if not set(cells) <= {"-"}:
            lines.append([model, *cells])
    return "\n".join(table_lines(head, lines)) if categories else ""


def _preferences(rows: Sequence[Mapping[str, Any]], asked: Sequence[Preference]) -> str:
    """A line for each preference and model."""
    lines = [
        [
            chosen.name,
            row["model"],
            cell(row, PREFERENCE),
            f"{row['count']:,}",
            f"{row['texts'] - row['count']:,}",
            f"{row['images']:,}",
            f"{row['without']:,}",
        ]
        for chosen in asked
        for row in rows
        if (row["set"], row["figure"]) == (chosen.name, PREFERENCE)
    ]
    head = [
        "name",
        "model",
        "preference",
        "texts",
        "texts without a pair",
        "images",
        "images without a vector",
    ]
    return "\n".join(table_lines(head, lines))
