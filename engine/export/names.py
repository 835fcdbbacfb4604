"""File names made of sample keys: safe on every filesystem, unique in their directory."""

from __future__ import annotations

import re

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LONGEST = 100


class Names:
    """The names used in one directory or tar.

    A key that is a safe name stays as it is. Any other loses what a filesystem or WebDataset
    would read something into (slashes, dots, spaces) and is followed by the sample's id.
    """

    def __init__(self) -> None:
        self._used: set[str] = set()

    def add(self, key: str, sample: str) -> str:
        """A name for the sample, without an ending; compared without regard to case."""
        safe = _UNSAFE.sub("_", key)[:_LONGEST].strip("_-")
        name = safe if safe and safe == key else f"{safe or 'sample'}-{_UNSAFE.sub('_', sample)}"
        if name.casefold() in self._used:
            name = f"{safe or 'sample'}-{_UNSAFE.sub('_', sample)}"
        while name.casefold() in self._used:
            name += "x"
        self._used.add(name.casefold())
        return name
