"""Models of open_clip, by architecture and tag or from a config and a weights file."""

from __future__ import annotations

import json
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from numpy.typing import NDArray
from PIL import Image

from engine.encoders.lengths import by_the_end, longer
from engine.encoders.names import EncoderName
from engine.encoders.own_similarity import COSINE, OwnSimilarity
from engine.encoders.refusal import refused
from engine.encoders.short_texts import short_reader
from engine.encoders.vectors import unit_rows
from engine.errors import RecipeError

_SUFFIX = "-quickgelu"


class OpenClipEncoder:
    """An image and a text tower of open_clip, with the library's own preprocessing.

    Raises:
        RecipeError: no such model, weights of another architecture, or the wrong activation.
    """

    vectors = text_vectors = 1
    similarity: OwnSimilarity = COSINE
    images = texts = True

    def __init__(self, name: EncoderName, device: str, dtype: str) -> None:
        self._device, self._dtype = device, getattr(torch, dtype)
        model, self._transform, self._tokenize = load_open_clip(name, device)
        self._model: Any = model.eval().requires_grad_(False).to(dtype=self._dtype)
        self._read = short_reader(self._model)
        self.width, self.side = shared_width(self._model), image_side(self._model)

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """(3, height, width), float32."""
        return self._transform(image)  # type: ignore[no-any-return]

    @torch.inference_mode()
    def embed_images(self, prepared: Sequence[torch.Tensor]) -> NDArray[np.float32]:
        """(n, width); see `Encoder`."""
        pixels = torch.stack(list(prepared)).to(self._device, self._dtype)
        return unit_rows(self._model.encode_image(pixels))

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """(n, width); see `Encoder`."""
        return unit_rows(self._read(self._tokenize(list(texts)).to(self._device)))

    def longer(self, texts: Sequence[str]) -> int:
        """See `Encoder`."""
        return longer(texts, self._tokenize.context_length, by_the_end(self._tokenize))


def load_open_clip(name: EncoderName, device: str) -> tuple[Any, Any, Any]:
    """The library's model in float32, its preprocessing for evaluation, and its tokenizer.

    Raises:
        RecipeError: see `OpenClipEncoder`.
    """
    check_activation(name)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        source, tag = _source(name, Path(folder))
        try:
            model, transform = open_clip.create_model_from_pretrained(source, tag, device=device)
            return model, transform, open_clip.get_tokenizer(source)
        except Exception as error:  # the library raises whatever it meets
            raise refused(name, error) from error


def check_activation(name: EncoderName) -> None:
    """Refuse weights under an architecture with another activation than they were trained with.

    OpenAI's models use QuickGELU, and most others GELU. Under the wrong one a model gives
    plausible vectors that retrieve worse; open_clip only warns.

    Raises:
        RecipeError: with the name to write instead.
    """
    if name.files():
        return
    architecture, _, tag = name.model.rpartition("/")
    config = open_clip.get_model_config(architecture)
    trained = open_clip.get_pretrained_cfg(architecture, tag)
    if not config or not trained:
        return
    if bool(config.get("quick_gelu")) == bool(trained.get("quick_gelu")):
        return
    plain = architecture.removesuffix(_SUFFIX)
    right = plain + _SUFFIX if trained.get("quick_gelu") else plain
    wants = "QuickGELU" if trained.get("quick_gelu") else "GELU"
    raise RecipeError(
        f"encoder '{name.text}': these weights were trained with {wants}, which {architecture} does not use; "
        f"write open_clip:{right}/{tag}"
    )


def _source(name: EncoderName, folder: Path) -> tuple[str, str | None]:
    """The model's name for open_clip, and its tag; files are laid out in `folder` as it wants them."""
    files = name.files()
    if files is None:
        architecture, _, tag = name.model.rpartition("/")
        if architecture not in open_clip.list_models():
            known = ", ".join(open_clip.list_models()[:3])
            raise RecipeError(
                f"encoder '{name.text}': open_clip has no architecture {architecture} (it has {known}, ...)"
            )
        return architecture, tag
    config, weights = files
    try:
        settings = json.loads(config.read_text())
    except ValueError as error:
        raise RecipeError(f"encoder '{name.text}': {config} is not JSON: {error}") from error
    # What open_clip's trainer uses is the bare model; what it publishes wraps it.
    whole = settings if "model_cfg" in settings else {"model_cfg": settings}
    (folder / "open_clip_config.json").write_text(json.dumps(whole))
    (folder / "open_clip_model.safetensors").symlink_to(weights.resolve())
    for file in config.parent.iterdir():
        # A tokenizer of transformers lies beside its config.
        if file.is_file() and not (folder / file.name).exists():
            (folder / file.name).symlink_to(file.resolve())
    return f"local-dir:{folder}", None


def save_tokenizer(name: EncoderName, folder: Path) -> list[str]:
    """Write the files of a tokenizer of transformers; returns their names, none of open_clip's own."""
    with tempfile.TemporaryDirectory() as laid_out:
        tokenizer = open_clip.get_tokenizer(_source(name, Path(laid_out))[0])
        if not isinstance(tokenizer, open_clip.tokenizer.HFTokenizer):
            return []
        tokenizer.tokenizer.save_pretrained(folder)
    return sorted(file.name for file in folder.iterdir())


def image_side(model: Any) -> int:
    """Pixels to which preprocessing scales the shorter side, before it crops the middle."""
    size = model.visual.image_size
    return max(size) if isinstance(size, tuple) else int(size)


def shared_width(model: Any) -> int:
    """Components of a vector, as the towers were built: timm's image towers do not keep it."""
    text = getattr(model, "text", model)
    for tower in (model.visual, text):
        if width := getattr(tower, "output_dim", None):
            return int(width)
    projection = text.text_projection
    return int(getattr(projection, "out_features", None) or projection.shape[-1])
