"""Image files as trainers expect them: JPEG, PNG or WebP, named for what they are."""

from __future__ import annotations

import io

from PIL import Image, ImageOps

from engine.errors import SampleError


def ending_of(data: bytes) -> str | None:
    """`jpg`, `png` or `webp` by the file's first bytes; None for any other format."""
    if data.startswith(b"\xff\xd8\xff"):
        return "jpg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "webp"
    return None


def trainable(data: bytes) -> tuple[bytes, str]:
    """An image file that open_clip's loader takes, and its ending.

    JPEG, PNG and WebP are handed on byte by byte. Of any other format (GIF, TIFF, BMP) the first
    frame becomes a PNG: open_clip passes over samples with other endings.

    Raises:
        SampleError: it cannot be decoded.
    """
    if ending := ending_of(data):
        return data, ending
    try:
        with Image.open(io.BytesIO(data)) as image:
            upright = ImageOps.exif_transpose(image)
            plain = upright if upright.mode in ("RGB", "L") else upright.convert("RGBA")
            sink = io.BytesIO()
            plain.save(sink, "PNG")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise SampleError(f"its image cannot be converted to PNG ({type(error).__name__})") from error
    return sink.getvalue(), "png"
