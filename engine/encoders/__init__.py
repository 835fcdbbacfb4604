"""Encoders by name: open_clip, transformers, sentence-transformers, or one's own."""

from __future__ import annotations

from engine.encoders.names import EncoderName
from engine.encoders.protocol import Encoder


def load_encoder(name: EncoderName, device: str = "cpu", dtype: str = "float32") -> Encoder:
    """Load a model and what prepares its inputs.

    Args:
        name: which one.
        device: where it computes, as torch names it.
        dtype: what it computes in: float32, float16 or bfloat16. An encoder of one's own decides
            for itself.

    Raises:
        RecipeError: there is no such model, its library refuses it, or its weights do not fit.
    """
    match name.backend:
        case "open_clip":
            from engine.encoders.open_clip_models import OpenClipEncoder

            return OpenClipEncoder(name, device, dtype)
        case "hf":
            from engine.encoders.transformers_models import TransformersEncoder

            return TransformersEncoder(name, device, dtype)
        case "sentence":
            from engine.encoders.sentence_models import SentenceEncoder

            return SentenceEncoder(name, device, dtype)
        case "python":
            from engine.encoders.python_factory import load

            return load(name.model, device)
        case "connote":
            from engine.encoders import fine_tuned

            return fine_tuned.load(name, device, dtype)


__all__ = ["Encoder", "EncoderName", "load_encoder"]
