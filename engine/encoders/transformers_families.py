"""How each family of transformers models embeds pictures and texts for retrieval.

Each family projects and pools in its own way, and several `get_*_features` of the library return
something else than what the family is compared by: FLAVA's projects every token, BLIP and BLIP-2
have none that project.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from engine.encoders.names import EncoderName
from engine.errors import RecipeError

if TYPE_CHECKING:  # which takes seconds to import, and status only asks what a family can do
    import torch

    Inputs = Mapping[str, torch.Tensor]
    Embed = Callable[[Any, Inputs], torch.Tensor]


def _pooled(model: Any, inputs: Inputs) -> torch.Tensor:
    """The pooled output of a vision model: of DINOv2 the class token after its last layer norm."""
    return model(**inputs).pooler_output  # type: ignore[no-any-return]


def _image_features(model: Any, inputs: Inputs) -> torch.Tensor:
    return model.get_image_features(**inputs).pooler_output  # type: ignore[no-any-return]


def _text_features(model: Any, inputs: Inputs) -> torch.Tensor:
    return model.get_text_features(**inputs).pooler_output  # type: ignore[no-any-return]


def _siglip_text(model: Any, inputs: Inputs) -> torch.Tensor:
    """Padding is not masked, whatever the tokenizer gives: the last token's place is what is pooled."""
    return model.get_text_features(input_ids=inputs["input_ids"]).pooler_output  # type: ignore[no-any-return]


def _flava_image(model: Any, inputs: Inputs) -> torch.Tensor:
    """The projected class token, which FLAVA's contrastive loss compares."""
    return model.get_image_features(**inputs).pooler_output[:, 0]  # type: ignore[no-any-return]


def _flava_text(model: Any, inputs: Inputs) -> torch.Tensor:
    return model.get_text_features(**inputs).pooler_output[:, 0]  # type: ignore[no-any-return]


def _blip_image(model: Any, inputs: Inputs) -> torch.Tensor:
    """The projected class token: the contrastive side of BLIP ITM (`use_itm_head=False`)."""
    hidden = model.vision_model(**inputs).last_hidden_state
    return model.vision_proj(hidden[:, 0])  # type: ignore[no-any-return]


def _blip_text(model: Any, inputs: Inputs) -> torch.Tensor:
    hidden = model.text_encoder(**inputs).last_hidden_state
    return model.text_proj(hidden[:, 0])  # type: ignore[no-any-return]


def _blip2_image(model: Any, inputs: Inputs) -> torch.Tensor:
    """One vector of each query token, (n, queries, width): a text is compared with the best."""
    hidden = model.vision_model(**inputs).last_hidden_state
    queries = model.qformer(
        query_embeds=model.query_tokens.expand(len(hidden), -1, -1), encoder_hidden_states=hidden
    ).last_hidden_state
    return model.vision_projection(queries.to(model.vision_projection.weight.dtype))  # type: ignore[no-any-return]


def _blip2_text(model: Any, inputs: Inputs) -> torch.Tensor:
    hidden = model.qformer(
        query_embeds=model.embeddings(input_ids=inputs["input_ids"]),
        query_length=0,
        attention_mask=inputs["attention_mask"],
    ).last_hidden_state
    return model.text_projection(hidden[:, 0].to(model.text_projection.weight.dtype))  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Family:
    """What one `model_type` needs.

    Attributes:
        model: the library's class, which has the projections.
        width: components of a vector, from the model's configuration.
        image: prepared pictures -> (n, width), or (n, vectors, width).
        text: tokens -> (n, width); None if the model reads no texts.
        length: tokens of a text beyond which it is cut.
        padded: whether texts are padded to `length`, as the model was trained; else to the
            longest of the batch, which changes nothing where padding is masked.
        lower: whether it learned from captions in lower case, which not all of its tokenizers see to.
        vectors: of one picture, from the configuration.
    """

    model: str
    width: Callable[[Any], int]
    image: Embed
    text: Embed | None = None
    length: int = 77
    padded: bool = False
    lower: bool = False
    vectors: Callable[[Any], int] = lambda config: 1


_PROJECTED, _JOINT = attrgetter("projection_dim"), attrgetter("image_text_hidden_size")
_POOLED = attrgetter("vision_config.hidden_size")

_VISION = Family("AutoModel", attrgetter("hidden_size"), _pooled)
_DUAL = Family("AutoModel", _PROJECTED, _image_features, _text_features)
_SIGLIP = Family("AutoModel", _POOLED, _image_features, _siglip_text, length=64, padded=True, lower=True)

#: By `model_type` of config.json.
FAMILIES: Mapping[str, Family] = {
    "dinov2": _VISION,
    "dinov2_with_registers": _VISION,
    "clip": _DUAL,
    "altclip": _DUAL,
    "groupvit": _DUAL,
    "align": Family("AutoModel", _PROJECTED, _image_features, _text_features, length=64, padded=True),
    "siglip": _SIGLIP,
    "siglip2": _SIGLIP,
    "flava": Family("AutoModel", _PROJECTED, _flava_image, _flava_text),
    "blip": Family("BlipForImageTextRetrieval", _JOINT, _blip_image, _blip_text, length=35),
    "blip-2": Family(
        "Blip2ForImageTextRetrieval",
        _JOINT,
        _blip2_image,
        _blip2_text,
        length=32,
        vectors=attrgetter("num_query_tokens"),
    ),
}


def family_of(name: EncoderName, model_type: str) -> Family:
    """The family of a model.

    Raises:
        RecipeError: it is not among the `FAMILIES`.
    """
    if model_type not in FAMILIES:
        raise RecipeError(
            f"encoder '{name.text}': type '{model_type}' is not known here ({', '.join(FAMILIES)}); "
            "write a factory for it and name that: python:MODULE:FACTORY"
        )
    return FAMILIES[model_type]
