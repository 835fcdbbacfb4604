from __future__ import annotations

from pathlib import Path

import pytest

from tests.catalog.captioned import ROWS, pictures, table


@pytest.fixture
def made(tmp_path: Path) -> Path:
    """A set of three images, of which a table names two."""
    pictures(tmp_path / "set" / "images")
    return table(tmp_path / "set" / "train.tsv", ROWS)
