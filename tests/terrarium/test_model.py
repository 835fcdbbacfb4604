"""The model: its training signal, its files, and what the shipped weights say."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

from engine.terrarium import MODEL_DIR
from engine.terrarium.evaluate import evaluate
from engine.terrarium.language import answer_loss
from engine.terrarium.lessons import UNASKED, Teacher, collate
from engine.terrarium.model import build, load, save
from engine.terrarium.speaker import Speaker
from engine.terrarium.tokens import build_tokenizer, load_tokenizer
from engine.terrarium.train import train
from engine.terrarium.vision import to_pixels
from engine.terrarium.world import scene


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """On a busy machine, threads that wait for each other cost more than they give."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def test_packed_questions_cost_what_they_cost_alone() -> None:
    torch.manual_seed(0)
    tokenizer = build_tokenizer()
    model = build(tokenizer).eval()
    model.set_attn_implementation("eager")
    teacher, scenes = Teacher(tokenizer, seed=0), [scene(9, 0), scene(9, 1)]
    lessons, pixels = [teacher.look(one) for one in scenes], to_pixels(scenes)
    with torch.no_grad():
        features = model.model.vision_tower(pixel_values=pixels).last_hidden_state[:, 1:]
        packed = float(answer_loss(model, collate(lessons), features))
        total, count = 0.0, 0
        for number, lesson in enumerate(lessons):
            for branch in lesson.branches:
                whole = torch.tensor([lesson.prefix + branch.ids])
                image = pixels[number : number + 1]
                logits = model(input_ids=whole, pixel_values=image).logits[0, len(lesson.prefix) :]
                wanted = torch.tensor(branch.targets)
                total += float(functional.cross_entropy(logits, wanted, reduction="sum"))
                count += int((wanted != UNASKED).sum())
    assert packed == pytest.approx(total / count, abs=1e-4)


def test_saved_weights_have_the_names_that_vllm_reads(tmp_path: Path) -> None:
    tokenizer = build_tokenizer()
    model = build(tokenizer)
    save(model, tokenizer, tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert all(value.dtype == torch.bfloat16 for value in stored.values())
    assert not [name for name in stored if name.startswith("model.")]
    tower = [name for name in stored if name.startswith("vision_tower.")]
    assert tower
    assert all(name.startswith("vision_tower.vision_model.") for name in tower)
    again = load(tmp_path, load_tokenizer(tmp_path))
    for name, value in model.state_dict().items():
        assert torch.equal(value.to(torch.bfloat16).float(), again.state_dict()[name]), name


def test_shipped_tokenizer_is_the_one_the_package_builds() -> None:
    assert load_tokenizer(MODEL_DIR).get_vocab() == build_tokenizer().get_vocab()
    assert sum(path.stat().st_size for path in MODEL_DIR.iterdir()) < 20e6


def test_shipped_model_knows_its_world() -> None:
    figures = evaluate(Speaker(MODEL_DIR), [scene(10, number) for number in range(10)])
    assert figures["described elements, recall"] >= 0.93
    assert figures["described elements, precision"] >= 0.93
    assert figures["associations valid"] >= 0.88
    assert figures["captions with their association"] >= 0.93


@pytest.mark.slow
def test_training_runs_to_a_model_that_loads(tmp_path: Path) -> None:
    train(tmp_path, effort=0.0006, device=torch.device("cpu"))
    assert not list(tmp_path.glob("checkpoint*"))
    assert evaluate(Speaker(tmp_path), [scene(10, number) for number in range(4)])
