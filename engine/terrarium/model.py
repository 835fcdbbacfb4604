"""The embedded vision-language model: its shape, and saving it for vLLM and transformers.

A LLaVA of a few million parameters: a CLIP vision tower over 64 x 64 images in 8 x 8 patches, a
two-layer projector and a llama. Heads are 64 wide, the smallest every attention backend supports.
"""

import json
from pathlib import Path
from typing import Final

import torch
from safetensors.torch import load_file, save_file
from transformers import (
    CLIPImageProcessor,
    GenerationConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
)

from engine.terrarium.tokens import END, IMAGE, PAD, Tokenizer, chat_template
from engine.terrarium.vision_shape import PATCH, PATCHES, vision_config
from engine.terrarium.world import SIDE

_VISION: Final = "model.vision_tower."
_VECTORS: Final = "model.language_model.embed_tokens.weight"


def build(tokenizer: Tokenizer) -> LlavaForConditionalGeneration:
    """Make the model with random weights, float32."""
    return LlavaForConditionalGeneration(configure(tokenizer))


def configure(tokenizer: Tokenizer) -> LlavaConfig:
    """The model's configuration for a tokenizer."""
    end, pad, image = (tokenizer.convert_tokens_to_ids(token) for token in (END, PAD, IMAGE))
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=end,
        pad_token_id=pad,
    )
    return LlavaConfig(
        vision_config=vision_config(),
        text_config=text,
        image_token_index=image,
        image_seq_length=PATCHES,
        # Both transformers and vLLM read layer -1 before the tower's last normalisation.
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
        architectures=["LlavaForConditionalGeneration"],
    )


def processor(tokenizer: Tokenizer) -> LlavaProcessor:
    """What turns images and prompts into the model's inputs."""
    images = CLIPImageProcessor(
        size={"shortest_edge": SIDE},
        crop_size={"height": SIDE, "width": SIDE},
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=chat_template(),
    )


def save(model: LlavaForConditionalGeneration, tokenizer: Tokenizer, directory: Path) -> None:
    """Write a model directory that vLLM, and `load`, open; weights in bfloat16.

    vLLM looks for the vision tower under ``vision_tower.vision_model.``, which transformers 5
    leaves out, so the names written are vLLM's.
    """
    directory.mkdir(parents=True, exist_ok=True)
    processor(tokenizer).save_pretrained(directory)
    config = model.config.to_dict() | {"dtype": "bfloat16"}
    _write_json(directory / "config.json", config)
    generation = GenerationConfig(
        eos_token_id=tokenizer.convert_tokens_to_ids(END),
        pad_token_id=tokenizer.convert_tokens_to_ids(PAD),
        do_sample=False,
    )
    generation.save_pretrained(directory)
    weights = {
        _rename(name): value.detach().to(torch.bfloat16).contiguous().cpu()
        for name, value in model.state_dict().items()
        if name != "lm_head.weight"
    }
    save_file(weights, directory / "model.safetensors", metadata={"format": "pt"})


def load(directory: Path, tokenizer: Tokenizer) -> LlavaForConditionalGeneration:
    """Open what `save` wrote with transformers, in float32.

    Words that the tokenizer has learned since then have random vectors.

    Raises:
        RuntimeError: The weights do not fit the configuration.
    """
    model = build(tokenizer)
    names = {_rename(name): name for name in model.state_dict()}
    stored = load_file(directory / "model.safetensors")
    weights = {names[name]: value.float() for name, value in stored.items()}
    vectors = weights[_VECTORS]
    weights[_VECTORS] = torch.cat([vectors, model.state_dict()[_VECTORS][len(vectors) :]])
    weights["lm_head.weight"] = weights[_VECTORS]
    model.load_state_dict(weights)
    return model


def _rename(name: str) -> str:
    """A parameter's name in transformers 5 as the one that vLLM reads."""
    if name.startswith(_VISION):
        return "vision_tower.vision_model." + name.removeprefix(_VISION)
    for part in ("multi_modal_projector.", "language_model."):
        if name.startswith("model." + part):
            inner = name.removeprefix("model." + part)
            return part + ("model." + inner if part == "language_model." else inner)
    return name


def _write_json(path: Path, value: dict[str, object]) -> None:
    path.write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", encoding="utf-8")
