"""Each family's vectors against the library's own preprocessing and forward pass."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tf
from PIL import Image
from safetensors.torch import load_file, save_file

from engine.encoders import EncoderName, load_encoder
from engine.encoders.card import abilities, read_card
from engine.encoders.protocol import Card
from engine.encoders.transformers_families import FAMILIES
from engine.errors import RecipeError
from tests.encoders.tiny import TEXTS, build

DATA = Path(__file__).parents[1] / "data"


def pictures() -> list[Image.Image]:
    names = ["cat.jpg", "coffee-progressive.jpg", "astronaut.webp"]
    return [Image.open(DATA / name).convert("RGB") for name in names]


@torch.inference_mode()
def by_library(family: str, model: Any, folder: Path) -> tuple[Any, Any, Any]:
    """Unit image vectors, unit text vectors, and image-text cosines, as far as the library gives them."""
    images = tf.AutoImageProcessor.from_pretrained(folder)(images=pictures(), return_tensors="pt")
    if family.startswith("dinov2"):
        return torch.nn.functional.normalize(model(**images).pooler_output, dim=-1), None, None
    padded = family.startswith(("siglip", "align"))
    texts = tf.AutoTokenizer.from_pretrained(folder)(
        TEXTS,
        padding="max_length" if padded else True,
        max_length=64 if padded else None,
        return_tensors="pt",
    )
    if family.startswith("siglip"):
        # As its own tokenizer has it, which tells of no mask: the model was trained to see padding.
        texts = {"input_ids": texts["input_ids"]}
    match family:
        case "blip":
            return None, None, model(**images, **texts, use_itm_head=False).itm_score
        case "blip-2":
            pairs = [
                model(
                    **{k: v[i : i + 1] for k, v in images.items()},
                    **{k: v[j : j + 1] for k, v in texts.items()},
                )
                for i in range(len(TEXTS))
                for j in range(len(TEXTS))
            ]
            return None, None, torch.stack([pair.logits_per_image.ravel()[0] for pair in pairs]).reshape(3, 3)
        case "flava":
            # What its contrastive loss compares, times exp(logit_scale).
            out = model(**texts, **images, input_ids_masked=texts["input_ids"], return_loss=False)
            return None, None, out.contrastive_logits_per_image / model.flava.logit_scale.exp()
        case _:
            out = model(**images, **texts)
            unit = torch.nn.functional.normalize
            return unit(out.image_embeds, dim=-1), unit(out.text_embeds, dim=-1), None


@pytest.mark.parametrize("family", FAMILIES)
def test_same_vectors_as_the_library(family: str, tmp_path: Path) -> None:
    model = build(family, tmp_path)
    images, texts, cosines = by_library(family, model, tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    ours = encoder.embed_images([encoder.prepare(picture) for picture in pictures()])
    assert ours.shape == ((3, 4, 24) if family == "blip-2" else (3, encoder.width))
    assert ours.dtype == np.float32
    if images is not None:
        np.testing.assert_allclose(ours, images.numpy(), atol=1e-4)
    name = EncoderName.parse(f"hf:{tmp_path}")
    assert read_card(name) == Card(
        encoder.width, encoder.vectors, encoder.images, encoder.texts, encoder.side
    )
    assert abilities(name) == (encoder.images, encoder.texts)
    if family.startswith("dinov2"):
        assert not encoder.texts
        return
    words = encoder.embed_texts(TEXTS)
    if texts is not None:
        np.testing.assert_allclose(words, texts.numpy(), atol=1e-4)
    if cosines is not None:
        ours_cosines = (ours.reshape(3, -1, encoder.width) @ words.T).max(axis=1)
        np.testing.assert_allclose(ours_cosines, cosines.numpy(), atol=1e-4)
        assert np.ptp(ours_cosines) > 1e-3  # else any vectors would agree


@torch.inference_mode()
def test_registers_are_no_part_of_the_vector(tmp_path: Path) -> None:
    model = build("dinov2_with_registers", tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    prepared = encoder.prepare(pictures()[0])
    states = model(pixel_values=prepared["pixel_values"][None]).last_hidden_state[0]
    assert len(states) == 1 + 3 + (32 // 8) ** 2
    ours = torch.from_numpy(encoder.embed_images([prepared])[0])
    cosines = torch.nn.functional.cosine_similarity(states, ours[None])
    assert cosines[0] > 0.9999 > cosines[1:].max()


@pytest.mark.parametrize("family", ["clip", "siglip", "align", "blip", "flava", "blip-2"])
def test_a_text_has_the_same_vector_whatever_is_beside_it(family: str, tmp_path: Path) -> None:
    build(family, tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    together = encoder.embed_texts(TEXTS)
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_a_long_text_is_cut(tmp_path: Path) -> None:
    build("clip", tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    assert np.isfinite(encoder.embed_texts(["a red boat " * 200])).all()


def test_weights_that_retrieval_needs_are_not_drawn_at_random(tmp_path: Path) -> None:
    build("blip", tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    save_file(
        {k: v for k, v in weights.items() if "vision_proj" not in k},
        tmp_path / "model.safetensors",
        {"format": "pt"},
    )
    with pytest.raises(RecipeError, match=r"weights lack 2 tensors .* vision_proj"):
        load_encoder(EncoderName.parse(f"hf:{tmp_path}"))


def test_a_family_that_is_not_known_is_named(tmp_path: Path) -> None:
    tf.BertConfig().save_pretrained(tmp_path)
    with pytest.raises(RecipeError, match=r"'bert' is not known here \(dinov2, .*python:MODULE"):
        load_encoder(EncoderName.parse(f"hf:{tmp_path}"))


def test_a_picture_without_a_direction_is_nan(tmp_path: Path) -> None:
    build("clip", tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    good = encoder.prepare(pictures()[0])
    bad = {key: torch.full_like(value, torch.nan) for key, value in good.items()}
    vectors = encoder.embed_images([good, bad])
    assert np.isfinite(vectors[0]).all()
    assert np.isnan(vectors[1]).all()


@pytest.mark.parametrize(("family", "lower"), [("siglip", True), ("siglip2", True), ("clip", False)])
def test_siglip_reads_lower_case_and_masks_no_padding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, family: str, lower: bool
) -> None:
    """As it was trained; the tokenizer that SigLIP 2 is published with leaves capitals as they are."""
    build(family, tmp_path)
    encoder = load_encoder(EncoderName.parse(f"hf:{tmp_path}"))
    tokenize, asked = encoder._tokenize, list[str]()  # type: ignore[attr-defined]

    def spy(texts: list[str], **how: Any) -> Any:
        asked.extend(texts)
        made = dict(tokenize(texts, **how))
        return {**made, "attention_mask": torch.zeros_like(made["input_ids"])} if lower else made

    wanted = encoder.embed_texts(["a red boat"])
    monkeypatch.setattr(encoder, "_tokenize", spy)
    found = encoder.embed_texts(["A Red BOAT"])
    assert asked == ["a red boat" if lower else "A Red BOAT"]
    if lower:
        np.testing.assert_array_equal(found, wanted)
