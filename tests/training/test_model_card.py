from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from engine.recipe.finetune import Finetune
from engine.schema import LEVELS
from engine.training.model_card import DataFacts, model_card
from engine.training.pairs_file import IMAGE, Pairs
from tests.training.tiny import write_clip

FACTS = DataFacts(1200, {"metaphor": 4000, "original": 1000, "synonym": 5000}, 30, {"metaphor": 90})
SCORES = {"metaphor/t2i R@1": 0.25, "metaphor/i2t R@1": 0.5, "t2i R@1": 0.125, "i2t R@1": 0.375}


def recipe(**more: Any) -> Finetune:
    return Finetune.model_validate({"model": "hf:openai/clip-vit-base-patch32", "method": "full", **more})


def card(settings: Finetune, facts: DataFacts = FACTS, **about: Any) -> tuple[dict[str, Any], str]:
    """The header as Hugging Face reads it, and the text."""
    text = model_card(settings, facts, {"form": "open_clip", "steps": 2000, **about})
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def cells(body: str, first: str) -> list[str]:
    """The cells of a table's row."""
    (line,) = (line for line in body.splitlines() if line.startswith(f"| {first} |"))
    return [cell.strip() for cell in line.strip("|").split(" | ")][1:]


@pytest.mark.parametrize(
    ("model", "method", "form", "wanted"),
    [
        (
            "hf:openai/clip-vit-base-patch32",
            "full",
            "hf",
            ("transformers", "openai/clip-vit-base-patch32", "finetune"),
        ),
        ("hf:openai/clip@abc", "prefix", "method", ("connote", "openai/clip", "adapter")),
        (
            "open_clip:ViT-B-32/laion2b_s34b_b79k",
            "lora",
            "open_clip",
            ("open_clip", "laion/CLIP-ViT-B-32-laion2B-s34B-b79K", "finetune"),
        ),
        ("open_clip:ViT-B-32/nothing", "lora", "open_clip", ("open_clip", None, None)),
        ("hf:/data/my models/clip", "full", "hf", ("transformers", None, None)),
        ("open_clip:terrarium", "full", "open_clip", ("open_clip", None, None)),
    ],
)
def test_the_header(model: str, method: str, form: str, wanted: tuple[str, str | None, str | None]) -> None:
    header, _ = card(recipe(model=model, method=method), form=form)
    found = (header["library_name"], header.get("base_model"), header.get("base_model_relation"))
    assert found == wanted
    assert header["tags"] == ["connote", "clip", method]
    assert ("pipeline_tag" in header) == (form != "method")


def test_a_model_in_files_has_no_name_on_a_hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "base_model" not in card(recipe(model=write_clip(tmp_path)))[0]
    (tmp_path / "models/mine").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    assert "base_model" not in card(recipe(model="hf:models/mine"), form="hf")[0]


def test_recall_before_and_after_by_level() -> None:
    after = {**{name: 2 * value for name, value in SCORES.items()}, "metaphor/t2i R@1": float("nan")}
    _, body = card(recipe(), before=SCORES, validation=after)
    recall = body.split("## Recall")[1].split("## Data")[0]
    assert cells(recall, "level") == ["t2i R@1", "i2t R@1"]
    assert cells(recall, "all") == ["12.5 → 25.0", "37.5 → 75.0"]
    assert cells(recall, "metaphor") == ["25.0 → –", "50.0 → 100.0"]
    assert "(90 captions)" in recall
    # Levels by distance, all of them first.
    many = {f"{level}/t2i R@1": 0.5 for level in ("concept", "original", "synonym")} | {"t2i R@1": 0.1}
    recall = card(recipe(), validation=many)[1].split("## Recall")[1].split("## Data")[0]
    order = [line.split(" | ")[0] for line in recall.splitlines() if "→ " in line and line.startswith("|")]
    assert order == ["| all", "| original", "| synonym", "| concept"]
    assert cells(recall, "all") == ["– → 10.0"]


def test_nothing_measured_is_said() -> None:
    for empty in ({}, {"before": None, "validation": {}}):
        assert "nothing was measured" in card(recipe(), **empty)[1]


def test_data_and_summary() -> None:
    about = {"bad_batches": 3, "interpolation": {"share": 0.5, "tried": [(0.0, 0.1), (0.5, 0.3), (1.0, 0.2)]}}
    _, body = card(recipe(), **about)
    data = body.split("## Data")[1].split("## Settings")[0]
    assert cells(data, "metaphor") == ["4,000", "90"] and cells(data, "synonym") == ["5,000", "0"]
    assert "1,200 images were trained on, 30 held out" in data
    assert "`hf:openai/clip-vit-base-patch32`" in body and "2,000 steps on 10,000 captions" in body
    assert (
        "3 batches without a finite loss" in body and "0.5 of the tuned ones" in body and "0, 0.5, 1" in body
    )
    plain = card(recipe())[1]
    assert "finite" not in plain and "tuned ones" not in plain


