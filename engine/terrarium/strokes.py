"""Strokes on a 24 x 24 board, from which the elements of the terrarium are drawn.

A stroke is painted in one of seven inks; ``BODY`` and ``SHADE`` take the element's colour, the
others are the same for every element, so that colour and kind vary independently of each other.
"""

from collections.abc import Callable, Sequence
from typing import Final

from PIL import Image, ImageDraw

BOARD: Final = 24
CLEAR, BODY, SHADE, DARK, LIGHT, AMBER, LEAF, OUTLINE = range(8)

Point = tuple[float, float]
Stroke = Callable[[ImageDraw.ImageDraw, float], None]


def poly(ink: int, *points: Point) -> Stroke:
    """A filled polygon."""
    return lambda draw, scale: draw.polygon([(x * scale, y * scale) for x, y in points], fill=ink)


def oval(ink: int, x0: float, y0: float, x1: float, y1: float) -> Stroke:
    """A filled ellipse in a box."""
    return lambda draw, scale: draw.ellipse((x0 * scale, y0 * scale, x1 * scale, y1 * scale), fill=ink)


def ring(ink: int, width: float, x0: float, y0: float, x1: float, y1: float) -> Stroke:
    """The outline of an ellipse in a box."""
    return lambda draw, scale: draw.ellipse(
        (x0 * scale, y0 * scale, x1 * scale, y1 * scale), outline=ink, width=round(width * scale)
    )


def rect(ink: int, x0: float, y0: float, x1: float, y1: float) -> Stroke:
    """A filled rectangle."""
    return lambda draw, scale: draw.rectangle((x0 * scale, y0 * scale, x1 * scale, y1 * scale), fill=ink)


def line(ink: int, width: float, *points: Point) -> Stroke:
    """A line through points."""
    return lambda draw, scale: draw.line(
        [(x * scale, y * scale) for x, y in points], fill=ink, width=round(width * scale)
    )


def pie(ink: int, box: tuple[float, float, float, float], start: int, end: int) -> Stroke:
    """A slice of an ellipse in a box, degrees clockwise from three o'clock."""
    x0, y0, x1, y1 = box
    return lambda draw, scale: draw.pieslice(
        (x0 * scale, y0 * scale, x1 * scale, y1 * scale), start, end, fill=ink
    )


def arc(ink: int, width: float, box: tuple[float, float, float, float], start: int, end: int) -> Stroke:
    """A part of the outline of an ellipse in a box, degrees as for `pie`."""
    x0, y0, x1, y1 = box
    return lambda draw, scale: draw.arc(
        (x0 * scale, y0 * scale, x1 * scale, y1 * scale), start, end, ink, round(width * scale)
    )


def board(strokes: Sequence[Stroke], scale: int) -> Image.Image:
    """Draw an element as inks.

    Args:
        strokes: From the back to the front.
        scale: Pixels per unit of the 24-unit board.

    Returns:
        A palette index image (mode "L") whose values are inks, `CLEAR` where nothing is.
    """
    image = Image.new("L", (BOARD * scale, BOARD * scale), CLEAR)
    draw = ImageDraw.Draw(image)
    for stroke in strokes:
        stroke(draw, scale)
    return image
