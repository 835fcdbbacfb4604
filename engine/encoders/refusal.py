"""What a model's library raises, told as an error of the recipe."""

from __future__ import annotations

from engine.encoders.names import EncoderName
from engine.errors import RecipeError

#: Libraries quote whole lists of files or tensors.
_LENGTH = 300


def refused(name: EncoderName, error: Exception, what: str = "") -> RecipeError:
    """The encoder's name and the library's reason on one line, cut where it gets long.

    Args:
        name: of the encoder that cannot be had.
        error: what the library raised.
        what: what failed, put before the reason: "its config.json cannot be read".
    """
    reason = " ".join(str(error).split())[:_LENGTH] or type(error).__name__
    return RecipeError(": ".join(part for part in (f"encoder '{name.text}'", what, reason) if part))
