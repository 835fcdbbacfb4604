"""Tiny randomly initialised models of every family, saved as their libraries save them."""

from pathlib import Path
from typing import Any

import torch
import transformers as tf
from tokenizers import Tokenizer, models, pre_tokenizers, processors

TEXTS = ["a red boat", "two dogs run along the beach", "cat"]
WORDS = "a red boat two dogs run along the beach cat".split()

_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_TEXT = {**_VISION, "vocab_size": 40, "max_position_embeddings": 64}
_IMAGE = {"image_size": 32, "patch_size": 8}
_BERT = dict(enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *WORDS]))


def bert_tokenizer() -> Any:
    return tf.BertTokenizer(vocab={word: index for index, word in _BERT.items()})


def clip_tokenizer() -> Any:
    """A tokenizer that marks start and end as CLIP's does."""
    return _words(start="<|startoftext|>", end="<|endoftext|>", pad="<|endoftext|>")


def plain_tokenizer() -> Any:
    """One that marks the end only, and pads with another token, as SigLIP's does."""
    return _words(start=None, end="</s>", pad="<pad>")


def build_bert(folder: Path) -> Path:
    """Save a text model that only gives hidden states, and its tokenizer, in `folder`."""
    torch.manual_seed(0)
    model = tf.BertModel(tf.BertConfig(**_TEXT))
    _stir(model)
    model.eval().save_pretrained(folder)
    bert_tokenizer().save_pretrained(folder)
    return folder


