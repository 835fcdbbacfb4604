"""A page of samples with their pictures and captions: plain HTML, no script, nothing loaded from anywhere."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from PIL import Image

#: The policy allows the pictures and the style that lie in the page, and nothing else.
_HEAD = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 sans-serif; color: #222; max-width: 1100px; margin: 24px auto; padding: 0 16px; }}
section {{ border-top: 1px solid #ddd; padding: 12px 0; }}
h1 {{ font-size: 22px; }} h2 {{ font-size: 17px; margin: 4px 0; overflow-wrap: anywhere; }}
p {{ color: #666; margin: 2px 0; }}
.row {{ display: flex; flex-wrap: wrap; gap: 6px; margin: 8px 0; }}
.row img {{ display: block; background: #eee; }}
ul {{ margin: 6px 0; padding-left: 20px; }} li {{ overflow-wrap: anywhere; }}
</style>
</head>
<body>
<h1>{title}</h1>
"""


@dataclass(frozen=True)
class Exhibit:
    """One group of pictures, such as a cluster or a sample with its neighbours.

    Attributes:
        title: its heading.
        lines: figures and remarks below it.
        pictures: JPEG bytes, shown in a row in their own size (see `thumbnail`).
        captions: shown as a list.
    """

    title: str
    lines: Sequence[str]
    pictures: Sequence[bytes]
    captions: Sequence[str]


def write_gallery(exhibits: Sequence[Exhibit], title: str, none: str = "no samples") -> str:
    """Write a page of exhibits, in their order.

    Every text is escaped, so markup in a caption is shown as it was written. Where there are none, `none`
    stands in their place.

    Returns:
        A whole HTML document with all of its pictures in it.
    """
    parts = [_HEAD.format(title=escape(title))]
    parts += [_section(exhibit) for exhibit in exhibits] or [f"<p>{escape(none)}</p>\n"]
    return "".join([*parts, "</body>\n</html>\n"])


def thumbnail(image: Image.Image, side: int = 96) -> bytes:
    """Make a picture small.

    Args:
        image: any picture; one that is not RGB is turned into it. It is left as it is.
        side: pixels of the longer side at most; smaller pictures keep their size.

    Returns:
        A JPEG of quality 80.

    Raises:
        ValueError: the side is less than one pixel.
    """
    if side < 1:
        raise ValueError(f"side: {side} is no size of a picture; give 1 or more pixels")
    small = image.copy() if image.mode == "RGB" else image.convert("RGB")
    small.thumbnail((side, side))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return out.getvalue()


def _section(exhibit: Exhibit) -> str:
    lines = "".join(f"<p>{escape(line)}</p>\n" for line in exhibit.lines)
    pictures = "".join(_img(picture) for picture in exhibit.pictures)
    captions = "".join(f"<li>{escape(caption)}</li>\n" for caption in exhibit.captions)
    row = f'<div class="row">\n{pictures}</div>\n' if pictures else ""
    listed = f"<ul>\n{captions}</ul>\n" if captions else ""
    return f"<section>\n<h2>{escape(exhibit.title)}</h2>\n{lines}{row}{listed}</section>\n"


def _img(picture: bytes) -> str:
    return f'<img src="data:image/jpeg;base64,{base64.b64encode(picture).decode("ascii")}" alt="">\n'
