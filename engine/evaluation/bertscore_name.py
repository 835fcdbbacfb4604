"""Names of models for BERTScore, `bertscore:MODEL`, and the digest of what they stand for."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from engine.encoders.model_files import read_json
from engine.encoders.names import EncoderName
from engine.errors import RecipeError
from engine.storage.fingerprint import digest_of, model_digest

#: How names of `evaluate.co_captions` begin that stand for no encoder: BERTScore by a model.
BERTSCORE: Final = "bertscore:"
_FORM: Final = "bertscore:DIRECTORY or bertscore:ORG/NAME, then @REVISION and #LAYER where they are wanted"
_LAYER = re.compile(r"(?P<model>.+)#(?P<layer>[1-9][0-9]*)")
#: Names by which configurations tell how many layers a model has.
_LAYERS: Final = ("num_hidden_layers", "n_layers", "n_layer", "num_layers")


@dataclass(frozen=True)
class BertScoreName:
    """A transformers model whose tokens are compared, as a recipe names it.

    Attributes:
        model: its place, under the name as it was written.
        layer: whose hidden states are the tokens' vectors, from 1 on; None is the last.
    """

    model: EncoderName
    layer: int | None = None

    @classmethod
    def parse(cls, text: str) -> BertScoreName:
        """Read `bertscore:MODEL`, `bertscore:MODEL@REVISION`, either with `#LAYER`.

        Raises:
            RecipeError: it is written otherwise.
        """
        place = text.removeprefix(BERTSCORE)
        if place == text or not place:
            raise RecipeError(f"'{text}': write {_FORM}")
        found = _LAYER.fullmatch(place)
        place, layer = (found["model"], int(found["layer"])) if found else (place, None)
        if "#" in place and not Path(place).expanduser().exists():
            raise RecipeError(f"'{text}': a layer is a number from 1 on; write {_FORM}")
        return cls(replace(EncoderName.parse(f"hf:{place}"), text=text), layer)

    def digest(self) -> str:
        """Hex digest of what decides its similarities: the model's files or its name, and the layer.

        Raises:
            RecipeError: there is no such model.
        """
        try:
            return digest_of(
                "bertscore", model_digest(self.model.model, self.model.revision), f"{self.layer}"
            )
        except RecipeError as error:
            raise RecipeError(f"evaluate.co_captions, '{self.model.text}': {error}") from error

    def check(self) -> None:
        """Refuse a model without a configuration, and a layer that it has not.

        Raises:
            RecipeError: the message names the model's layers.
        """
        settings: Any = read_json(self.model, "config.json")
        told = [settings[key] for key in _LAYERS if key in settings] if isinstance(settings, dict) else []
        layers = next((number for number in told if isinstance(number, int)), None)
        if self.layer and layers is not None and self.layer > layers:
            raise RecipeError(
                f"evaluate.co_captions, '{self.model.text}': the model has {layers} layers; name one of them"
            )


def is_bertscore(text: str) -> bool:
    """Whether a name of `evaluate.co_captions` stands for BERTScore, and for no encoder."""
    return text.startswith(BERTSCORE)
