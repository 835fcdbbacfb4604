"""Settings that a training goes on with, compared with those that it began with."""

from __future__ import annotations

import json

import pytest

from engine.errors import RecipeError
from engine.training.settings_file import check_settings


def test_settings_that_did_not_change() -> None:
    stored = json.loads(
        json.dumps({"finetune": {"shares": (0.6, 0.4), "alpha": 8, "weights": {}}, "seed": 0})
    )
    check_settings(stored, {"seed": 0, "finetune": {"alpha": 8.0, "shares": (0.6, 0.4)}})
    check_settings({}, {})


def test_settings_that_changed_are_named() -> None:
    stored = {"finetune": {"batch": 512, "data": {"levels": ["concept"], "weights": {"concept": 2.0}}}}
    wanted = {"finetune": {"batch": 256, "data": {"levels": ("concept", "metaphor")}, "ema": None}}
    with pytest.raises(RecipeError) as caught:
        check_settings(stored, wanted)
    assert str(caught.value) == (
        'finetune.batch is 256 (was 512), finetune.data.levels is ["concept", "metaphor"] (was ["concept"]), '
        "finetune.data.weights.concept is not set (was 2.0), finetune.ema is null (was not set): this "
        "training began with other settings; set it back, choose another finetune.name, or start from these "
        "weights with finetune.start"
    )
