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
def finished(images: Path, on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a run that nothing disturbed; who goes on in it goes on in a copy."""
    root = tmp_path_factory.mktemp("undisturbed")
    said = runs.finish(runs.write_recipe(root / "recipe.yaml", images), root / "out")
    assert "60 samples in 12 parts, 0 done before, 60 to do" in said
    return root / "out"


@pytest.fixture(scope="package")
def undisturbed(finished: Path) -> dict[str, bytes]:
    """The tables of a run that nothing disturbed."""
    found = runs.tables(finished)
    assert len(found) == 3 * runs.PARTS
    return found
