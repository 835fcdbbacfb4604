from __future__ import annotations

import io
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, features

from engine.decoding import decode
from engine.errors import SampleError

DATA = Path(__file__).parent / "data"
LIMIT = 1_000_000


def photo(name: str) -> bytes:
    return (DATA / name).read_bytes()


def encoded(image: Image.Image, format: str, **more: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **more)
    return buffer.getvalue()


def difference(one: Image.Image, two: Image.Image) -> float:
    """Mean absolute difference of the pixels, of 255."""
    assert one.size == two.size
    return float(np.abs(np.asarray(one, np.float64) - np.asarray(two.convert("RGB"), np.float64)).mean())


def test_every_photograph_is_decoded() -> None:
    names = sorted(path.name for path in DATA.iterdir() if path.suffix != ".md")
    assert len(names) == 10
    for name in names:
        image = decode(photo(name), LIMIT)
        assert (type(image), image.mode) == (Image.Image, "RGB"), name
        assert np.asarray(image).std() > 20, f"{name} has a picture"


def test_variants_show_the_same_picture() -> None:
    cat, coffee = decode(photo("cat.jpg"), LIMIT), decode(photo("coffee-progressive.jpg"), LIMIT)
    assert difference(decode(photo("cat-rotated.jpg"), LIMIT), cat) < 3
    assert difference(decode(photo("coffee-palette.png"), LIMIT), coffee) < 10
    astronaut = decode(photo("astronaut.webp"), LIMIT).convert("L")
    assert difference(decode(photo("astronaut-grey.jpg"), LIMIT), astronaut) < 3
    first = decode(photo("cat-then-coffee.gif"), LIMIT)
    assert difference(first, cat.resize(first.size, Image.Resampling.LANCZOS)) < 10


def test_sixteen_bits_are_scaled_not_clipped() -> None:
    image = decode(photo("astronaut-16bit.png"), LIMIT)
    eight = decode(photo("astronaut-grey.jpg"), LIMIT).resize(image.size, Image.Resampling.LANCZOS)
    assert difference(image, eight) < 4


@pytest.mark.parametrize("format", ["PNG", "TIFF"])
def test_sixteen_bit_values(format: str) -> None:
    ramp = np.array([[0, 257, 32896, 65535]], np.uint16)
    levels = np.asarray(decode(encoded(Image.fromarray(ramp), format), LIMIT))[0, :, 0]
    assert levels.tolist() == [0, 1, 128, 255]


@pytest.mark.parametrize("full", [1.0, 300.0])
def test_floating_point_values(full: float) -> None:
    ramp = np.array([[0, 0.5, np.nan, 1]], np.float32) * np.float32(full)
    levels = np.asarray(decode(encoded(Image.fromarray(ramp), "TIFF"), LIMIT))[0, :, 0]
    assert levels.tolist() == [0, 128, 0, 255]


