from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import pytest
from huggingface_hub import scan_cache_dir

from engine.errors import RecipeError
from engine.storage import digest_of, digest_settings, fingerprint, model_digest
from engine.storage.fingerprint import digest_file


def test_texts_are_kept_apart() -> None:
    digests = {
        digest_of("ab", "c"),
        digest_of("a", "bc"),
        digest_of("abc"),
        digest_of("abc", ""),
        digest_of(),
    }
    assert len(digests) == 5
    assert digest_of("é") == digest_of("é".encode())
    assert digest_of("a") == "b86ff4ec84914880", "a run's files are named by it: it must never change"


def test_settings_in_any_order() -> None:
    assert digest_settings({"a": 1, "b": {"c": [1], "d": 2}}) == digest_settings(
        {"b": {"d": 2, "c": [1]}, "a": 1}
    )
    assert digest_settings({"a": 1}) != digest_settings({"a": "1"})
    assert digest_settings({"a": [1, 2]}) != digest_settings({"a": [2, 1]})


def test_a_model_directory_is_its_content(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text("{}")
    (model / "model.safetensors").write_bytes(b"weights")
    before = model_digest(str(model))
    moved = model.rename(tmp_path / "moved")
    os.utime(moved / "config.json", (1, 1))
    assert model_digest(str(moved)) == before
    (moved / "model.safetensors").write_bytes(b"Weights")
    os.utime(moved / "model.safetensors", (1, 1))  # two writes may fall into one tick of the clock
    assert model_digest(str(moved)) != before


def test_a_misspelt_path_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "./none", "~/none", "a/b/c"):
        with pytest.raises(RecipeError, match=f"model {name}: no such directory"):
            model_digest(name)


def test_a_hub_name_and_its_revision() -> None:
    assert model_digest("org/name") == model_digest("org/name")
    assert model_digest("org/name", "v1") != model_digest("org/name", "v2")
    assert model_digest("org/name") == model_digest("org/name", "main")


def test_a_hub_name_s_digest_does_not_depend_on_a_cached_copy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = model_digest("org/name")
    copy = tmp_path / "models--org--name"
    (copy / "refs").mkdir(parents=True)
    (copy / "refs" / "main").write_text("c" * 40)
    (copy / "snapshots" / ("c" * 40)).mkdir(parents=True)
    monkeypatch.setattr("huggingface_hub.scan_cache_dir", partial(scan_cache_dir, tmp_path))
    assert model_digest("org/name") == before


def test_copies_of_a_model_agree_whatever_lies_beside_it(tmp_path: Path) -> None:
    for name in ("model", "copy"):
        (tmp_path / name / "vision").mkdir(parents=True)
        (tmp_path / name / "vision" / "config.json").write_text("{}")
    (tmp_path / "copy" / "README.md").write_text("# A model")
    (tmp_path / "copy" / ".gitattributes").write_text("*.safetensors")
    (tmp_path / "copy" / ".cache" / "huggingface").mkdir(parents=True)
    (tmp_path / "copy" / ".cache" / "huggingface" / "x.lock").write_text("")
    before = model_digest(str(tmp_path / "model"))
    assert model_digest(str(tmp_path / "copy")) == before
    (tmp_path / "copy" / "vision").rename(tmp_path / "copy" / "text")
    assert model_digest(str(tmp_path / "copy")) != before, "where a file lies counts"


def test_a_model_s_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"weights")
    read: list[Path] = []

    def counted(path: Path) -> str:
        read.append(path)
        return digest_file(path)

    monkeypatch.setattr(fingerprint, "digest_file", counted)
    first = model_digest(str(tmp_path))
    assert model_digest(str(tmp_path)) == first and read == [file]
    file.write_bytes(b"Weights")
    os.utime(file, (1, 1))
    assert model_digest(str(tmp_path)) != first and read == [file, file]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("terarium", "did you mean terrarium"),
        ("Terrarium", "did you mean terrarium"),
        ("qwen3", "a hub name such as Qwen/"),
        ("", "no such directory"),
        ("org/", "no such directory"),
        ("org/na me", "no such directory"),
        ("models/qwen3", "no such directory in models/"),
    ],
)
def test_what_is_no_hub_name_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    (tmp_path / "models" / "qwen").mkdir(parents=True)
    (tmp_path / "models" / "qwen" / "config.json").write_text("{}")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RecipeError, match=f"^model {name}: .*{message}"):
        model_digest(name)
    assert model_digest("models/qwen")


def test_large_files(tmp_path: Path) -> None:
    data = os.urandom(9 * 2**20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert digest_file(tmp_path / "a") != digest_file(tmp_path / "b")
