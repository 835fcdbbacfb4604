from pathlib import Path
from typing import Any

import pytest

from engine.errors import RecipeError
from engine.generation import generator_digest
from engine.recipe import Vllm


def digest(model: Path | str, **settings: Any) -> str:
    return generator_digest(Vllm.model_validate({"backend": "vllm", "model": str(model), **settings}))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    directory = tmp_path / "model"
    directory.mkdir()
    (directory / "config.json").write_text("{}")
    (directory / "model.safetensors").write_bytes(b"weights")
    return directory


def test_what_decides_the_answers_changes_the_digest(model: Path) -> None:
    plain = digest(model)
    changed = {
        digest(model, dtype="float32"),
        digest(model, max_model_len=512),
        digest(model, engine={"mm_processor_kwargs": {"max_pixels": 1000}}),
        digest(model, engine={"quantization": "fp8"}),
    }
    assert len(changed | {plain}) == 5
    (model / "model.safetensors").write_bytes(b"other weights")
    assert digest(model) not in changed | {plain}


def test_how_fast_it_runs_does_not(model: Path) -> None:
    fast = {"actors": 8, "gpus": 4, "cpus": 3, "requests_in_flight": 7}
    engine = {"max_num_seqs": 8, "gpu_memory_utilization": 0.5, "kv_cache_memory_bytes": 2**30}
    assert digest(model) == digest(model, **fast) == digest(model, engine=engine)


def test_a_model_is_its_content_wherever_it_lies(model: Path) -> None:
    before = digest(model)
    assert digest(model.rename(model.with_name("moved"))) == before


def test_a_missing_model_is_named(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"model .*nothing: no such directory"):
        digest(tmp_path / "nothing")


def test_a_directory_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"holds no config\.json"):
        digest(tmp_path)
