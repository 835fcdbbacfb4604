from pathlib import Path

import pytest

from tests.catalog.conftest import bucket, s3_server
from tests.flow import runs

__all__ = ["bucket", "s3_server"]


@pytest.fixture(scope="session")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_tars(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="session")
def undisturbed(images: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    runs.finish(runs.write_recipe(root / "recipe.yaml", images), root / "out")
    found = runs.tables(root / "out")
    assert len(found) == 3 * runs.PARTS
    return found