def test_settings_that_differ_and_decide() -> None:
    changed = recipe(
        batch=64, data={"weights": {"metaphor": 2}}, adapter={"rank": 4}, workers=8, wandb="secret"
    )
    _, body = card(changed)
    settings = body.split("## Settings")[1].split("## How")[0]
    assert cells(settings, "batch") == ["`64`", "`512`"]
    assert cells(settings, "data.weights") == ['`{"metaphor": 2.0}`', "`{}`"]
    assert cells(settings, "adapter.rank") == ["`4`", "`8`"]
    assert "workers" not in settings and "secret" not in body
    # The defaults are the method's own.
    assert "are the defaults of method pvse" in card(recipe(method="pvse"), form="method")[1]
    shown = card(recipe(method="pvse", batch=512), form="method")[1]
    assert cells(shown, "batch") == ["`512`", "`1024`"]


@pytest.mark.parametrize(
    ("form", "method", "more", "wanted"),
    [
        ("open_clip", "full", {}, 'create_model_from_pretrained("local-dir:DIR")'),
        ("hf", "lora", {}, 'CLIPModel.from_pretrained("DIR/model")'),
        ("method", "prefix", {}, "connote:DIR@metaphor"),
        ("method", "dive", {"vectors": 5}, "An image has 5 vectors, and so has a caption"),
        ("method", "pcme", {"vectors": 1}, 'EncoderName.parse("connote:DIR")'),
        ("method", "pcme", {"vectors": 1}, "`connote:DIR@mean` gives the mean of each"),
    ],
)
def test_how_to_load_it(form: str, method: str, more: dict[str, Any], wanted: str) -> None:
    _, body = card(recipe(method=method), form=form, **more)
    assert wanted in body
    assert body.count("```") == 2
    assert ("DIR@" in body) == (method in ("prefix", "pcme")) and ("as sets" in body) == (
        more.get("vectors", 1) > 1
    )


def test_levels_of_prefix_are_those_that_it_has_learned() -> None:
    few = recipe(method="prefix", data={"levels": ["context", "broader"]})
    assert (
        "`connote:DIR@context` sees images at a level that it was trained on (broader, context);"
        in card(few, form="method")[1]
    )
    # In what it started from, too.
    text = card(few, form="method", levels=("broader", "context", "metaphor"))[1]
    assert "`connote:DIR@metaphor` sees" in text and "(broader, context, metaphor)" in text


def test_a_bias_that_is_not_in_the_weights() -> None:
    assert "bias" not in card(recipe())[1]
    text = card(recipe(loss="sigmoid"), logit_bias=-9.87654)[1]
    assert "a bias of the logits, -9.877, which the weights here have no place for" in text


HOSTILE = 'hf:x/`<script>alert(1)</script>` | [a](http://b)\n---\n# new ``heading`` "é"'


def test_what_users_data_hold_is_no_markup() -> None:
    header, body = card(recipe(model=HOSTILE, start="a|b\n| c | `d` |"), form="hf")
    assert header.keys() == {"library_name", "tags", "pipeline_tag"}
    assert not any(line.startswith(("---", "# new", "| c")) for line in body.splitlines())
    # Whatever it holds stands between fences that it does not hold.
    (line,) = (line for line in body.splitlines() if "script" in line)
    fence, inside = "```", line.split("```")[1]
    assert line.count(fence) == 2 and "<script>" in inside and '"é"' in inside
    (row,) = (line for line in body.splitlines() if line.startswith("| start |"))
    assert row.replace("\\|", "").count("|") == 4


def test_facts_of_pairs() -> None:
    images = pa.table({name: pa.array(["a", "b", "c", "d"]) for name in IMAGE})
    pairs = Pairs(
        np.array([0, 0, 1, 2, 2, 3], np.int32),
        np.array([-1, 4, 4, 0, 4, 4], np.int8),
        np.ones(6, np.float32),
        pa.array(list("uvwxyz"), pa.large_string()),
        images,
        np.array([False, False, True, True]),
    )
    facts = DataFacts.of(pairs, 1)
    assert facts == DataFacts(2, {"original": 1, "metaphor": 2}, 2, {"synonym": 1, "metaphor": 1})
    assert set(facts.captions) <= {*LEVELS, "original"}
    # Counts are plain numbers, which JSON takes.
    assert json.dumps(facts.captions)
