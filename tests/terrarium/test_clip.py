"""The embedded CLIP: its tower, its training, and that the shipped weights know the world."""

from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch

from engine.encoders import EncoderName, load_encoder
from engine.terrarium import MODEL_DIR, description, scene
from engine.terrarium.clip import CONFIG, WEIGHTS, build, described_tower, save, take_tower, tokenizer
from engine.terrarium.clip_shapes import EMBEDDER, SHAPES
from engine.terrarium.grammar import literal
from engine.terrarium.lexicon import words
from engine.terrarium.model import load
from engine.terrarium.render import image
from engine.terrarium.tokens import load_tokenizer
from engine.terrarium.train_clip import recall, train
from engine.terrarium.vision import to_pixels


def test_tower_sees_as_the_describing_model_does() -> None:
    model = build().eval()
    take_tower(model, described_tower(MODEL_DIR))
    pixels = to_pixels([scene(1, index) for index in range(4)])
    tower = load(MODEL_DIR, load_tokenizer(MODEL_DIR)).model.vision_tower.eval()
    with torch.no_grad():
        expected = tower(pixel_values=pixels).pooler_output
        model.visual.proj = None
        np.testing.assert_allclose(model.visual(pixels), expected, atol=1e-4)


def test_tower_of_another_shape_is_refused(tmp_path: Path) -> None:
    model = build()
    model.visual.extra = torch.nn.Linear(2, 2)
    with pytest.raises(ValueError, match="vision tower has another shape"):
        take_tower(model, described_tower(MODEL_DIR))


@pytest.mark.parametrize(
    ("name", "recall"),
    [("terrarium", 0.95), ("terrarium-w128", 0.8), ("terrarium-w96", 0.8), ("terrarium-w64", 0.7)],
)
def test_shipped_weights_find_the_descriptions_of_unseen_scenes(name: str, recall: float) -> None:
    encoder = load_encoder(EncoderName.parse(f"open_clip:{name}"))
    scenes = [scene(3, index) for index in range(200)]
    images = encoder.embed_images([encoder.prepare(image(one)) for one in scenes])
    texts = encoder.embed_texts([description(one) for one in scenes])
    scores = images @ texts.T
    ranks = (scores > scores.diagonal()[:, None]).sum(axis=1)
    assert (ranks == 0).mean() >= recall


def test_plain_open_clip_loads_it(tmp_path: Path) -> None:
    for ours, theirs in ((CONFIG, "open_clip_config.json"), (WEIGHTS, "open_clip_model.safetensors")):
        (tmp_path / theirs).write_bytes((EMBEDDER.directory / ours).read_bytes())
    model, _, _ = open_clip.create_model_and_transforms(f"local-dir:{tmp_path}")
    assert (
        recall(model.eval(), [scene(4, index) for index in range(50)], torch.device("cpu"), tokenizer())[
            "R@1"
        ]
        >= 0.9
    )


def test_literal_captions_say_nothing_abstract() -> None:
    rng = np.random.default_rng(0)
    abstract = set(words())
    for index in range(300):
        one = scene(5, index)
        text = literal(one, rng)
        assert any(kind in text for kind in one.kinds)
        assert not abstract & set(text.split()) - {one.ground, *one.kinds}, text


@pytest.mark.parametrize("name", ["terrarium", "terrarium-w64"])
def test_a_short_training_leaves_a_model(tmp_path: Path, name: str) -> None:
    train(tmp_path, 1 / 80_000, torch.device("cpu"), SHAPES[name])
    assert (tmp_path / CONFIG).exists() and not list(tmp_path.glob("checkpoint*"))
    encoder = load_encoder(EncoderName.parse(f"open_clip:{tmp_path}/{CONFIG}/{WEIGHTS}"))
    assert encoder.embed_texts(["a red fish"]).shape == (1, 128)


def test_saved_weights_are_the_models(tmp_path: Path) -> None:
    torch.manual_seed(1)
    model = build().eval()
    save(model, tmp_path)
    encoder = load_encoder(EncoderName.parse(f"open_clip:{tmp_path}/{CONFIG}/{WEIGHTS}"))
    one = image(scene(6, 0))
    with torch.no_grad():
        expected = model.encode_image(to_pixels([scene(6, 0)]), normalize=True)
    np.testing.assert_allclose(encoder.embed_images([encoder.prepare(one)]), expected, atol=5e-3)
