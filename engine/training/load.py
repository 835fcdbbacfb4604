"""Loading a backbone: a CLIP of open_clip, or of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from open_clip.transformer import VisionTransformer
from PIL import Image
from torch import Tensor

from engine.encoders.names import EncoderName
from engine.encoders.open_clip_models import image_side, load_open_clip, shared_width
from engine.encoders.short_texts import ends_at_its_end, longest, short_reader
from engine.errors import RecipeError
from engine.training.backbone import Backbone, Places


def load_backbone(name: EncoderName, device: torch.device) -> Backbone:
    """The model in float32, frozen, in evaluation mode.

    Images are prepared as for evaluation, without random crops: a caption may name what a crop
    would cut off.

    Raises:
        RecipeError: there is no such model, or it is no CLIP of open_clip or transformers.
    """
    match name.backend:
        case "open_clip":
            backbone = _from_open_clip(name)
        case "hf":
            backbone = _from_transformers(name)
        case _:
            raise RecipeError(
                f"finetune.model: '{name.text}' cannot be trained; name a CLIP of open_clip "
                "(open_clip:ViT-B-32/laion2b_s34b_b79k) or of transformers (hf:openai/clip-vit-base-patch32)"
            )
    return backbone.float().to(device).eval().requires_grad_(False)


def _from_open_clip(name: EncoderName) -> Backbone:
    model, prepare, tokenize = load_open_clip(name, "cpu")
    tower, reader = model.visual, getattr(model, "text", model)
    places, widths = None, (0, 0)
    if isinstance(tower, VisionTransformer):
        last = getattr(reader, "ln_final", None)
        places = Places(tower.ln_pre, tower.transformer, last if ends_at_its_end(reader) else None)
        widths = (tower.conv1.out_channels, last.normalized_shape[0] if last else 0)
    return Backbone(
        name,
        model,
        places,
        (model.encode_image, short_reader(model)),
        shared_width(model),
        widths,
        prepare,
        lambda texts, length=None: tokenize(list(texts), length),
        image_side(model),
    )


def _from_transformers(name: EncoderName) -> Backbone:
    import transformers

    from engine.encoders.transformers_families import family_of
    from engine.encoders.transformers_models import REFUSALS, load_weights, shorter_side, where

    try:
        config = transformers.AutoConfig.from_pretrained(**where(name))
        if config.model_type != "clip":
            raise RecipeError(
                f"finetune.model: '{name.text}' is of type {config.model_type}; of transformers only clip "
                "can be trained here"
            )
        model = load_weights(name, family_of(name, "clip"), where(name), torch.float32)
        pictures: Any = transformers.AutoImageProcessor.from_pretrained(**where(name))
        words: Any = transformers.AutoTokenizer.from_pretrained(**where(name))
    except REFUSALS as error:
        from engine.encoders.refusal import refused

        raise refused(name, error) from error
    length = config.text_config.max_position_embeddings

    def prepare(image: Image.Image) -> Tensor:
        return pictures(images=image, return_tensors="pt")["pixel_values"][0]  # type: ignore[no-any-return]

    def tokenize(texts: Sequence[str], most: int | None = None) -> Tensor:
        told = words(
            list(texts), padding="max_length", truncation=True, max_length=most or length, return_tensors="pt"
        )
        return told["input_ids"]  # type: ignore[no-any-return]

    # What lies behind the end token a causal tower never sees. By transformers' own rule an end token of
    # number 2 stands for the largest one.
    known = config.text_config.eos_token_id in (2, config.text_config.vocab_size - 1)

    def reach(tokens: Tensor) -> int:
        return longest(tokens) if known else tokens.shape[1]

    vision, text = model.vision_model, model.text_model
    return Backbone(
        name,
        model,
        Places(vision.pre_layrnorm, vision.encoder, text.final_layer_norm if known else None),
        (
            lambda pixels: model.get_image_features(pixel_values=pixels).pooler_output,
            lambda tokens: model.get_text_features(input_ids=tokens[:, : reach(tokens)]).pooler_output,
        ),
        config.projection_dim,
        (config.vision_config.hidden_size, config.text_config.hidden_size),
        prepare,
        tokenize,
        shorter_side(pictures),
    )
