"""Models that were fine-tuned here: `connote:DIRECTORY`, `connote:DIRECTORY@level`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.encoders.lengths import longer
from engine.encoders.names import EncoderName
from engine.encoders.protocol import Encoder
from engine.encoders.vectors import unit_rows
from engine.errors import RecipeError
from engine.schema import LEVELS
from engine.storage import local_copy, locate
from engine.training.model_directory import read_about


def load(name: EncoderName, device: str, dtype: str) -> Encoder:
    """The model of a directory under RUN/models.

    Raises:
        RecipeError: there is no finished model, or no such level of it.
        StorageError: it lies on an object store and cannot be fetched.
    """
    place = locate(name.model)
    about = read_about(place)
    if name.revision and about["method"] != "prefix":
        raise RecipeError(
            f"encoder '{name.text}': a model of method {about['method']} has no levels; leave out "
            f"@{name.revision}"
        )
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

    Of pcme the means are given; of the set methods all embeddings of an image, and a caption's
    only where it has one.
    """

    images = True

    def __init__(self, name: EncoderName, device: str, dtype: str) -> None:
        from engine.training.result import load_method

        self._device, self._dtype = torch.device(device), getattr(torch, dtype)
        self._method, about = load_method(locate(name.model), self._device)
        self._method.backbone.to(self._dtype)
        self._level = LEVELS.index(name.revision) if name.revision else -1
        self.width, self.vectors, self.texts = about["width"], about["vectors"], about["texts"]
        self.side = self._method.backbone.side

    def prepare(self, image: Image.Image) -> Any:
        """(3, height, width), float32."""
        return self._method.backbone.prepare(image)

    @torch.inference_mode()
    def embed_images(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """(n, width) or (n, vectors, width); see `Encoder`."""
        pixels = torch.stack(list(prepared)).to(self._device, self._dtype)
        levels = torch.full((len(pixels),), self._level, device=self._device)
        return _vectors(self._method.image_side(pixels, levels))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width); see `Encoder`."""
        tokens = self._method.backbone.tokenize(texts).to(self._device)
        return _vectors(self._method.text_side(tokens))

    def longer(self, texts: Sequence[str]) -> int:
        """See `Encoder`."""
        tokenize = self._method.backbone.tokenize
        return longer(texts, tokenize([""]).shape[1], tokenize)


def _vectors(outputs: dict[str, torch.Tensor]) -> NDArray[np.float32]:
    found = next(outputs[key] for key in ("features", "set", "mean") if key in outputs)
    return unit_rows(found[:, 0] if found.ndim == 3 and found.shape[1] == 1 else found)
