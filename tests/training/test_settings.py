"""What the section `finetune` refuses, and what it fills in."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from engine.recipe.finetune import DEFAULTS, Finetune

MODEL = "open_clip:terrarium"


@pytest.mark.parametrize("method", list(DEFAULTS))
def test_defaults_are_the_method_s_own(method: str) -> None:
    made = Finetune.model_validate({"method": method, "model": MODEL})
    assert {name: getattr(made, name) for name in DEFAULTS[method]} == DEFAULTS[method]
    assert made.directory == method and made.towers == ("image", "text")
    other = Finetune.model_validate({"method": method, "model": MODEL, "batch": 64, "name": "mine"})
    assert other.batch == 64 and other.directory == "mine"


def test_the_order_in_which_towers_are_named_does_not_matter() -> None:
    assert Finetune.model_validate({"model": MODEL, "towers": ["text", "image"]}).towers == ("image", "text")


@pytest.mark.parametrize(
    ("given", "least", "most"), [(3, 3, 3), ([1, 4], 1, 4), ({"min": 1, "max": 4}, 1, 4), ([2, 2], 2, 2)]
)
def test_workers_are_a_number_or_a_range(given: Any, least: int, most: int) -> None:
    assert Finetune.model_validate({"model": MODEL, "workers": given}).worker_bounds == (least, most)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"method": "pvse", "towers": ["text"]}, "towers: method pvse trains what it adds to both"),
        ({"method": "prefix", "towers": ["image"]}, "towers: method prefix trains"),
        ({"towers": []}, "image, text or both, each once"),
        ({"towers": ["text", "text"]}, "image, text or both, each once"),
        ({"towers": ["audio"]}, "'image' or 'text'"),
        ({"method": "prefix", "data": {"captions": ["original"]}}, r"data\.captions must be \[mined\]"),
        (
            {"loss": "multi_positive"},
            "in order shuffled no image is in a batch twice, .* take order balanced",
        ),
        ({"select": "best", "data": {"validation": 0}}, r"select: chosen on held-out images"),
        ({"method": "dive", "interpolate": [0.5]}, "interpolate: method dive does not change"),
        ({"interpolate": [1.5]}, "from 0 to 1"),
        ({"method": "lora", "layer_decay": 0.9}, "layer_decay: method lora trains no layers"),
        ({"method": "pcme", "loss": "sigmoid"}, "loss: method pcme has a loss of its own"),
        ({"name": "../x"}, "a name of one directory"),
        ({"name": ""}, "a name of one directory"),
        ({"model": "clip"}, "clip"),
        ({"model": "connote:runs/a/models/full"}, r"cannot be trained; name a CLIP of open_clip"),
        ({"model": "python:tests.encoders.own:colours"}, "cannot be trained"),
        ({"interpolate": [0.5], "data": {"validation": 0}}, r"set data\.validation above 0"),
        ({"method": "lora", "interpolate": [0.5], "start": "x"}, r"began with under finetune\.start"),
        ({"shares": [-1, 0]}, "two weights from 0 up"),
        ({"shares": [0, 0]}, "two weights from 0 up"),
        ({"betas": [0.9, 1.0]}, "from 0 to below 1"),
        ({"gpus": 0.5, "workers": 2}, "a whole GPU each"),
        ({"workers": [3, 2]}, "with min not above max"),
        ({"workers": {"min": 3, "max": 2}}, "with min not above max"),
        ({"workers": {"least": 1, "most": 2}}, "a range has min and max"),
        ({"workers": {"min": 1}}, "a range has min and max"),
        ({"workers": 0}, "a number from 1 up"),
        ({"data": {"levels": []}}, "name at least one, and each once"),
        ({"data": {"levels": ["colour"]}}, "'synonym', 'broader', 'context', 'concept' or 'metaphor'"),
        ({"data": {"weights": {"concept": 0}}}, "weights are above 0"),
    ],
)
def test_what_cannot_be_is_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Finetune.model_validate({"model": MODEL, **given})


def test_validations_decide_which_step_is_the_best() -> None:
    last, best = (Finetune.model_validate({"model": MODEL, "select": select}) for select in ("last", "best"))
    assert "validate_every" in last.free and last.free - best.free == {"validate_every"}
