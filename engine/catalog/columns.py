"""Which columns of a Parquet file a scan reads, and as what."""

from __future__ import annotations

from dataclasses import dataclass

import pyarrow as pa

from engine.errors import RecipeError
from engine.recipe import Images


@dataclass(frozen=True)
class Columns:
    """The columns of a Parquet file by their role.

    Attributes:
        image: encoded images.
        key: the original key, or None for the row's number.
        caption: captions, or None.
        metadata: every column that is read as values, key and captions among them.
        left_out: columns that do not survive: bytes, and lists of floating-point numbers.
    """

    image: str
    key: str | None
    caption: str | None
    metadata: tuple[str, ...]
    left_out: tuple[str, ...]

    @property
    def read(self) -> list[str]:
        """The columns to read."""
        return [self.image, *self.metadata]


def choose_columns(schema: pa.Schema, images: Images, uri: str) -> Columns:
    """Match the recipe's column names with a file's schema.

    Raises:
        RecipeError: a named column is missing, or the image column does not hold bytes.
    """
    settings = ("image_column", "caption_column", "key_column")
    for setting in settings:
        name = getattr(images, setting)
        if name is not None and name not in schema.names:
            raise RecipeError(
                f"images.{setting}: {uri} has no column '{name}'; it has {', '.join(schema.names)}"
            )
    image_type = schema.field(images.image_column).type
    if not _is_image(image_type):
        raise RecipeError(
            f"images.image_column: column '{images.image_column}' of {uri} is {image_type}; images must be "
            "binary, or a struct with the binary field `bytes`"
        )
    caption_type = schema.field(images.caption_column).type if images.caption_column else None
    if caption_type is not None and not _is_caption(caption_type):
        raise RecipeError(
            f"images.caption_column: column '{images.caption_column}' of {uri} is {caption_type}; captions "
            "must be text or a list of texts"
        )
    others = [field for field in schema if field.name != images.image_column]
    kept = tuple(field.name for field in others if _is_metadata(field.type))
    left_out = tuple(field.name for field in others if field.name not in kept)
    return Columns(images.image_column, images.key_column, images.caption_column, kept, left_out)


def _is_bytes(kind: pa.DataType) -> bool:
    return any(
        check(kind)
        for check in (
            pa.types.is_binary,
            pa.types.is_large_binary,
            pa.types.is_binary_view,
            pa.types.is_fixed_size_binary,
        )
    )


def _is_image(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):
        return kind.get_field_index("bytes") >= 0 and _is_bytes(kind.field("bytes").type)
    return _is_bytes(kind)


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _is_caption(kind: pa.DataType) -> bool:
    return _is_text(kind.value_type) if _is_list(kind) else _is_text(kind)


def _is_metadata(kind: pa.DataType) -> bool:
    """Whether values of the type belong into a JSON object: no bytes, no embeddings."""
    if _is_list(kind):
        return not pa.types.is_floating(kind.value_type) and _is_metadata(kind.value_type)
    if pa.types.is_struct(kind):
        return all(_is_metadata(kind.field(index).type) for index in range(kind.num_fields))
    return not _is_bytes(kind)
