"""Workers that die of some of their items; each new one imports this module, and little with it."""

from __future__ import annotations

import os
from pathlib import Path

from engine.errors import RecipeError


class Squares:
    def __init__(self, died: Path, offset: int) -> None:
        self.died, self.offset = died, offset

    def work(self, item: int) -> int:
        if item == 7 and not self.died.exists():
            self.died.write_text("")
            os._exit(1)
        if item == 17:
            os._exit(1)
        if item == 13:
            raise RecipeError("squares.item: 13 is refused")
        return item * item + self.offset


class Deadly:
    """Dies of some items so many times."""

    def __init__(self, directory: Path, deaths: dict[int, int]) -> None:
        self.directory, self.deaths = directory, deaths

    def work(self, item: int) -> int:
        already = len(list(self.directory.glob(f"{item}-*")))
        if already < self.deaths.get(item, 0):
            (self.directory / f"{item}-{already}").write_text("")
            os._exit(1)
        return item
