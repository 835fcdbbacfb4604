from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.submission import packing
from engine.submission.packing import pack


def write(root: Path, *names: str, size: int = 3) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        with open(root / name, "wb") as file:
            file.truncate(size)


def names(root: Path, recipe: str = "recipe.yaml") -> set[str]:
    if not (root / recipe).exists():
        write(root, recipe)
    return {path.as_posix() for path in pack(root, root / recipe).files}


def test_code_recipes_and_prompts_go(tmp_path: Path) -> None:
    kept = {"recipe.yaml", "prompts/caption.txt", "my/own.py", "words.csv", "small.png", "tiny.safetensors"}
    write(tmp_path, *kept)
    assert names(tmp_path) == kept


def test_what_is_not_code_stays(tmp_path: Path) -> None:
    write(
        tmp_path,
        ".git/config",
        ".env",
        ".aws/credentials",
        "server.pem",
        "venv/pyvenv.cfg",
        "venv/lib/site.py",
        "conda/conda-meta/history",
        "__pycache__/a.pyc",
        "b.pyc",
        "runs/one/recipe.yaml",
        "runs/one/stages/describe-1/part-1.parquet",
        "recipes/recipe.yaml",
    )
    assert names(tmp_path) == {"recipe.yaml", "recipes/recipe.yaml"}
    told = "\n".join(pack(tmp_path, tmp_path / "recipe.yaml").lines())
    assert "one: a run directory" in told
    assert "venv: a virtual environment" in told
    assert "server.pem: a key" in told


@pytest.mark.parametrize(
    ("name", "most"),
    [("a.JPG", 2**20), ("a.tar.gz", 2**20), ("a.parquet", 2**20), ("a.safetensors", 32 * 2**20)],
)
def test_large_data_stays_and_is_named(tmp_path: Path, name: str, most: int) -> None:
    write(tmp_path, name, size=most)
    assert names(tmp_path) == {"recipe.yaml", name}
    write(tmp_path, name, size=most + 1)
    assert names(tmp_path) == {"recipe.yaml"}
    assert f"{name}: data" in "\n".join(pack(tmp_path, tmp_path / "recipe.yaml").lines())


def test_gitignore_of_every_folder_counts_the_nearest_last(tmp_path: Path) -> None:
    write(
        tmp_path, "a.log", "keep.log", "build/x", "sub/a.log", "sub/keep.txt", "sub/deep/b.log", "sub/no.txt"
    )
    (tmp_path / ".gitignore").write_text("# notes\n*.log\n!keep.log\n/build/\n")
    (tmp_path / "sub" / ".gitignore").write_text("no.txt\n!a.log\n")
    assert names(tmp_path) == {"recipe.yaml", "keep.log", "sub/a.log", "sub/keep.txt"}


def test_the_repository_above_has_a_say_and_what_is_above_it_none(tmp_path: Path) -> None:
    write(tmp_path, "repository/.git/config", "repository/inner/a.log", "repository/inner/b.txt")
    (tmp_path / ".gitignore").write_text("*.txt\n")
    (tmp_path / "repository" / ".gitignore").write_text("/inner/*.log\n")
    assert names(tmp_path / "repository" / "inner") == {"recipe.yaml", "b.txt"}


def test_the_recipe_goes_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path, ".recipes/mine.yaml")
    (tmp_path / ".gitignore").write_text("*.yaml\n")
    assert names(tmp_path, ".recipes/mine.yaml") == {".recipes/mine.yaml"}


def test_links_and_odd_files(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    root = tmp_path / "root"
    write(outside, "data.txt")
    root.mkdir()
    (root / "folder").symlink_to(outside)
    (root / "file.txt").symlink_to(outside / "data.txt")
    (root / "nowhere").symlink_to(outside / "nothing")
    (root / "circle").symlink_to(root)
    os.mkfifo(root / "pipe")
    assert names(root) == {"recipe.yaml", "file.txt"}
    assert "folder: a link to a folder" in "\n".join(pack(root, root / "recipe.yaml").lines())


def test_too_large_names_the_largest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_BYTES", 2 * 2**20)
    write(tmp_path, "notes/huge.txt", size=3 * 2**20)
    write(tmp_path, "big.json", size=2 * 2**20)
    with pytest.raises(RecipeError, match=r"5\.0 MiB would be sent.*2\.0 MiB is the most") as told:
        names(tmp_path)
    assert str(told.value).index("notes/huge.txt (3.0 MiB)") < str(told.value).index("big.json (2.0 MiB)")
    assert "folders notes/ (3.0 MiB)" in str(told.value)
    assert ".gitignore" in str(told.value)


def test_too_many_names_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packing, "MOST_FILES", 5)
    write(tmp_path, *(f"photos/{i}.txt" for i in range(9)))
    with pytest.raises(RecipeError, match=r"more than 5 files, most of them in photos/"):
        names(tmp_path)


@pytest.mark.parametrize("name", ["jobs/__init__.py", "engine.py"])
def test_a_package_of_our_name_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name)
    with pytest.raises(RecipeError, match="imported instead of Connote's own"):
        names(tmp_path)


def test_a_checkout_with_its_models_goes() -> None:
    root = Path(packing.__file__).parents[2]
    found = {path.as_posix() for path in pack(root, root / "jobs/recipes/terrarium.yaml").files}
    wanted = {"jobs/mine.py", "engine/terrarium/model/model.safetensors", "engine/generation/prompts"}
    assert wanted - {"engine/generation/prompts"} <= found
    assert any(name.startswith("engine/generation/prompts/") for name in found)


def test_equal_files_are_equal_bytes(tmp_path: Path) -> None:
    root = tmp_path / "root"
    write(root, "a.py", "run.sh", "recipe.yaml")
    (root / "run.sh").chmod(0o755)
    parcel = pack(root, root / "recipe.yaml")
    parcel.write(tmp_path / "one.zip")
    os.utime(root / "a.py", (0, 0))
    pack(root, root / "recipe.yaml").write(tmp_path / "two.zip")
    assert (tmp_path / "one.zip").read_bytes() == (tmp_path / "two.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "one.zip") as archive:
        assert archive.namelist() == ["a.py", "recipe.yaml", "run.sh"]
        assert archive.getinfo("run.sh").external_attr >> 16 & 0o111
        assert not archive.getinfo("a.py").external_attr >> 16 & 0o111
