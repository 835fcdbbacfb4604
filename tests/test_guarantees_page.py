"""Every test that the page of guarantees names is there."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = (Path(__file__).parents[1] / "docs" / "guarantees.md").read_text()
_NAMED = re.compile(r"`(?:(?P<file>tests/[\w/]+(?:\.py)?)|\.\.\.)?(?:::)?(?P<test>test_\w+)?`")


def test_what_proves_a_guarantee_is_there() -> None:
    file, found = Path(), 0
    for named in _NAMED.finditer(PAGE):
        if named["file"]:
            file = Path(__file__).parents[1] / named["file"]
            assert file.exists(), named.group()
        if named["test"]:
            assert f"def {named['test']}(" in file.read_text(), f"{named['test']} is not in {file.name}"
        found += bool(named["file"] or named["test"])
    assert found > 60
