import pytest

from tests.export import runs


@pytest.fixture
def handmade_catalog(monkeypatch: pytest.MonkeyPatch) -> None:
    """Read the images of runs built by hand."""
    monkeypatch.setattr("engine.export.mined.read_part", runs.read_part)
