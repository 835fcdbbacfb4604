"""The weights that an engine has to fetch from elsewhere before it can start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from engine.recipe import Embed, OpenAI, Scripted, Vllm

#: What is read of a repository: safetensors, since other weights may run code, and small files.
_WANTED = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja", "*.py")
#: Weights that are there a second time, for other tools.
_UNWANTED = ("original/*", "consolidated*", "onnx/*", "openvino/*")


@dataclass(frozen=True)
class Weights:
    """Weights of one model.

    Attributes:
        model: a hub's `ORGANISATION/NAME`, or open_clip's `ARCHITECTURE/TAG`.
        revision: of a hub's; None is its main branch.
        of_open_clip: which of the two.
        place: where the hub's files are kept; None is the hub's own choice.
    """

    model: str
    revision: str | None = None
    of_open_clip: bool = False
    place: str | None = None

    def fetch(self) -> bool:
        """Have them in this machine's cache, from which the engine's own library will load them.

        Returns:
            Whether they are there. What went wrong is not told: that library meets it again, and says
            what it means.
        """
        try:
            self._from_open_clip() if self.of_open_clip else self._from_hub()
        except Exception:
            return False
        return True

    def _from_hub(self) -> None:
        from huggingface_hub import snapshot_download

        wanted, unwanted = list(_WANTED), list(_UNWANTED)
        snapshot_download(
            self.model,
            revision=self.revision,
            cache_dir=self.place,
            allow_patterns=wanted,
            ignore_patterns=unwanted,
        )

    def _from_open_clip(self) -> None:
        import open_clip

        from engine.encoders.names import EncoderName
        from engine.encoders.open_clip_models import check_activation

        check_activation(EncoderName.parse(f"open_clip:{self.model}"))  # what is refused is not fetched
        architecture, _, tag = self.model.rpartition("/")
        open_clip.download_pretrained(open_clip.get_pretrained_cfg(architecture, tag))


def weights_of(settings: Vllm | OpenAI | Scripted | Embed) -> Sequence[Weights]:
    """What an engine with these settings fetches; nothing where its models lie in directories."""
    match settings:
        case Vllm():
            return _of_vllm(settings)
        case Embed():
            return _of_encoders(settings.encoders)
    return ()


def _of_vllm(settings: Vllm) -> Sequence[Weights]:
    if settings.model == "terrarium" or Path(settings.model).expanduser().is_dir():
        return ()
    if settings.engine.get("load_format") == "dummy":
        return ()
    return (Weights(settings.model, settings.revision, place=settings.engine.get("download_dir")),)


def _of_encoders(names: Sequence[str]) -> Sequence[Weights]:
    from engine.encoders.names import EncoderName

    found = []
    for name in map(EncoderName.parse, names):
        if name.backend == "open_clip" and not name.files():
            found.append(Weights(name.model, of_open_clip=True))
        elif name.backend in ("hf", "sentence") and not Path(name.model).expanduser().exists():
            found.append(Weights(name.model, name.revision))
    return found
