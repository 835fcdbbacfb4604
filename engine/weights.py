"""The weights that an engine has to fetch from elsewhere before it can start."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
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
    """

    model: str
    revision: str | None = None
    of_open_clip: bool = False

    def fetch(self) -> None:
        """Have them in this machine's cache, from which the engine's own library will load them.

        A failure is not told: that library meets it again, and says what it means.
        """
        with suppress(Exception):
            if self.of_open_clip:
                self._from_open_clip()
            else:
                from huggingface_hub import snapshot_download

                snapshot_download(
                    self.model,
                    revision=self.revision,
                    allow_patterns=list(_WANTED),
                    ignore_patterns=list(_UNWANTED),
                )

    def _from_open_clip(self) -> None:
        import open_clip

        architecture, _, tag = self.model.rpartition("/")
        open_clip.download_pretrained(open_clip.get_pretrained_cfg(architecture, tag))


def weights_of(settings: Vllm | OpenAI | Scripted | Embed) -> Sequence[Weights]:
    """What an engine with these settings fetches; nothing where its models lie in directories."""
    match settings:
        case Vllm(model="terrarium"):
            return ()
        case Vllm():
            local = Path(settings.model).expanduser().is_dir()
            return () if local else (Weights(settings.model, settings.revision),)
        case Embed():
            return _of_encoders(settings.encoders)
    return ()


def _of_encoders(names: Sequence[str]) -> Sequence[Weights]:
    from engine.encoders.names import EncoderName

    found = []
    for name in map(EncoderName.parse, names):
        if name.backend == "open_clip" and not name.files():
            found.append(Weights(name.model, of_open_clip=True))
        elif name.backend in ("hf", "sentence") and not Path(name.model).expanduser().exists():
            found.append(Weights(name.model, name.revision))
    return found
