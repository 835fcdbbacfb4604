"""The labelled scenes of the terrarium: who stands where, in which colour, ground and light.

A scene is a pure function of a seed and an index. Seeds from `TRAINING_SEED` on belong to the
training of the embedded models, so that scenes written with any smaller seed have never been
trained on.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from engine.terrarium.shapes import STROKES

TRAINING_SEED: Final = 1_000_000

KINDS: Final = tuple(STROKES)
COLOURS: Final = ("red", "blue", "green", "yellow", "purple", "white", "black", "pink")
GROUNDS: Final = ("meadow", "snow", "desert", "sea", "street", "forest")
LIGHTS: Final = ("dawn", "noon", "dusk", "night", "storm", "fog")
MOODS: Final = {
    "dawn": "bright",
    "noon": "bright",
    "dusk": "bright",
    "night": "dark",
    "storm": "dark",
    "fog": "dark",
}
ROWS: Final = ("top", "bottom")
COLUMNS: Final = ("left", "middle", "right")
SIDE: Final = 64
SIZES: Final = (20, 21, 22, 23, 24)
ROTATIONS: Final = (-10, -5, 0, 5, 10)

_CENTRES_X: Final = (11.5, 32.0, 52.5)
_CENTRES_Y: Final = (17.0, 47.0)


@dataclass(frozen=True)
class Element:
    """One thing in a scene.

    Attributes:
        kind: One of `KINDS`.
        colour: One of `COLOURS`.
        row: Index into `ROWS`.
        column: Index into `COLUMNS`.
        left: Left edge in pixels.
        top: Upper edge in pixels.
        size: Side of its square in pixels, one of `SIZES`.
        rotation: Degrees, one of `ROTATIONS`.
        mirrored: Whether it looks the other way.
        shade: Factor on the brightness of its colour, about 1.
    """

    kind: str
    colour: str
    row: int
    column: int
    left: int
    top: int
    size: int
    rotation: int
    mirrored: bool
    shade: float

    @property
    def position(self) -> str:
        """The words for where it is, for example "top left"."""
        return f"{ROWS[self.row]} {COLUMNS[self.column]}"


@dataclass(frozen=True)
class Scene:
    """A scene and everything that is true of it; elements go row by row, left to right."""

    seed: int
    index: int
    elements: tuple[Element, ...]
    ground: str
    light: str
    texture: int

    @property
    def mood(self) -> str:
        """`bright` or `dark`, decided by the light."""
        return MOODS[self.light]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of its elements, in order."""
        return tuple(element.kind for element in self.elements)

    def element(self, kind: str) -> Element:
        """The element of a kind.

        Raises:
            KeyError: The scene has no such element.
        """
        for element in self.elements:
            if element.kind == kind:
                return element
        raise KeyError(kind)


def scene(seed: int, index: int, count: int | None = None) -> Scene:
    """Make the scene with a seed and an index.

    Args:
        seed: Any integer >= 0; `TRAINING_SEED` and above are for training.
        index: Number of the scene, >= 0.
        count: Number of elements, 1 to 6; drawn from 1 to 4 by default.

    Returns:
        The same scene at every call, on every machine.
    """
    rng = np.random.default_rng((seed, index))
    if count is None:
        count = int(rng.integers(1, 5))
    return draw(rng, seed, index, count, KINDS, GROUNDS, LIGHTS)


def draw(
    rng: np.random.Generator,
    seed: int,
    index: int,
    count: int,
    kinds: tuple[str, ...],
    grounds: tuple[str, ...],
    lights: tuple[str, ...],
) -> Scene:
    """Draw a scene from a choice of kinds, grounds and lights.

    The order of the draws must stay as it is: models were trained on the scenes that come of it.

    Args:
        rng: What decides; the caller has made it from `seed` and `index`.
        seed: Kept in the scene.
        index: Kept in the scene.
        count: Number of elements, at most 6 and at most as many as `kinds`.
        kinds: Some of `KINDS`, each once.
        grounds: Some of `GROUNDS`.
        lights: Some of `LIGHTS`.
    """
    cells = np.sort(rng.permutation(len(ROWS) * len(COLUMNS))[:count])
    chosen = rng.permutation(len(kinds))[:count]
    elements = tuple(
        _place(rng, kinds[kind], *divmod(int(cell), len(COLUMNS)))
        for kind, cell in zip(chosen, cells, strict=True)
    )
    ground, light = rng.integers(len(grounds)), rng.integers(len(lights))
    return Scene(seed, index, elements, grounds[ground], lights[light], int(rng.integers(1 << 16)))


def _place(rng: np.random.Generator, kind: str, row: int, column: int) -> Element:
    colour, size, rotation, mirrored = (
        int(value) for value in rng.integers((len(COLOURS), len(SIZES), len(ROTATIONS), 2))
    )
    # Two pixels sideways and four up or down keep neighbours apart and positions unmistakable.
    x = _CENTRES_X[column] + rng.integers(-2, 3) - SIZES[size] / 2
    y = _CENTRES_Y[row] + rng.integers(-4, 5) - SIZES[size] / 2
    limit = SIDE - SIZES[size]
    return Element(
        kind,
        COLOURS[colour],
        row,
        column,
        int(min(max(x, 0), limit)),
        int(min(max(y, 0), limit)),
        SIZES[size],
        ROTATIONS[rotation],
        bool(mirrored),
        round(float(rng.uniform(0.88, 1.08)), 3),
    )
