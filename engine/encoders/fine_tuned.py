"""Models that were fine-tuned here: `connote:DIRECTORY`, or with `@level` or `@view`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.encoders.fine_tuned_about import read_about
from engine.encoders.fine_tuned_card import fine_tuned_card
from engine.encoders.lengths import by_the_end, longer
from engine.encoders.names import EncoderName
from engine.encoders.own_similarity import DotProduct
from engine.encoders.protocol import Encoder
from engine.encoders.vectors import finite_rows, unit_rows
from engine.schema import LEVELS
from engine.storage import local_copy, locate


def load(name: EncoderName, device: str, dtype: str) -> Encoder:
    """The model of a directory under RUN/models.

    Raises:
        RecipeError: there is no finished model, or no such level or view of it.
        StorageError: it lies on an object store and cannot be fetched.
    """
    place = locate(name.model)
    about = read_about(place)
    fine_tuned_card(name)  # which refuses a view that it has not, or a level that it has not learned
    match about["form"]:
        case "open_clip":
            from engine.encoders.open_clip_models import OpenClipEncoder

            files = about["files"]
            here = local_copy(place, [*files.split("/"), *about.get("tokenizer", [])], about["digest"])
            return OpenClipEncoder(EncoderName.parse(f"open_clip:{here}/{files}"), device, dtype)
        case "hf":
            from engine.encoders.transformers_models import TransformersEncoder

            folder = about["files"]
            names = [f"{folder}/{name}" for name in (place / folder).names()]
            here = local_copy(place, names, about["digest"])
            return TransformersEncoder(EncoderName.parse(f"hf:{here}/{folder}"), device, dtype)
    return FineTunedEncoder(name, device, dtype)


class FineTunedEncoder:
    """A backbone with what `prefix`, `pvse`, `pcme` or `dive` has learned.

    Of the set methods all embeddings are given; of pcme samples, their mean, or the mean of the
    distribution, as its name says.
    """

    images = texts = True

    def __init__(self, name: EncoderName, device: str, dtype: str) -> None:
        from engine.training.result import load_method

        self._device, self._dtype = torch.device(device), getattr(torch, dtype)
        self._method, _ = load_method(locate(name.model), self._device)
        self._method.backbone.to(self._dtype)
        self._level = LEVELS.index(name.revision) if name.revision in LEVELS else -1
        card = fine_tuned_card(name)
        self.width, self.vectors, self.text_vectors = card.width, card.vectors, card.text_vectors
        self.similarity = card.similarity
        self.side = self._method.backbone.side

    def prepare(self, image: Image.Image) -> Any:
        """(3, height, width), float32."""
        return self._method.backbone.prepare(image)

    @torch.inference_mode()
    def embed_images(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """(n, width) or (n, vectors, width); see `Encoder`."""
        pixels = torch.stack(list(prepared)).to(self._device, self._dtype)
        levels = torch.full((len(pixels),), self._level, device=self._device)
        return self._given(self._method.image_side(pixels, levels), images=True)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width) or (n, text_vectors, width); see `Encoder`."""
        tokens = self._method.backbone.tokenize(texts).to(self._device)
        return self._given(self._method.text_side(tokens), images=False)

    def _given(self, said: dict[str, torch.Tensor], images: bool) -> NDArray[np.float32]:
        """Of what a side says, what the similarity wants."""
        from engine.training.methods.pcme import Pcme

        if self.similarity.unit:
            return _vectors(said)
        assert isinstance(self._method, Pcme)
        drawn = self._method.image_samples(said) if images else self._method.text_samples(said)
        one = isinstance(self.similarity, DotProduct) or drawn.shape[1] == 1
        return finite_rows(drawn.mean(dim=1) if one else drawn)

    def longer(self, texts: Sequence[str]) -> int:
        """See `Encoder`."""
        tokenize = self._method.backbone.tokenize
        return longer(texts, tokenize([""]).shape[1], by_the_end(tokenize))


def _vectors(outputs: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    found = next(outputs[key] for key in ("features", "set", "mean") if key in outputs)
    return unit_rows(found[:, 0] if found.ndim == 3 and found.shape[1] == 1 else found)
