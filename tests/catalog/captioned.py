"""Tables that name images and their captions."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

from engine.recipe import Images
from tests.catalog.sets import picture

ROWS = [
    ("images/1.jpg", "a cat", "7"),
    ("images/0.jpg", "a dog", "8"),
    ("images/1.jpg", "a cat on a mat", "9"),
]


def table(path: Path, rows: list[Any], head: tuple[str, ...] = ("filepath", "title", "license")) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",", lineterminator="\n")
        writer.writerows([head, *rows])
    return path


def pictures(folder: Path, count: int = 3) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        (folder / f"{n}.jpg").write_bytes(picture(n))


def tsv(uri: object, **more: Any) -> Images:
    return Images(source="tsv", uri=str(uri), **more)
