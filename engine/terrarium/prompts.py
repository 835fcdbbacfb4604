"""The prompts the embedded model is trained on, read from the files that the engine uses."""

from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from string import Template
from typing import Final, NamedTuple

from engine.terrarium.tokens import ANSWER, IMAGE
from engine.terrarium.world import Scene

PROMPTS_DIR: Final = Path(__file__).parent / "prompts"
_IMAGE_PLACE: Final = "\0"


class Question(NamedTuple):
    """A prompt as the model reads it, the scene it shows (if any), and how freely to answer."""

    prompt: str
    shown: Scene | None
    temperature: float


Ask = Callable[[Sequence[Question]], list[str]]


def pieces(name: str, **values: str) -> list[dict[str, str]]:
    """The content of the one user message of a prompt.

    Args:
        name: `describe`, `elements`, `associate`, `caption` or `vqascore`.
        **values: The placeholders, except ``image``.

    Returns:
        Content parts of types `text` and `image`, in order.

    Raises:
        KeyError: A placeholder has no value.
    """
    filled = _template(name).substitute(values, image=_IMAGE_PLACE)
    parts: list[dict[str, str]] = []
    for number, text in enumerate(filled.split(_IMAGE_PLACE)):
        if number:
            parts.append({"type": "image"})
        if text.strip():
            parts.append({"type": "text", "text": text.strip()})
    return parts


def rendered(name: str, **values: str) -> str:
    """A prompt as the model reads it: what the chat template makes of `pieces`."""
    lines = [part.get("text", IMAGE) for part in pieces(name, **values)]
    return "\n".join(lines) + ANSWER


@cache
def _template(name: str) -> Template:
    text = (PROMPTS_DIR / f"{name}.txt").read_text(encoding="utf-8")
    _, _, user = text.partition("--- user ---\n")
    return Template(user.strip())
