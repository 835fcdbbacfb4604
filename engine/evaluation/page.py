"""The tables of an evaluation as Markdown, laid out as IMP's Tables 3 and 4 are."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import pyarrow as pa

from engine.evaluation.reference import published_rows
from engine.retrieval.figures import ALL, WAYS

_WAYS: Final = dict(zip(WAYS, ("image to text", "text to image"), strict=True))
#: Figures that are no shares, and so not shown as percent: places in a ranking, and a similarity.
_PLAIN: Final = ("meanR", "medR", "best meanR", "best medR", "CLIPScore")
_READING: Final = (
    "Percent, but for ranks and CLIPScore, with the 95 % interval over draws of images in brackets. "
    "`meanR` and `medR` go over all pairs, `best` ones over the best match of each question. `mAP@R` and "
    "`R-Precision` are those of ECCV Caption; `mAP` is the full average precision, which IMP printed as "
    "mAP@R. Of equal similarities the matches stand last. CLIPScore is the mean similarity of the pairs: "
    "their cosine, or what else a model compares by; "
    "AUPRC tells them from each image with a caption of another one, and guessing reaches the base rate."
)

_Rows = Mapping[tuple[str, ...], Mapping[str, Any]]


def page(table: pa.Table, references: Mapping[str, str]) -> str:
    """All figures of a table with schema FIGURES, and published ones beside them.

    Args:
        table: the figures.
        references: of the sets that have any, which paper's figures they are shown beside.
    """
    rows = table.to_pylist()
    found = {tuple(row[name] for name in _KEY): row for row in rows}
    parts = ["# Retrieval", _READING]
    for name in dict.fromkeys(row["set"] for row in rows):
        some = [row for row in rows if row["set"] == name]
        models = list(dict.fromkeys(row["model"] for row in some))
        printed = published_rows(references[name], name) if name in references else []
        found |= {tuple(row[key] for key in _KEY): row for row in printed}
        parts += [f"## {name}", _gallery(some)]
        for way in WAYS:
            theirs = _models(printed, way, of_category=False)
            parts += [f"### {_WAYS[way]}", _overall(found, name, way, [*models, *theirs], some)]
        theirs = list(dict.fromkeys(row["model"] for row in printed if row["way"] == "pairs"))
        parts += ["### Pairs", _pairs(found, name, [*models, *theirs], some)]
        parts.append(f"![Similarities](similarities-{name}.png)")
        if any(row["figure"] == "AUPRC" for row in some):
            parts[-1] += f" ![AUPRC by category](auprc-{name}.png)"
        categories = [each for each in dict.fromkeys(row["category"] for row in some) if each != ALL]
        for way in WAYS if categories else ():
            both = [*models, *_models(printed, way, of_category=True)]
            parts += [f"### {_WAYS[way]}, by category", _by_category(found, name, way, both, categories)]
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


def _overall(found: _Rows, name: str, way: str, models: Sequence[str], rows: Sequence[Any]) -> str:
    figures = list(
        dict.fromkeys(row["figure"] for row in rows if (row["way"], row["category"]) == (way, ALL))
    )
    lines = [
        [model, *(_cell(found.get((name, model, way, ALL, "natural", each)), each) for each in figures)]
        for model in models
    ]
    return "\n".join(_table(["model", *figures], lines))


def _by_category(found: _Rows, name: str, way: str, models: Sequence[str], categories: Sequence[str]) -> str:
    """A recall and medR of each category, by the paper's denominators and the natural ones."""
    recalls = [key[-1] for key in found if key[:3] == (name, models[0], way) and key[-1].startswith("R@")]
    figures = ("R@5" if "R@5" in recalls else recalls[0], "medR")
    head, lines = ["model", "denominators"], list[list[str]]()
    head += [f"{figure}, {category}" for figure in figures for category in categories]
    for model in models:
        for reading in ("paper", "natural"):
            cells = [
                _cell(found.get((name, model, way, category, reading, figure)), figure)
                for figure in figures
                for category in categories
            ]
            # Of published figures there is one reading.
            if set(cells) != {"-"}:
                lines.append([model, reading, *cells])
    return "\n".join(_table(head, lines))


def _pairs(found: _Rows, name: str, models: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> str:
    """CLIPScore and AUPRC of all pairs and of each category, with the base rate that guessing reaches."""
    categories = list(dict.fromkeys(row["category"] for row in rows if row["way"] == "pairs"))
    head, lines = ["model"], [[model] for model in models]
    for figure in ("CLIPScore", "AUPRC"):
        for category in categories:
            head += [f"{figure}, {category}", *(["base rate"] if figure == "AUPRC" else [])]
            for line in lines:
                key = (name, line[0], "pairs", category, "natural")
                line.append(_cell(found.get((*key, figure)), figure))
                if figure == "AUPRC":
                    base = found.get((*key, "base rate"))
                    line.append(f"{100 * base['value']:.1f}" if base else "-")
    return "\n".join(_table(head, lines))


def _cell(row: Mapping[str, Any] | None, figure: str) -> str:
    if row is None or row["value"] is None:
        return "-"
    if row["low"] is None and row["high"] is None:
        return f"{row['value']:,.4g}" if figure in _PLAIN else f"{100 * row['value']:.1f}"
    if figure in _PLAIN:
        return f"{row['value']:,.4g} [{_end(row['low'], 1)}, {_end(row['high'], 1)}]"
    return f"{100 * row['value']:.1f} [{_end(row['low'], 100)}, {_end(row['high'], 100)}]"


def _end(value: float | None, times: int) -> str:
    if value is None:
        return "-"
    return f"{times * value:.1f}" if times > 1 else f"{value:,.4g}"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> Iterator[str]:
    yield f"| {' | '.join(head)} |"
    yield f"|{'---|' * len(head)}"
    for line in lines:
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |"
