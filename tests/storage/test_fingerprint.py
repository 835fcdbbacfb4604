from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.errors import RecipeError
from engine.storage import digest_of, digest_settings, model_digest
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
    assert model_digest(str(moved)) != before


def test_a_misspelt_path_is_refused(tmp_path: Path) -> None:
    for name in (str(tmp_path / "none"), "./none", "~/none", "a/b/c"):
        with pytest.raises(RecipeError, match=f"model {name}: no such directory"):
            model_digest(name)


def test_a_hub_name_and_its_revision() -> None:
    assert model_digest("org/name") == model_digest("org/name")
    assert model_digest("org/name", "v1") != model_digest("org/name", "v2")


def test_large_files(tmp_path: Path) -> None:
    data = os.urandom(9 * 2**20)
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    assert digest_file(tmp_path / "a") != digest_file(tmp_path / "b")
