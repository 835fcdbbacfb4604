"""Drawing scenes as 64 x 64 RGB images, a few thousand a second on one core.

Everything slow happens once: each kind is drawn large, turned, and averaged down to a small stack
of ink weights per size, rotation and direction; each pair of ground and light becomes a few
backgrounds. A scene is then a handful of weighted sums.
"""

from functools import cache
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageFilter

from engine.terrarium.shapes import STROKES
from engine.terrarium.strokes import BODY, CLEAR, OUTLINE, SHADE, board
from engine.terrarium.world import GROUNDS, LIGHTS, SIDE, Element, Scene

Pixels = npt.NDArray[np.float32]

RGB: Final = {
    "red": (215, 35, 35),
    "blue": (45, 85, 225),
    "green": (45, 165, 60),
    "yellow": (248, 220, 45),
    "purple": (135, 50, 180),
    "white": (248, 248, 248),
    "black": (28, 28, 30),
    "pink": (248, 140, 195),
}
_INKS: Final = np.array(
    [(0, 0, 0), (0, 0, 0), (62, 44, 36), (240, 232, 208), (255, 160, 30), (30, 105, 50)],
    dtype=np.float32,
)  # body, shade, dark, light, amber, leaf
_SKIES: Final = {
    "dawn": ((250, 190, 190), (255, 228, 190)),
    "noon": ((95, 180, 250), (190, 228, 255)),
    "dusk": ((120, 70, 130), (245, 130, 60)),
    "night": ((12, 16, 52), (36, 42, 98)),
    "storm": ((70, 78, 84), (104, 112, 114)),
    "fog": ((205, 208, 210), (222, 224, 224)),
}
_TINTS: Final = {
    "dawn": (1.0, 0.94, 0.92),
    "noon": (1.0, 1.0, 1.0),
    "dusk": (0.95, 0.78, 0.72),
    "night": (0.42, 0.45, 0.62),
    "storm": (0.62, 0.66, 0.68),
    "fog": (0.93, 0.94, 0.95),
}
_SOILS: Final = {
    "meadow": (120, 190, 75),
    "snow": (238, 244, 250),
    "desert": (226, 186, 112),
    "sea": (30, 112, 160),
    "street": (122, 122, 126),
    "forest": (70, 88, 46),
}
_BACKGROUNDS: Final = 8
_HORIZON: Final = 26


