"""Colours that tell many clusters apart; each is a pure function of its label."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

#: What no cluster holds.
NOISE = (0.74, 0.74, 0.74)
#: Golden ratio: labels next to each other get hues far apart, and no hue ever comes back.
_HUE_STEP = (math.sqrt(5) - 1) / 2
#: Irrational and unrelated to the hue's, so that hues which come close differ in lightness.
_LIGHTNESS_STEP = math.sqrt(2) - 1
#: From readable on white to still dark enough to be seen on it.
_LIGHTNESS = (0.50, 0.78)
_CHROMA = 0.155
#: From OKLab to the cube roots of cone responses, and from those to linear sRGB
#: (B. Ottosson, A perceptual color space for image processing, 2020).
_TO_CONES = np.array([[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728],
                      [1, -0.0894841775, -1.2914855480]])  # fmt: skip
_TO_RGB = np.array([[4.0767416621, -3.3077115913, 0.2309699292],
                    [-1.2684380046, 2.6097574011, -0.3413193965],
                    [-0.0041960863, -0.7034186147, 1.7076147010]])  # fmt: skip


def colours_of(labels: NDArray[np.int64]) -> NDArray[np.float64]:
    """The colour of each label.

    Args:
        labels: (n,) int64; negative ones are noise, and grey.

    Returns:
        (n, 3) float64, sRGB between 0 and 1.
    """
    low, high = _LIGHTNESS
    unique, where = np.unique(np.asarray(labels, np.int64), return_inverse=True)
    lightness = low + (high - low) * (unique * _LIGHTNESS_STEP % 1.0)
    colours = _from_oklch(lightness, _CHROMA, unique * _HUE_STEP % 1.0)
    colours[unique < 0] = NOISE
    return colours[where.reshape(-1)]


def ink_of(label: int) -> str:
    """The label's hue as a dark ink for its name, such as "#4a2a10"."""
    if label < 0:
        return "#333333"
    colours = _from_oklch(np.array([0.36]), 0.10, np.array([label * _HUE_STEP % 1.0]))
    return hexadecimal(colours)[0]


def hexadecimal(colours: NDArray[np.float64]) -> list[str]:
    """Colours (n, 3) between 0 and 1 as n texts such as "#1f77b4"."""
    return ["#" + bytes(row).hex() for row in np.rint(colours * 255).astype(np.uint8)]


def _from_oklch(
    lightness: NDArray[np.floating], chroma: float, hue: NDArray[np.floating]
) -> NDArray[np.float64]:
    """OKLCh to sRGB, (n, 3); hue in turns. Colours outside of the gamut are clipped to it."""
    angle = 2 * np.pi * hue
    lab = np.stack([lightness, chroma * np.cos(angle), chroma * np.sin(angle)], axis=1)
    linear = np.clip((lab @ _TO_CONES.T) ** 3 @ _TO_RGB.T, 0.0, 1.0)
    bright = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    colours: NDArray[np.float64] = np.where(linear <= 0.0031308, 12.92 * linear, bright)
    return np.clip(colours, 0.0, 1.0)
