"""What an export holds, and in which form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from engine.errors import RecipeError

Form = Literal["hf", "open_clip", "webdataset", "csv"]
Which = Literal["mined", "original", "both"]


@dataclass(frozen=True)
class ExportSettings:
    """The settings of one export.

    Attributes:
        form: `hf` (Parquet, one row per caption), `webdataset` or `open_clip` (tars, one image with
            its captions), `csv` (tab-separated image paths and captions).
        captions: those that were mined, those that the source came with, or both.
        draw: keep one caption an image, drawn by the run's seed.
        flagged: keep captions that failed a check; their `flag` says which.
        images: `hf` only: a second configuration `images` with the images themselves.
        shard_rows: rows of one Parquet file.
        shard_images: images of one tar, of one Parquet file with images, or of one folder.

    Raises:
        RecipeError: a value is not one of those above.
    """

    form: str
    captions: str = "mined"
    draw: bool = False
    flagged: bool = False
    images: bool = False
    shard_rows: int = 500_000
    shard_images: int = 5_000

    def __post_init__(self) -> None:
        """Refuse what no writer knows."""
        for name, value, known in (("to", self.form, Form), ("captions", self.captions, Which)):
            if value not in get_args(known):
                raise RecipeError(f"--{name} {value}: choose one of {', '.join(get_args(known))}")
        for name in ("shard_rows", "shard_images"):
            if getattr(self, name) < 1:
                raise RecipeError(f"{name}: {getattr(self, name)} is not a number of at least 1")
        if self.images and self.form != "hf":
            raise RecipeError(f"images: the form {self.form} always comes with its images; leave it out")
