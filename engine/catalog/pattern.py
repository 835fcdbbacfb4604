"""Paths with ranges in braces and globs, as text: what they expand to and what they match."""

from __future__ import annotations

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase

from engine.errors import RecipeError

#: More shards than any data set has: a range beyond it is a slip of the keyboard.
_MAX_EXPANDED = 1_000_000
_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")
_WILD = re.compile(r"[*?\[]")


def expand_braces(pattern: str) -> list[str]:
    """Expand `{00000..00117}` and `{a,b}`; ranges keep the width of their zero-padded numbers.

    Raises:
        RecipeError: a range runs backwards, or there are more than a million names.
    """
    found = _BRACES.search(pattern)
    if found is None:
        return [pattern]
    head, tail = pattern[: found.start()], pattern[found.end() :]
    items = _items(found.group(1), pattern)
    if items is None:  # braces around no list: part of the name
        return [f"{head}{found.group(0)}{rest}" for rest in expand_braces(tail)]
    # The tail is expanded with each item, since braces may be nested around this innermost pair.
    expanded: list[str] = []
    for item in items:
        expanded += expand_braces(f"{head}{item}{tail}")
        _check_count(len(expanded), pattern)
    return expanded


def is_glob(pattern: str) -> bool:
    """Whether the path holds `*`, `?` or `[`."""
    return _WILD.search(pattern) is not None


def is_pattern(path: str) -> bool:
    """Whether the path holds a glob or braces."""
    return "{" in path or is_glob(path)


def static_root(pattern: str) -> str:
    """The directory above the first component with a brace or wildcard."""
    special = re.search(r"[*?\[{]", pattern)
    fixed = pattern[: special.start()] if special else pattern
    return fixed.rpartition("/")[0]


def glob_matches(path: str, pattern: str) -> bool:
    """Whether a relative path matches; `*` stays within a component, `**` spans any number."""
    return _matches(path.split("/"), pattern.split("/"))


def _matches(parts: Sequence[str], patterns: Sequence[str]) -> bool:
    if not patterns:
        return not parts
    if patterns[0] == "**":
        return any(_matches(parts[i:], patterns[1:]) for i in range(len(parts) + 1))
    return bool(parts) and fnmatchcase(parts[0], patterns[0]) and _matches(parts[1:], patterns[1:])


def _items(inner: str, pattern: str) -> list[str] | None:
    if numbers := _RANGE.fullmatch(inner):
        low, high = numbers.groups()
        if int(low) > int(high):
            raise RecipeError(f"images.uri: {pattern}: the range {{{inner}}} runs backwards")
        _check_count(int(high) - int(low) + 1, pattern)
        width = len(low) if low.startswith("0") else 0
        return [f"{number:0{width}d}" for number in range(int(low), int(high) + 1)]
    return inner.split(",") if "," in inner else None


def _check_count(count: int, pattern: str) -> None:
    if count > _MAX_EXPANDED:
        raise RecipeError(f"images.uri: {pattern}: names more than a million files; check its ranges")
