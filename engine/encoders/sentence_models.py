"""Models of sentence-transformers: one vector of a whole text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from sentence_transformers import SentenceTransformer

from engine.encoders.lengths import by_the_mask, longer
from engine.encoders.names import EncoderName
from engine.encoders.own_similarity import COSINE, OwnSimilarity
from engine.encoders.quiet import no_progress_bars
from engine.encoders.refusal import refused
from engine.encoders.sentence_card import sentence_width
from engine.encoders.vectors import unit_rows
from engine.errors import RecipeError


class SentenceEncoder:
    """A model of sentence-transformers, with its own pooling and its own default prompt.

    Code that comes with a model is never run.

    Raises:
        RecipeError: no such model, one of another kind, or one that its library refuses.
    """

    vectors = text_vectors = 1
    similarity: OwnSimilarity = COSINE
    images, texts = False, True
    side = 0

    def __init__(self, name: EncoderName, device: str, dtype: str) -> None:
        self._name = name.text
        sentence_width(name)  # the library makes something of models that are of another kind
        try:
            with no_progress_bars():
                self._model: Any = SentenceTransformer(
                    str(Path(name.model).expanduser()),
                    device=device,
                    revision=name.revision,
                    trust_remote_code=False,
                    model_kwargs={"dtype": getattr(torch, dtype), "use_safetensors": True},
                ).requires_grad_(False)
            # What it says of its width is its configuration's word again; one text tells.
            self.width = int(self._encode(["a"]).shape[-1])
        except (torch.OutOfMemoryError, torch.AcceleratorError):
            raise  # the device's fault and not the model's
        except Exception as error:  # the library raises whatever it meets
            raise refused(name, error) from error

    def prepare(self, image: Image.Image) -> NoReturn:
        """See `embed_images`."""
        raise self._no_images()

    def embed_images(self, prepared: Sequence[Any]) -> NoReturn:
        """It reads no pictures.

        Raises:
            RecipeError: always.
        """
        raise self._no_images()

    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width); see `Encoder`. Texts are cut at the model's `max_seq_length`."""
        if not texts:
            return np.zeros((0, self.width), np.float32)
        return unit_rows(self._encode(texts))

    def longer(self, texts: Sequence[str]) -> int:
        """See `Encoder`; the prompt that goes before each text counts."""
        is_longer = by_the_mask(self._model.tokenizer)
        prompt = self._model.prompts.get(self._model.default_prompt_name or "", "")
        return longer([prompt + text for text in texts], self._model.max_seq_length, is_longer)

    def _encode(self, texts: Sequence[str]) -> torch.Tensor:
        # One batch: how many go at once is decided by who asks.
        return self._model.encode(  # type: ignore[no-any-return]
            list(texts), batch_size=len(texts), convert_to_tensor=True, show_progress_bar=False
        )

    def _no_images(self) -> RecipeError:
        return RecipeError(f"encoder '{self._name}' reads texts only; name another one for images")
