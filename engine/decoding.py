"""Encoded bytes to an RGB picture, or the reason why not; safe with hostile files."""

from __future__ import annotations

import struct
import warnings
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from PIL import Image, ImageChops, JpegImagePlugin

from engine.errors import SampleError

#: Pillow's decoders for anything else, from PostScript to PSD, never see the data.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")

_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8", b"BM", b"II*\0", b"MM\0*")
_ORIENTATION = 0x0112
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
#: What Pillow's decoders raise on damaged data, apart from OSError.
_DAMAGE = (
    SystemError,  # of Arrow's reader, where it is asked for a negative number of bytes
    SyntaxError,
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    EOFError,
    OverflowError,
    NotImplementedError,
    ZeroDivisionError,
    struct.error,
)

#: What is said of files that end too early, by Pillow and by Arrow's reader.
_SHORT = ("truncated", "broken data stream", "Seek out of bounds")

# A corpus has thousands of odd EXIF blocks; what cannot be decoded is said by its sample's error.
# (libtiff, which decodes compressed TIFFs, still writes its own line to stderr on damaged ones.)
warnings.filterwarnings("ignore", module=r"PIL\.")


@dataclass(frozen=True)
class Look:
    """At which size a stage looks at an image.

    Attributes:
        max_pixels: larger images are refused before anything is decoded.
        at_most: pixels to which the longer side is scaled down; 0 leaves it.
        at_least: pixels that the shorter side keeps while the image is reduced by whole factors
            (a JPEG in its decoder, anything else by averaging); 0 reduces nothing.
    """

    max_pixels: int
    at_most: int = 0
    at_least: int = 0

    @property
    def full(self) -> bool:
        """Whether images keep their size, however large."""
        return not (self.at_most or self.at_least)

    def picture(self, data: bytes | pa.Buffer) -> Image.Image:
        """Decode an image to this size; see `decode`."""
        side = self.at_most or self.at_least
        image = decode(data, self.max_pixels, (side, side) if side else None)
        if self.at_most:
            image.thumbnail((side, side), Image.Resampling.LANCZOS)
        if self.at_least and (factor := min(image.size) // side) > 1:
            image = image.reduce(factor)
        return image


def decode(data: bytes | pa.Buffer, max_pixels: int, size_hint: tuple[int, int] | None = None) -> Image.Image:
    """Decode an image as a viewer would show it.

    EXIF orientation is applied, transparency lies on white, 16 bits are scaled to 8, and of an
    animation the first frame is taken. Colour profiles are not applied.

    Args:
        data: JPEG, PNG, WebP, GIF, BMP or TIFF.
        max_pixels: the most pixels, checked before anything is decoded. Pillow's own limit (179
            million unless the process changed it) holds besides.
        size_hint: width and height that are enough: a JPEG is decoded at a reduced scale not
            below the larger of them, which is several times faster.

    Returns:
        The picture in mode RGB.

    Raises:
        SampleError: it cannot be decoded; the reason is short and the same for the same fault.
    """
    if not data:
        raise SampleError("zero bytes")
    image = _open(data)
    if image.width * image.height > max_pixels:
        raise _bomb(max_pixels)
    try:
        if size_hint is not None and isinstance(image, JpegImagePlugin.JpegImageFile):
            side = max(size_hint)  # both sides alike, since the orientation may swap them
            image.draft(image.mode, (side, side))
        image.load()
        return _turned(_to_rgb(image), image)
    except Image.DecompressionBombError as error:
        raise _bomb(max_pixels) from error
    except MemoryError as error:
        raise SampleError("not enough memory to decode the image") from error
    except OSError as error:
        short = any(text in str(error) for text in _SHORT)
        raise SampleError("truncated image" if short else "damaged image") from error
    except _DAMAGE as error:
        raise SampleError("damaged image") from error


def _open(data: bytes | pa.Buffer) -> Image.Image:
    """Read the header."""
    try:
        # Reads from where the bytes lie; `BytesIO` would copy them first.
        return Image.open(pa.BufferReader(data), formats=FORMATS)
    except Image.DecompressionBombError as error:
        raise SampleError("more pixels than Pillow's limit") from error
    except (OSError, MemoryError, *_DAMAGE) as error:
        head = bytes(memoryview(data)[:16])
        webp = head[:4] == b"RIFF" and head[8:12] == b"WEBP"
        known = webp or head.startswith(_SIGNATURES)
        raise SampleError("damaged image header" if known else "not an image") from error


def _bomb(max_pixels: int) -> SampleError:
    return SampleError(f"more than {max_pixels} pixels (images.max_pixels)")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith(("I", "F")):
        return _to_eight_bits(image).convert("RGB")
    if image.mode == "CMYK" and image.format in ("JPEG", "MPO") and "adobe" not in image.info:
        # Pillow inverts every CMYK JPEG, since Adobe's files need it; only Adobe's do.
        image = ImageChops.invert(image)
    if image.mode == "LAB":
        raise SampleError("unsupported colour space LAB")
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        front = image.convert("RGBA")
        back = Image.new("RGBA", front.size, "white")
        return Image.alpha_composite(back, front).convert("RGB")
    # Always a picture of its own, so that nothing holds the file's bytes any longer.
    return image.convert("RGB") if image.mode != "RGB" else image.copy()


def _to_eight_bits(image: Image.Image) -> Image.Image:
    """Scale 16-bit, 32-bit and floating-point grey to 8 bits; Pillow's own conversion clips."""
    values = np.nan_to_num(np.asarray(image, dtype=np.float64))
    high = float(values.max(initial=0.0))
    if image.mode == "F" and high <= 1:
        full = 1.0
    elif image.mode == "F" or high > 65535:
        full = high
    else:
        full = 65535.0
    return Image.fromarray(np.clip(values * (255 / full) + 0.5, 0, 255).astype(np.uint8))


def _turned(picture: Image.Image, source: Image.Image) -> Image.Image:
    """Apply the orientation of the source's EXIF; a damaged EXIF block turns nothing."""
    try:
        turn = _TURNS.get(int(source.getexif().get(_ORIENTATION, 1)))
    except (OSError, *_DAMAGE):
        turn = None
    return picture if turn is None else picture.transpose(turn)
