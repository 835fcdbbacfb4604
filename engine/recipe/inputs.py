"""The sections `images` and `run`: what goes in, and where it comes out."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from engine.recipe.section import Section


class Images(Section):
    """Where the images are. `uri` may hold ranges in braces (`{00000..00117}`) and globs."""

    source: Literal["webdataset", "parquet", "folder", "coco", "tsv"]
    uri: str | tuple[str, ...]
    annotations: str | None = None  # coco: the captions_*.json beside the image folder `uri`
    image_column: str = "image"  # parquet: binary, or the {bytes, path} struct of Hugging Face; tsv: paths
    caption_column: str | None = None  # parquet: text or list of texts; tsv: text
    key_column: str | None = None  # parquet: defaults to the row number; tsv: to the path without ending
    shard_images: int = Field(default=4096, ge=1)  # folder, coco, tsv: files that make one shard
    max_pixels: int = Field(default=100_000_000, ge=1)  # larger images are refused as bombs
    max_side: int = Field(default=1024, ge=8)  # larger images are scaled down for the models
    digest: Literal["content", "index"] = "content"  # index: names, sizes and times only

    @model_validator(mode="before")
    @classmethod
    def _columns_of_open_clip(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("source") == "tsv":
            return {"image_column": "filepath", "caption_column": "title", **given}
        return given

    @field_validator("uri")
    @classmethod
    def _uri_is_given(cls, uri: str | tuple[str, ...]) -> str | tuple[str, ...]:
        uris = (uri,) if isinstance(uri, str) else uri
        if not uris or not all(each.strip() for each in uris):
            raise ValueError("is empty; say where the images are")
        return uri

    @model_validator(mode="after")
    def _annotations_belong_to_coco(self) -> Images:
        if (self.source == "coco") != (self.annotations is not None):
            raise ValueError("`annotations` is needed by source coco, and by no other")
        return self


class Run(Section):
    """Where the run writes, what it may lose, and how it is cut into parts."""

    out: str | None = None
    seed: int = 0
    part_rows: int = Field(default=256, ge=1)
    part_bytes: int = Field(default=96 * 2**20, ge=1, le=112 * 2**20)  # below Ray's block limit
    max_failed_share: float = Field(default=0.05, ge=0, le=1)
    parts_in_flight: int = Field(default=2, ge=1)  # per generation actor
