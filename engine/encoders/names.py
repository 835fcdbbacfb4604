"""Names of encoders, `backend:model`, and the digest of what they stand for."""

from __future__ import annotations

import inspect
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast, get_args

from engine.errors import RecipeError
from engine.schema import LEVELS
from engine.storage.fingerprint import digest_of, digest_once, model_digest

Backend = Literal["open_clip", "hf", "sentence", "python", "connote"]

_FORMS = (
    "open_clip:ARCHITECTURE/TAG, open_clip:CONFIG.json/WEIGHTS.safetensors, hf:ORG/NAME or hf:DIRECTORY, "
    "sentence:ORG/NAME or sentence:DIRECTORY, python:MODULE:FACTORY, or connote:RUN/models/NAME"
)
#: Backends whose models are directories or names on the hub.
_ON_HUB = ("hf", "sentence")
#: What may stand behind `@` of a model fine-tuned by `pcme`, instead of its samples: their means' one
#: vector, compared by cosines, or the mean of the samples, compared as the published code does.
VIEWS = ("mean", "dot_product")
#: The embedded CLIPs (docs/terrarium.md) are named without a tag: this, and more behind a dash.
TERRARIUM = "terrarium"
#: In which a tokenizer of transformers keeps what decides its tokens, by its kind.
_TOKENIZER = (
    "merges.txt",
    "sentencepiece.bpe.model",
    "special_tokens_map.json",
    "spiece.model",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "vocab.json",
    "vocab.txt",
)
_FILES = re.compile(r"(?P<config>.+\.json)/(?P<weights>.+)")


@dataclass(frozen=True)
class EncoderName:
    """One encoder, as a recipe names it.

    Attributes:
        text: the name as it was written.
        backend: the library that runs it.
        model: what the library is asked for, without `@revision`.
        revision: of a model on a hub, None is its main branch; of a model fine-tuned by `prefix`
            the level that its images are seen at, and of one by `pcme` one of `VIEWS`.
    """

    text: str
    backend: Backend
    model: str
    revision: str | None = None

    @classmethod
    def parse(cls, text: str) -> EncoderName:
        """Read `backend:model` or, of models on a hub, `backend:model@revision`.

        Raises:
            RecipeError: it is written otherwise.
        """
        backend, _, model = text.partition(":")
        if backend not in get_args(Backend) or not model:
            raise RecipeError(f"encoder '{text}': write {_FORMS}")
        revision = None
        if backend in _ON_HUB and not Path(model).expanduser().exists():
            model, _, revision = model.partition("@")
        if backend == "connote" and model.rpartition("@")[2] in (*LEVELS, *VIEWS):
            model, _, revision = model.rpartition("@")
        if backend == "python" and not all(model.partition(":")):
            raise RecipeError(f"encoder '{text}': write python:MODULE:FACTORY")
        if backend == "open_clip" and "/" not in model and model.partition("-")[0] != TERRARIUM:
            raise RecipeError(
                f"encoder '{text}': which weights? Write open_clip:ARCHITECTURE/TAG, as in "
                "open_clip:ViT-B-32-quickgelu/openai; `open_clip.list_pretrained()` lists them"
            )
        return cls(text, cast(Backend, backend), model, revision or None)

    def files(self) -> tuple[Path, Path] | None:
        """Config and weights of an open_clip model in files; None if it is named by its tag.

        Weights that do not start at the root lie beside the config: `clip/config.json/model.safetensors`
        is `clip/model.safetensors`.

        Raises:
            RecipeError: a file is missing, or the weights are not safetensors.
        """
        if self.backend == "open_clip" and "/" not in self.model:
            return _embedded(self)
        found = _FILES.fullmatch(self.model) if self.backend == "open_clip" else None
        if found is None:
            return None
        config = Path(found["config"]).expanduser()
        weights = config.parent / Path(found["weights"]).expanduser()
        for file in (config, weights):
            if not file.is_file():
                raise RecipeError(f"encoder '{self.text}': there is no file {file}")
        if weights.suffix != ".safetensors":
            raise RecipeError(
                f"encoder '{self.text}': {weights.name} is not a .safetensors file; others may run code when "
                "they are loaded: convert it with safetensors.torch.save_file"
            )
        return config, weights

    def digest(self) -> str:
        """Hex digest of what decides the vectors: contents of files, or names and revisions.

        Raises:
            RecipeError: there is no such file, model or function.
        """
        if files := self.files():
            return digest_of(self.backend, *(digest_once(file) for file in (*files, *_tokenizer(files[0]))))
        match self.backend:
            case "hf" | "sentence":
                return digest_of(self.backend, model_digest(self.model, self.revision))
            case "python":
                from engine.encoders.python_factory import find_factory

                factory = find_factory(self.model)
                module = inspect.getmodule(getattr(factory, "func", factory))  # of a `functools.partial`
                told = [str(factory.digest)] if hasattr(factory, "digest") else []
                return digest_of(self.backend, self.model, inspect.getsource(module) if module else "", *told)
            case "connote":
                from engine.encoders.fine_tuned_about import read_about
                from engine.storage import locate

                about, seen = read_about(locate(self.model)), self.revision or ""
                if about["method"] == "pcme":
                    # Once the means were all that it gave, and stood for themselves.
                    seen = {"": "samples", "mean": ""}.get(seen, seen)
                return digest_of(self.backend, about["digest"], seen)
            case "open_clip":
                return digest_of(self.backend, self.model)


def _tokenizer(config: Path) -> list[Path]:
    """The files of transformers' tokenizer, where the config of an open_clip model says that it has one."""
    try:
        settings = json.loads(config.read_text())
        text = settings.get("model_cfg", settings).get("text_cfg", {})
        own = bool(text.get("hf_tokenizer_name"))
    except (ValueError, AttributeError):
        own = False  # whoever loads the model says what is wrong with the file
    return [file for name in _TOKENIZER if own and (file := config.parent / name).is_file()]


def _embedded(name: EncoderName) -> tuple[Path, Path]:
    """Config and weights of an embedded CLIP."""
    from engine.terrarium.clip_shapes import SHAPES

    if name.model not in SHAPES:
        raise RecipeError(f"encoder '{name.text}': the embedded CLIPs are {', '.join(SHAPES)}")
    directory = SHAPES[name.model].directory
    return directory / "config.json", directory / "model.safetensors"
