"""The sections `images` and `run`: what goes in, and where it comes out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.section import Section

#: What some settings are by default, where it is the source that decides it.
_DEFAULTS = {
    "tsv": {"image_column": "filepath", "caption_column": "title"},  # as open_clip has them
    "karpathy": {"split": "test"},
    "folder": {"caption_from": "sidecar"},
}


class Images(Section):
    """Where the images are. `uri` may hold ranges in braces (`{00000..00117}`) and globs."""

    source: Literal["webdataset", "parquet", "folder", "coco", "karpathy", "poems", "tsv"]
    uri: str | tuple[str, ...]
    annotations: str | None = None  # coco, karpathy, poems: the JSON beside the image folder `uri`
    split: str | tuple[str, ...] | None = None  # karpathy: one or several
    caption_from: Literal["sidecar", "folder_name"] | None = None  # folder: where captions are
    captions_each: int | None = Field(default=None, ge=1)  # the first so many of an image are kept
    image_column: str = "image"  # parquet: binary, or the {bytes, path} struct of Hugging Face; tsv: paths
    caption_column: str | None = None  # parquet: text or list of texts; tsv: text
    key_column: str | None = None  # parquet: defaults to the row number; tsv: to the path without ending
    shard_images: int = Field(default=4096, ge=1)  # where files are listed: so many make one shard
    max_pixels: int = Field(default=100_000_000, ge=1)  # larger images are refused as bombs
    max_side: int = Field(default=1024, ge=8)  # larger images are scaled down for the models
    digest: Literal["content", "index"] = "content"  # index: names, sizes and times only

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_the_source(cls, given: Any) -> Any:
        if isinstance(given, dict) and isinstance(source := given.get("source"), str):
            return {**_DEFAULTS.get(source, {}), **given}
        return given

    @property
    def splits(self) -> tuple[str, ...]:
        """The chosen splits; none where the source has no such thing."""
        return (self.split,) if isinstance(self.split, str) else self.split or ()

    @field_validator("uri")
    @classmethod
    def _uri_is_given(cls, uri: str | tuple[str, ...]) -> str | tuple[str, ...]:
        uris = (uri,) if isinstance(uri, str) else uri
        if not uris or not all(each.strip() for each in uris):
            raise ValueError("is empty; say where the images are")
        return uri

    @model_validator(mode="after")
    def _settings_belong_to_the_source(self) -> Images:
        if (self.source in ("coco", "karpathy", "poems")) != (self.annotations is not None):
            raise ValueError(
                "`annotations` is needed by sources coco, karpathy and poems, and by no other; a table of "
                "files and captions is source: tsv with the table as `uri`"
            )
        if self.source == "karpathy" and not (self.splits and all(self.splits)):
            raise ValueError("`split` is empty; name one, such as test, or several")
        if self.source != "karpathy" and self.split is not None:
            raise ValueError("`split` belongs to source karpathy only; take it out")
        if self.source != "folder" and self.caption_from is not None:
            raise ValueError("`caption_from` belongs to source folder only; take it out")
        return self


class Run(Section):
    """Where the run writes, what it may lose, and how it is cut into parts."""

    out: str | None = None
    seed: int = 0
    part_rows: int = Field(default=256, ge=1)
    part_bytes: int = Field(default=96 * 2**20, ge=1, le=112 * 2**20)  # below Ray's block limit
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    parts_in_flight: int = Field(default=2, ge=1)  # per generation actor