def render(scene: Scene) -> npt.NDArray[np.uint8]:
    """Draw a scene.

    Args:
        scene: What to draw.

    Returns:
        RGB pixels, shape (64, 64, 3), uint8; the same at every call.
    """
    canvas = _background(scene.ground, scene.light, scene.texture % _BACKGROUNDS).copy()
    for element in scene.elements:
        _paint(canvas, element)
    canvas += _noise(scene.texture // _BACKGROUNDS % 16)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def image(scene: Scene) -> Image.Image:
    """Draw a scene as a PIL image in mode RGB."""
    return Image.fromarray(render(scene))


def mask(element: Element) -> Pixels:
    """How much of each pixel of its square an element covers, outline included.

    Returns:
        Shape (size, size), float32 from 0 to 1.
    """
    weights = _sprite(element.kind, element.size, element.rotation, element.mirrored)
    return np.asarray(weights.sum(axis=2))


def _paint(canvas: Pixels, element: Element) -> None:
    weights = _sprite(element.kind, element.size, element.rotation, element.mirrored)
    bottom, right = element.top + element.size, element.left + element.size
    window = canvas[element.top : bottom, element.left : right]
    window *= 1 - weights.sum(axis=2, keepdims=True)
    window += weights @ _palette(element.colour, element.shade)


def _palette(colour: str, shade: float) -> Pixels:
    """Colours of the inks, shape (7, 3); the outline keeps black and white things visible."""
    body = np.array(RGB[colour], dtype=np.float32) * shade
    outline = np.array((225, 225, 215) if colour == "black" else (22, 20, 26), dtype=np.float32)
    palette = np.concatenate([_INKS, outline[None]])
    palette[BODY - 1] = body
    palette[SHADE - 1] = body * 0.72 + (24 if colour == "black" else 0)
    return palette


@cache
def _sprite(kind: str, size: int, rotation: int, mirrored: bool) -> Pixels:
    """Ink weights of a kind, shape (size, size, 7), float32, in sum at most 1."""
    inks = board(STROKES[kind], 8)
    if mirrored:
        inks = inks.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    inks = inks.rotate(rotation, Image.Resampling.NEAREST, fillcolor=CLEAR)
    drawn = inks.point([0] + [255] * 255)
    edge = np.asarray(drawn.filter(ImageFilter.MaxFilter(9))) > np.asarray(drawn)
    values = np.where(edge, OUTLINE, np.asarray(inks))
    layers = [
        Image.fromarray((values == ink).astype(np.float32)).resize((size, size), Image.Resampling.BOX)
        for ink in range(BODY, OUTLINE + 1)
    ]
    return np.stack([np.asarray(layer) for layer in layers], axis=2)


@cache
def _noise(number: int) -> Pixels:
    rng = np.random.default_rng((7, number))
    return rng.normal(0, 4, (SIDE, SIDE, 3)).astype(np.float32)


@cache
def _background(ground: str, light: str, number: int) -> Pixels:
    """Sky above, ground below; shape (64, 64, 3), float32."""
    rng = np.random.default_rng((11, GROUNDS.index(ground), LIGHTS.index(light), number))
    upper, lower = (np.array(rgb, dtype=np.float32) for rgb in _SKIES[light])
    ramp = np.linspace(0, 1, _HORIZON, dtype=np.float32)[:, None, None]
    canvas = np.empty((SIDE, SIDE, 3), dtype=np.float32)
    canvas[:_HORIZON] = upper + (lower - upper) * ramp
    canvas[_HORIZON:] = _soil(ground, rng) * np.array(_TINTS[light], dtype=np.float32)
    if light == "night":
        canvas[rng.integers(0, _HORIZON, 14), rng.integers(0, SIDE, 14)] = (235, 235, 210)
    if light == "storm":
        for x, y in zip(rng.integers(0, SIDE - 3, 22), rng.integers(0, SIDE - 5, 22), strict=True):
            for step in range(5):
                canvas[y + step, x + step // 2] = (165, 180, 195)
    return canvas


def _soil(ground: str, rng: np.random.Generator) -> Pixels:
    height = SIDE - _HORIZON
    y, x = np.mgrid[0:height, 0:SIDE].astype(np.float32)
    phase = float(rng.uniform(0, 6))
    soil = np.empty((height, SIDE, 3), dtype=np.float32)
    soil[:] = _SOILS[ground]
    if ground == "meadow":
        soil += 22 * np.sin(x * 2.1 + y * 3.7 + phase)[..., None]
        soil[rng.integers(0, height, 16), rng.integers(0, SIDE, 16)] = (250, 240, 120)
    elif ground == "snow":
        soil -= 10 * (np.sin(x / 9 + phase) + np.sin(y / 4))[..., None]
    elif ground == "desert":
        soil += 18 * np.sin(y * 0.9 + 2 * np.sin(x / 10 + phase))[..., None]
    elif ground == "sea":
        soil += 34 * (np.sin(y * 1.5 + np.sin(x / 3 + phase)) > 0.75)[..., None]
    elif ground == "street":
        soil[height // 2 : height // 2 + 2, (np.arange(SIDE) + int(phase * 2)) % 12 < 7] = 235
        soil[:3] = (160, 158, 152)
    else:
        soil += 26 * (np.sin(x * 0.8 + phase) > 0.55)[..., None] * np.array((0.5, -0.6, -0.3))
    return soil
