from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.flow import runs
from tests.one_ray import one_ray


@pytest.fixture(scope="package")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return runs.write_tars(tmp_path_factory.mktemp("images"))


@pytest.fixture(scope="package")
def on_ray(s3_server: str) -> Iterator[None]:
    """One Ray for this room's runs in the tests' own process."""
    with one_ray(s3_server):
        yield


@pytest.fixture(scope="package")
def undisturbed(images: Path, on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The tables of a run that nothing disturbed."""
    root = tmp_path_factory.mktemp("undisturbed")
    runs.finish(runs.write_recipe(root / "recipe.yaml", images), root / "out")
    found = runs.tables(root / "out")
    assert len(found) == 3 * runs.PARTS
    return found
