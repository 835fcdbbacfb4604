"""open_clip models through files and tags."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from engine.decoding import Look
from engine.encoders import EncoderName, load_encoder
from engine.encoders.card import abilities, read_card
from engine.encoders.open_clip_models import check_activation
from engine.encoders.protocol import Card
from engine.errors import RecipeError
from engine.recipe import Embed
from engine.weights import weights_of
from tests.training.tiny import write_bert_clip, write_clip

CONFIG = {
    "embed_dim": 24,
    "quick_gelu": True,
    "vision_cfg": {"image_size": 32, "layers": 2, "width": 64, "patch_size": 8},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 32, "heads": 2, "layers": 2},
}
DATA = Path(__file__).parents[1] / "data"
TEXTS = ["a red boat", "two dogs run along the beach", "cat " * 100]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    return tmp_path


@torch.inference_mode()
def test_same_vectors_as_the_library(files: Path) -> None:
    torch.manual_seed(0)
    model = open_clip.CLIP(**CONFIG).eval()
    transform = open_clip.image_transform(32, is_train=False)
    pictures = [Image.open(DATA / name).convert("RGB") for name in ("cat.jpg", "astronaut.webp")]
    images = model.encode_image(torch.stack([transform(picture) for picture in pictures]), normalize=True)
    tokens = open_clip.SimpleTokenizer(context_length=16)(TEXTS)
    texts = model.encode_text(tokens, normalize=True)

    encoder = load_encoder(EncoderName.parse(f"open_clip:{files}/tiny.json/weights.safetensors"))
    ours = encoder.embed_images([encoder.prepare(picture) for picture in pictures])
    np.testing.assert_allclose(ours, images.numpy(), atol=1e-4)
    np.testing.assert_allclose(encoder.embed_texts(TEXTS), texts.numpy(), atol=1e-4)
    assert (encoder.width, encoder.side, encoder.vectors) == (24, 32, 1)


TIMM = {"image_size": 32, "timm_model_name": "test_vit", "timm_pool": "", "timm_proj": "linear"}


@pytest.mark.parametrize(
    "kind", [{}, {"vision_cfg": TIMM}, {"vision_cfg": TIMM, "custom_text": True}], ids=["vit", "timm", "text"]
)
def test_the_card_says_what_the_model_is(tmp_path: Path, kind: dict[str, Any]) -> None:
    config = {key: value for key, value in (CONFIG | kind).items() if key != "custom_text"}
    model = (open_clip.CustomTextCLIP if "custom_text" in kind else open_clip.CLIP)(**config)
    save_file(model.state_dict(), tmp_path / "weights.safetensors")
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG | kind))
    name = EncoderName.parse(f"open_clip:{tmp_path}/tiny.json/weights.safetensors")
    encoder = load_encoder(name)
    assert read_card(name) == Card(24, 1, True, True, 32)
    assert read_card(name) == Card(
        encoder.width, encoder.vectors, encoder.images, encoder.texts, encoder.side
    )
    assert abilities(name) == (True, True)
    assert encoder.embed_images([encoder.prepare(Image.new("RGB", (40, 40), "red"))]).shape == (1, 24)


@pytest.mark.parametrize(
    "photograph", sorted(DATA.glob("*.*g")) + sorted(DATA.glob("*.webp")), ids=lambda path: path.name
)
def test_a_reduced_image_has_nearly_the_same_vector(files: Path, photograph: Path) -> None:
    encoder = load_encoder(EncoderName.parse(f"open_clip:{files}/tiny.json/weights.safetensors"))
    data = photograph.read_bytes()
    full, reduced = Look(10**8).picture(data), Look(10**8, at_least=encoder.side).picture(data)
    assert encoder.side <= min(reduced.size) < 2 * encoder.side < min(full.size)
    vectors = encoder.embed_images([encoder.prepare(full), encoder.prepare(reduced)])
    assert 0.98 < float(vectors[0] @ vectors[1]) <= 1.0001


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("ViT-B-32/openai", "open_clip:ViT-B-32-quickgelu/openai"),
        ("RN50/openai", "open_clip:RN50-quickgelu/openai"),
    ],
)
def test_the_wrong_activation_is_refused_with_the_right_name(name: str, right: str) -> None:
    with pytest.raises(RecipeError, match=f"write {right}$"):
        check_activation(EncoderName.parse(f"open_clip:{name}"))
    check_activation(EncoderName.parse(right))


def test_weights_that_are_refused_are_not_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = list[Any]()
    monkeypatch.setattr(open_clip, "download_pretrained", fetched.append)
    for name in ("RN50/openai", "RN50-quickgelu/openai"):
        (weights,) = weights_of(Embed.model_validate({"encoders": [f"open_clip:{name}"]}))
        assert weights.fetch() == (name == "RN50-quickgelu/openai")
    assert fetched == [open_clip.get_pretrained_cfg("RN50-quickgelu", "openai")]


def test_weights_of_another_architecture_are_refused(files: Path) -> None:
    (files / "tiny.json").write_text(json.dumps({**CONFIG, "embed_dim": 48}))
    with pytest.raises(RecipeError, match="size mismatch"):
        load_encoder(EncoderName.parse(f"open_clip:{files}/tiny.json/weights.safetensors"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip", "write open_clip:ARCHITECTURE/TAG"),
        ("hf:", "write open_clip:ARCHITECTURE/TAG"),
        ("open_clip:ViT-B-32", "which weights"),
        ("python:module", "python:MODULE:FACTORY"),
    ],
)
def test_names_that_are_refused(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        EncoderName.parse(text)


def test_files_that_are_missing_or_unsafe(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text("{}")
    name = EncoderName.parse(f"open_clip:{tmp_path}/tiny.json/weights.pt")
    with pytest.raises(RecipeError, match=r"there is no file .*weights\.pt"):
        name.digest()
    (tmp_path / "weights.pt").touch()
    with pytest.raises(RecipeError, match=r"not a \.safetensors file"):
        load_encoder(name)


def test_the_digest_follows_the_contents(files: Path) -> None:
    name = EncoderName.parse(f"open_clip:{files}/tiny.json/weights.safetensors")
    before = name.digest()
    assert before == name.digest()
    (files / "tiny.json").write_text(json.dumps({**CONFIG, "quick_gelu": False}))
    assert before != name.digest()


def test_the_digest_follows_a_tokenizer_of_the_models_own(tmp_path: Path) -> None:
    """It decides the vectors of texts; of a model that reads open_clip's own tokens no other file does."""
    name, _ = write_bert_clip(tmp_path)
    one, (beside,) = EncoderName.parse(name), tmp_path.glob("clip/tokenizer.json")
    before = one.digest()
    beside.write_text(beside.read_text().replace('"cat"', '"cats"'))
    assert one.digest() != before
    plain = write_clip(tmp_path / "plain")
    before = EncoderName.parse(plain).digest()
    (tmp_path / "plain/tokenizer.json").write_text("{}")
    assert EncoderName.parse(plain).digest() == before


def test_revisions_are_read_and_count() -> None:
    name = EncoderName.parse("hf:facebook/dinov2-large@abc123")
    assert (name.model, name.revision) == ("facebook/dinov2-large", "abc123")
    assert name.digest() != EncoderName.parse("hf:facebook/dinov2-large").digest()


def test_an_encoder_of_ones_own() -> None:
    name = EncoderName.parse("python:tests.encoders.own:broken")
    with pytest.raises(RecipeError, match="has no vectors, images"):
        load_encoder(name)
    with pytest.raises(RecipeError, match="its similarity is 'smooth_chamfer'; make it one of"):
        read_card(EncoderName.parse("python:tests.encoders.own:mistaken"))
    with pytest.raises(RecipeError, match="No module named"):
        EncoderName.parse("python:no_such_module:f").digest()
    encoder = load_encoder(EncoderName.parse("python:tests.encoders.own:colours"))
    red = encoder.embed_images([encoder.prepare(Image.new("RGB", (4, 4), (255, 0, 0)))])
    np.testing.assert_allclose(red, [[1, 0, 0]])
