"""Where the names of clusters are written, so that they do not lie on each other."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels."""

    left: float
    bottom: float
    right: float
    top: float

    def moved(self, dx: float, dy: float) -> Box:
        """The same box elsewhere."""
        return Box(self.left + dx, self.bottom + dy, self.right + dx, self.top + dy)

    def within(self, frame: Box) -> Box:
        """The box pushed into the frame (if it is larger, its left and bottom are in)."""
        dx = max(frame.left - self.left, min(0.0, frame.right - self.right))
        dy = max(frame.bottom - self.bottom, min(0.0, frame.top - self.top))
        return self.moved(dx, dy)

    def overlap(self, other: Box) -> float:
        """The area that both cover, in square pixels."""
        width = min(self.right, other.right) - max(self.left, other.left)
        height = min(self.top, other.top) - max(self.bottom, other.bottom)
        return max(0.0, width) * max(0.0, height)


def spread(boxes: list[Box], frame: Box, gap: float = 3.0) -> list[Box]:
    """Move boxes apart, the first ones least.

    Each box in turn takes the nearest free place around its own; where none of them is free,
    the one that covers least. So the order is the order of importance.

    Args:
        boxes: where each would like to be.
        frame: where all must be.
        gap: pixels that a step to another place is longer than half a box.

    Returns:
        As many boxes of the same sizes, in the same order.
    """
    placed: list[Box] = []
    for box in boxes:
        places = [place.within(frame) for place in _around(box, gap)]
        placed.append(min(places, key=lambda place: sum(place.overlap(other) for other in placed)))
    return placed


def _around(box: Box, gap: float) -> list[Box]:
    """The box's own place and those around it, the nearest first."""
    width, height = (box.right - box.left) / 2 + gap, (box.top - box.bottom) / 2 + gap
    steps = [(column * width, row * height) for column in range(-3, 4) for row in range(-10, 11)]
    # Ties are broken by the offset itself: the same boxes always end at the same places.
    steps.sort(key=lambda step: (step[0] ** 2 + step[1] ** 2, step))
    return [box.moved(dx, dy) for dx, dy in steps]
