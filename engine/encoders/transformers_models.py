"""Models of transformers: DINOv2, CLIP, AltCLIP, ALIGN, SigLIP, GroupViT, FLAVA, BLIP, BLIP-2."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from numpy.typing import NDArray
from PIL import Image

from engine.encoders.lengths import by_the_mask, longer
from engine.encoders.names import EncoderName
from engine.encoders.own_similarity import COSINE, OwnSimilarity
from engine.encoders.protocol import Card
from engine.encoders.quiet import no_progress_bars
from engine.encoders.refusal import refused
from engine.encoders.transformers_families import Family, family_of
from engine.encoders.vectors import unit_rows
from engine.errors import RecipeError

#: What the library raises for a model that is not there or not whole.
REFUSALS = (OSError, ValueError, RuntimeError, ImportError)


class TransformersEncoder:
    """A model of one of the `FAMILIES`, with the library's own preprocessing.

    Raises:
        RecipeError: no such model, of no known family, or without the weights that retrieval
            needs (which the library would draw at random).
    """

    images = True
    text_vectors = 1
    similarity: OwnSimilarity = COSINE

    def __init__(self, name: EncoderName, device: str, dtype: str) -> None:
        self._name, self._device, self._dtype = name.text, device, getattr(torch, dtype)
        place = where(name)
        try:
            config = transformers.AutoConfig.from_pretrained(**place)
            self._family = family_of(name, config.model_type)
            with no_progress_bars():
                self._model: Any = load_weights(name, self._family, place, self._dtype).to(device)
            self._pictures: Any = transformers.AutoImageProcessor.from_pretrained(**place)
            self._tokenize: Any = (
                transformers.AutoTokenizer.from_pretrained(**place) if self._family.text else None
            )
        except REFUSALS as error:
            raise refused(name, error) from error
        self.texts = self._tokenize is not None
        self._length = text_length(self._family, config)
        self.side = shorter_side(self._pictures)
        self.width, self.vectors = self._family.width(config), self._family.vectors(config)

    def prepare(self, image: Image.Image) -> Mapping[str, torch.Tensor]:
        """What the model takes of one picture, by name, without the axis of the batch."""
        made = self._pictures(images=image, return_tensors="pt")
        return {key: value[0] for key, value in made.items()}

    @torch.inference_mode()
    def embed_images(self, prepared: Sequence[Mapping[str, torch.Tensor]]) -> NDArray[np.float32]:
        """(n, width) or (n, vectors, width); see `Encoder`."""
        batch = {key: self._put(torch.stack([each[key] for each in prepared])) for key in prepared[0]}
        return unit_rows(self._family.image(self._model, batch))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width); see `Encoder`."""
        if self._family.text is None:
            raise RecipeError(f"encoder '{self._name}' reads images only; name another one for texts")
        tokens = self._tokenize(
            self._read(texts),
            padding="max_length" if self._family.padded else "longest",
            truncation=True,
            max_length=self._length,
            return_tensors="pt",
        )
        return unit_rows(
            self._family.text(self._model, {key: self._put(each) for key, each in tokens.items()})
        )

    def longer(self, texts: Sequence[str]) -> int:
        """See `Encoder`."""
        return longer(self._read(texts), self._length, by_the_mask(self._tokenize))

    def _read(self, texts: Sequence[str]) -> list[str]:
        """SigLIP 2 is published with Gemma's tokenizer, which leaves capitals as they are."""
        return [text.lower() for text in texts] if self._family.lower else list(texts)

    def _put(self, tensor: torch.Tensor) -> torch.Tensor:
        return tensor.to(self._device, self._dtype) if tensor.is_floating_point() else tensor.to(self._device)


def read_transformers_card(name: EncoderName) -> Card:
    """See `engine.encoders.card.read_card`."""
    place = where(name)
    try:
        config = transformers.AutoConfig.from_pretrained(**place)
        family = family_of(name, config.model_type)
        pictures = transformers.AutoImageProcessor.from_pretrained(**place)
    except REFUSALS as error:
        raise refused(name, error) from error
    return Card(
        family.width(config), family.vectors(config), True, family.text is not None, shorter_side(pictures)
    )


def where(name: EncoderName) -> dict[str, Any]:
    """What the library's `from_pretrained` is given."""
    place = {
        "pretrained_model_name_or_path": str(Path(name.model).expanduser()),
        "trust_remote_code": False,
    }
    return {**place, "revision": name.revision} if name.revision else place


def load_weights(name: EncoderName, family: Family, place: dict[str, Any], dtype: torch.dtype) -> Any:
    """The model, frozen.

    Raises:
        RecipeError: weights are missing, which the library would draw at random.
    """
    kind: Any = getattr(transformers, family.model)
    model, report = kind.from_pretrained(**place, dtype=dtype, use_safetensors=True, output_loading_info=True)
    missing = sorted(report["missing_keys"])
    if missing:
        raise RecipeError(
            f"encoder '{name.text}': its weights lack {len(missing)} tensors that retrieval needs, such as "
            f"{missing[0]}; name a checkpoint trained for retrieval"
        )
    return model.eval().requires_grad_(False)


def text_length(family: Family, config: Any) -> int:
    """Tokens of a text: the family's, or fewer where the model has fewer places for them."""
    text = getattr(config, "qformer_config", None) or getattr(config, "text_config", None)
    places = getattr(text, "max_position_embeddings", None)
    return min(family.length, places) if places else family.length


def shorter_side(processor: Any) -> int:
    """The side up to which preprocessing uses detail; 0 if it does not say."""
    size = processor.size
    sides = [getattr(size, key, None) for key in ("shortest_edge", "height", "width")]
    return max((int(side) for side in sides if side), default=0)