def _words(start: str | None, end: str, pad: str) -> Any:
    special = list(dict.fromkeys([token for token in (start, pad, end) if token]))
    # The end has the largest number, where CLIP's pooling looks for it.
    vocabulary = ["<unk>", *WORDS, *[token for token in special if token != end]]
    numbers = {word: index for index, word in enumerate(vocabulary)} | {end: 39}
    tokenizer = Tokenizer(models.WordLevel(numbers, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    single = f"{start} $A {end}" if start else f"$A {end}"
    tokenizer.post_processor = processors.TemplateProcessing(
        single=single, special_tokens=[(token, numbers[token]) for token in special]
    )
    return tf.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token=start,
        eos_token=end,
        pad_token=pad,
        unk_token="<unk>",
        model_input_names=["input_ids", "attention_mask"],
    )


def _clip(config: Any, model: Any, **more: Any) -> Any:
    text = {**_TEXT, "eos_token_id": 39, "bos_token_id": 11, "pad_token_id": 39}
    return model(config(text_config=text, vision_config=_VISION | _IMAGE, projection_dim=24, **more))


def build(family: str, folder: Path) -> Any:
    """Save a model with its preprocessing in `folder`; returns the model."""
    torch.manual_seed(0)
    size = {"height": 32, "width": 32}
    crop = {"size": {"shortest_edge": 32}, "crop_size": size}
    match family:
        case "dinov2":
            model = tf.Dinov2Model(tf.Dinov2Config(**_VISION, **_IMAGE))
            pictures: Any = tf.BitImageProcessor(size={"shortest_edge": 36}, crop_size=size)
            tokenizer = None
        case "dinov2_with_registers":
            model = tf.Dinov2WithRegistersModel(
                tf.Dinov2WithRegistersConfig(**_VISION, **_IMAGE, num_register_tokens=3)
            )
            pictures, tokenizer = tf.BitImageProcessor(size={"shortest_edge": 36}, crop_size=size), None
        case "clip":
            model, tokenizer = _clip(tf.CLIPConfig, tf.CLIPModel), clip_tokenizer()
            pictures = tf.CLIPImageProcessor(**crop)
        case "groupvit":
            vision = {
                **_VISION, **_IMAGE, "depths": [1, 1, 1], "num_group_tokens": [4, 2, 0],
                "num_output_groups": [4, 2, 2],
            }  # fmt: skip
            text = {**_TEXT, "eos_token_id": 39}
            model = tf.GroupViTModel(
                tf.GroupViTConfig(text_config=text, vision_config=vision, projection_dim=24)
            )
            tokenizer, pictures = clip_tokenizer(), tf.CLIPImageProcessor(**crop)
        case "altclip":
            text = {**_TEXT, "project_dim": 32, "pad_token_id": 1}
            model = tf.AltCLIPModel(
                tf.AltCLIPConfig(text_config=text, vision_config=_VISION | _IMAGE, projection_dim=32)
            )
            tokenizer, pictures = _words("<s>", "</s>", "<pad>"), tf.CLIPImageProcessor(**crop)
        case "align":
            vision = {
                "image_size": 32, "width_coefficient": 0.1, "depth_coefficient": 0.1,
                "hidden_dim": 24, "kernel_sizes": [3], "in_channels": [32], "out_channels": [16],
                "strides": [1], "num_block_repeats": [1], "expand_ratios": [1], "depthwise_padding": [],
            }  # fmt: skip
            model = tf.AlignModel(tf.AlignConfig(text_config=_TEXT, vision_config=vision, projection_dim=8))
            tokenizer = bert_tokenizer()
            pictures = tf.EfficientNetImageProcessor(size=size)
        case "siglip":
            text = {**_TEXT, "pad_token_id": 11, "projection_size": 32}
            model = tf.SiglipModel(tf.SiglipConfig(text_config=text, vision_config=_VISION | _IMAGE))
            tokenizer, pictures = plain_tokenizer(), tf.SiglipImageProcessor(size=size)
        case "siglip2":
            text = {**_TEXT, "pad_token_id": 11, "projection_size": 32}
            vision = {**_VISION, "patch_size": 8, "num_patches": 16}
            model = tf.Siglip2Model(tf.Siglip2Config(text_config=text, vision_config=vision))
            tokenizer = plain_tokenizer()
            pictures = tf.Siglip2ImageProcessor(patch_size=8, max_num_patches=16)
        case "flava":
            model = tf.FlavaForPreTraining(
                tf.FlavaConfig(
                    text_config=_TEXT, image_config=_VISION | _IMAGE, multimodal_config=_VISION,
                    image_codebook_config={"num_groups": 4, "hidden_size": 8, "vocab_size": 16},
                    hidden_size=32, projection_dim=24,
                )
            )  # fmt: skip
            tokenizer = bert_tokenizer()
            pictures = tf.FlavaImageProcessor(size=size, crop_size=size)
        case "blip":
            text = {
                **_TEXT,
                "pad_token_id": 0,
                "bos_token_id": 2,
                "sep_token_id": 3,
                "encoder_hidden_size": 32,
            }
            model = tf.BlipForImageTextRetrieval(
                tf.BlipConfig(text_config=text, vision_config=_VISION | _IMAGE, image_text_hidden_size=24)
            )
            tokenizer, pictures = bert_tokenizer(), tf.BlipImageProcessor(size=size)
        case "blip-2":
            qformer = {
                **_TEXT,
                "encoder_hidden_size": 32,
                "cross_attention_frequency": 1,
                "use_qformer_text_input": True,
            }
            config = tf.Blip2Config(
                vision_config=_VISION | _IMAGE, qformer_config=qformer,
                text_config={"model_type": "opt", "vocab_size": 40, "hidden_size": 32, "num_hidden_layers": 1,
                             "num_attention_heads": 2, "ffn_dim": 32, "word_embed_proj_dim": 32},
                num_query_tokens=4, image_text_hidden_size=24,
            )  # fmt: skip
            model = tf.Blip2ForImageTextRetrieval(config)
            tokenizer, pictures = bert_tokenizer(), tf.BlipImageProcessor(size=size)
        case _:
            raise ValueError(family)
    _stir(model)
    model.eval().save_pretrained(folder)
    pictures.save_pretrained(folder)
    if tokenizer is not None:
        tokenizer.save_pretrained(folder)
    return model


def _stir(model: Any) -> None:
    """Weights far enough from their starting values, some of which are 0, that all of them count."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