def test_cmyk_with_and_without_adobes_marker() -> None:
    rocket = decode(photo("rocket-cmyk.jpg"), LIMIT)
    with Image.open(DATA / "rocket-transparent.png") as png:
        original = png.convert("RGB")
    assert difference(rocket.resize(original.size, Image.Resampling.LANCZOS), original) < 8
    data = encoded(Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG")
    assert np.abs(np.asarray(decode(data, LIMIT))[0, 0].astype(int) - (255, 0, 0)).max() < 8
    begin = data.index(b"\xff\xee")
    length = int.from_bytes(data[begin + 2 : begin + 4], "big")
    plain = data[:begin] + data[begin + 2 + length :]
    # Without the marker the stored values, which are inverted, are the inks themselves.
    assert np.abs(np.asarray(decode(plain, LIMIT))[0, 0].astype(int) - (0, 0, 0)).max() < 8


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P", "PA-tRNS", "L-tRNS"])
def test_transparency_lies_on_white(mode: str) -> None:
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    clear.putpixel((0, 0), (0, 0, 0, 255))
    more: dict[str, Any] = {}
    if mode == "L-tRNS":
        image, more = Image.new("L", (4, 4), 7), {"transparency": 7}
        image.putpixel((0, 0), 0)
    elif mode in ("P", "PA-tRNS"):
        image = Image.new("P", (4, 4), 1)
        image.putpalette([0, 0, 0, 9, 9, 9])
        image.putpixel((0, 0), 0)
        more = {"transparency": 1 if mode == "P" else b"\xff\x00"}
    else:
        image = clear.convert(mode)
    decoded = decode(encoded(image, "PNG", **more), LIMIT)
    assert decoded.getpixel((0, 0)) == (0, 0, 0) and decoded.getpixel((3, 3)) == (255, 255, 255)


def test_half_transparent_photograph() -> None:
    image = np.asarray(decode(photo("rocket-transparent.png"), LIMIT)).astype(int)
    assert image[:, 0].min() == 255 and image[:, -1].min() < 100


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("format", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_every_orientation(orientation: int, format: str) -> None:
    from PIL import ImageOps

    source = Image.new("RGB", (48, 32), "white")
    source.paste((255, 0, 0), (0, 0, 16, 16))
    source.paste((0, 0, 255), (32, 0, 48, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = encoded(source, format, exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        image.load()
        expected = ImageOps.exif_transpose(image)
    assert difference(decode(data, LIMIT), expected) < 1
    assert expected.size == ((32, 48) if orientation >= 5 else (48, 32))


@pytest.mark.parametrize("mode", ["1", "L", "RGB", "YCbCr", "CMYK"])
@pytest.mark.parametrize("format", ["TIFF", "BMP"])
def test_other_formats_and_modes(format: str, mode: str) -> None:
    if format == "BMP" and mode in ("YCbCr", "CMYK"):
        return  # BMP has no such modes
    cat = decode(photo("cat.jpg"), LIMIT)
    decoded = decode(encoded(cat.convert(mode), format), LIMIT)
    assert difference(decoded, cat.convert(mode).convert("RGB")) < 1


def test_a_damaged_exif_block_turns_nothing() -> None:
    data = bytearray(photo("cat-rotated.jpg"))
    begin = data.index(b"Exif\0\0") + 6
    data[begin : begin + 12] = b"\xff" * 12
    assert decode(bytes(data), LIMIT).size == (213, 320)


REASONS = {
    "zero bytes": b"",
    "not an image": b"<html>404</html>",
    "damaged image header": b"\xff\xd8\xff\xe0\0\x10JFIF",
}


@pytest.mark.parametrize("reason", REASONS)
def test_what_is_no_image(reason: str) -> None:
    with pytest.raises(SampleError) as raised:
        decode(REASONS[reason], LIMIT)
    assert str(raised.value) == reason


@pytest.mark.parametrize("name", [p.name for p in sorted(DATA.iterdir()) if p.suffix != ".md"])
@pytest.mark.parametrize("share", [0.02, 0.5, 0.9])
def test_truncated_files_have_few_and_stable_reasons(name: str, share: float) -> None:
    data = photo(name)
    if name.endswith(".gif"):
        share /= 3  # the first of its frames
    with pytest.raises(SampleError) as raised:
        decode(data[: int(len(data) * share)], LIMIT)
    assert str(raised.value) in ("truncated image", "damaged image", "damaged image header")


def test_truncation_is_called_so() -> None:
    for name in ("cat.jpg", "coffee-palette.png"):
        with pytest.raises(SampleError, match=r"^truncated image$"):
            decode(photo(name)[:5000], LIMIT)
    palette = encoded(Image.open(io.BytesIO(photo("cat.jpg"))).convert("P"), "BMP")
    with pytest.raises(SampleError, match=r"^truncated image$"):
        decode(palette[: len(palette) // 7], LIMIT)


def test_random_damage_raises_nothing_else() -> None:
    random = np.random.default_rng(0)
    for name in (p.name for p in sorted(DATA.iterdir()) if p.suffix != ".md"):
        for _ in range(15):
            data = bytearray(photo(name))
            for position in random.integers(0, len(data), 8):
                data[position] = random.integers(256)
            try:
                assert decode(bytes(data), LIMIT).mode == "RGB"
            except SampleError as error:
                assert len(str(error)) < 60 and "0x" not in str(error)


def test_bombs_are_refused_by_their_header() -> None:
    png = encoded(Image.new("1", (20_000, 4_000)), "PNG")
    with pytest.raises(SampleError, match=r"^more than 1000000 pixels \(images\.max_pixels\)$"):
        decode(png, LIMIT)
    header = bytearray(photo("coffee-palette.png"))
    header[16:24] = (60_000).to_bytes(4, "big") * 2
    header[29:33] = zlib.crc32(header[12:29]).to_bytes(4, "big")
    with pytest.raises(SampleError, match="pixels"):
        decode(bytes(header), LIMIT)


def test_the_size_hint_scales_jpegs_only_as_far_as_it_allows() -> None:
    large = decode(photo("cat.jpg"), LIMIT).resize((1600, 1066))
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(large, "JPEG", exif=exif)
    assert decode(data, 2_000_000).size == (1066, 1600)
    assert decode(data, 2_000_000, (256, 256)).size == (267, 400)
    assert decode(data, 2_000_000, (200, 500)).size == (533, 800)
    assert decode(encoded(large, "PNG"), 2_000_000, (64, 64)).size == (1600, 1066)


def test_other_formats_never_reach_their_decoders() -> None:
    image = decode(photo("cat.jpg"), LIMIT)
    for format in ("PPM", "ICO", "TGA", "PCX", "EPS"):
        with pytest.raises(SampleError, match=r"^not an image$"):
            decode(encoded(image, format), LIMIT)


def test_threads_see_the_same_pictures() -> None:
    names = [p.name for p in sorted(DATA.iterdir()) if p.suffix != ".md"] * 5
    with ThreadPoolExecutor(8) as threads:
        images = list(threads.map(lambda name: decode(photo(name), LIMIT).tobytes(), names))
    assert images[:10] * 5 == images


def test_nothing_is_printed() -> None:
    program = """
import sys
from pathlib import Path
from engine.decoding import decode
from engine.errors import SampleError
from PIL import Image
import io
limit = Image.MAX_IMAGE_PIXELS
for path in sorted(Path(sys.argv[1]).iterdir()):
    for data in (path.read_bytes(), path.read_bytes()[:3000]):
        try: decode(data, 10**9)
        except SampleError: pass
buffer = io.BytesIO()
Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
decode(buffer.getvalue(), 10**9)  # above the size from which Pillow warns
assert Image.MAX_IMAGE_PIXELS == limit
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(DATA)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_pillow_has_the_codecs() -> None:
    assert all(features.check(name) for name in ("jpg", "webp", "zlib", "libtiff"))
