"""Models fine-tuned here as encoders: what their vectors are, and that compared they are what was trained."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from engine.encoders import Encoder, EncoderName, load_encoder
from engine.encoders.card import read_card
from engine.encoders.fine_tuned_card import fine_tuned_card
from engine.encoders.own_similarity import COSINE, DotProduct, MatchingProbability, SmoothChamfer
from engine.encoders.protocol import Card
from engine.errors import RecipeError
from engine.retrieval.sets import similarity_of
from engine.schema import LEVELS
from engine.storage import digest_of, locate
from engine.training.method import Method, Outputs
from engine.training.methods.pcme import Pcme
from engine.training.result import load_method
from tests.training import runs
from tests.training.tiny import CPU, write_clip, write_model

TEXTS = [
    "a red fish",
    "two birds over a lake",
    "a",
    "a red fish and more words than fit in its context of twelve",
]
PICTURES = [runs.picture(side) for side in (16, 20, 33)]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Tiny models by method; `pvse1` has one vector a side."""
    root = tmp_path_factory.mktemp("models")
    clip = write_clip(root / "clip")
    made = {method: write_model(root / method, clip, method) for method in ("pvse", "dive", "pcme")}
    for method in ("pvse", "dive"):
        made[f"{method}1"] = write_model(root / f"{method}1", clip, method, embeddings=1)
    made["pcme1"] = write_model(root / "pcme1", clip, "pcme", samples=1)
    return made


def name_of(text: str) -> EncoderName:
    return EncoderName.parse(text)


def sides(text: str, encoder: Encoder) -> tuple[Method, Outputs, Outputs]:
    """The model as a method, and what it says of pictures and texts."""
    method, _ = load_method(locate(name_of(text).model), CPU)
    pixels = torch.stack([encoder.prepare(picture) for picture in PICTURES])
    with torch.inference_mode():
        images = method.image_side(pixels, torch.full((len(pixels),), -1))
        return method, images, method.text_side(method.backbone.tokenize(TEXTS))


@pytest.mark.parametrize("kind", ["pvse", "dive", "pcme", "pvse1", "dive1", "pcme1"])
def test_compared_they_are_what_was_trained(models: dict[str, str], kind: str) -> None:
    encoder = load_encoder(name_of(models[kind]))
    images = encoder.embed_images([encoder.prepare(picture) for picture in PICTURES])
    texts = encoder.embed_texts(TEXTS)
    found = similarity_of(encoder.similarity, images, texts)(slice(0, 3), slice(0, 4))
    method, one, other = sides(models[kind], encoder)
    np.testing.assert_allclose(found.numpy(), method.similarity(one, other).numpy(), rtol=1e-4, atol=1e-4)
    # In other company, and one by one, the vectors are the same but for roundings.
    alone = np.concatenate([encoder.embed_texts([text]) for text in TEXTS])
    np.testing.assert_allclose(alone, texts, atol=1e-5)
    turned = encoder.embed_images([encoder.prepare(picture) for picture in PICTURES[::-1]])
    np.testing.assert_allclose(turned[::-1], images, atol=1e-5)


def test_the_views_of_samples(models: dict[str, str]) -> None:
    text = models["pcme"]
    mean, product = (load_encoder(name_of(f"{text}@{view}")) for view in ("mean", "dot_product"))
    method, images, texts = sides(text, mean)
    assert isinstance(method, Pcme)
    prepared = [mean.prepare(picture) for picture in PICTURES]
    np.testing.assert_allclose(mean.embed_images(prepared), images["mean"].numpy(), atol=1e-6)
    np.testing.assert_allclose(mean.embed_texts(TEXTS), texts["mean"].numpy(), atol=1e-6)
    # The published retrieval: the sum of the products of all samples, here the mean.
    x, y = method.image_samples(images), method.text_samples(texts)
    expected = torch.einsum("njd,mld->nm", x, y) / 49
    found = similarity_of(product.similarity, product.embed_images(prepared), product.embed_texts(TEXTS))
    np.testing.assert_allclose(found(slice(0, 3), slice(0, 4)).numpy(), expected.numpy(), atol=1e-5)
    assert (mean.similarity, product.similarity) == (COSINE, DotProduct())
    lengths = np.linalg.norm(load_encoder(name_of(text)).embed_texts(TEXTS), axis=-1)
    assert np.ptp(lengths) > 1e-3, "samples are of no one length"


def test_the_card_tells_what_the_weights_give(models: dict[str, str]) -> None:
    names = [*models.values(), *(f"{models['pcme']}@{view}" for view in ("mean", "dot_product"))]
    for text in names:
        assert read_card(name_of(text)) == Card.of(load_encoder(name_of(text)))
    cards = {kind: read_card(name_of(text)) for kind, text in models.items()}
    assert {kind: (card.vectors, card.text_vectors) for kind, card in cards.items()} == {
        "pvse": (2, 2), "dive": (2, 2), "pcme": (7, 7), "pvse1": (1, 1), "dive1": (1, 1), "pcme1": (1, 1),
    }  # fmt: skip
    assert cards["pvse"].similarity == cards["pvse1"].similarity == cards["dive1"].similarity == COSINE
    assert cards["dive"].similarity == SmoothChamfer(16.0)


def test_models_that_were_finished_before_their_similarity_was_told(models: dict[str, str]) -> None:
    for kind in ("dive", "pcme"):
        name = name_of(models[kind])
        told, place = fine_tuned_card(name), Path(name.model) / "connote.json"
        about = json.loads(place.read_text())
        try:
            # They said that captions have no vectors, too.
            place.write_text(json.dumps({**about, "texts": False, "similarity": None}))
            assert fine_tuned_card(name) == told and told.texts
        finally:
            place.write_text(json.dumps(about))
    assert isinstance(told.similarity, MatchingProbability) and abs(told.similarity.scale - 15) < 1


def test_vectors_of_before_keep_their_digests(models: dict[str, str]) -> None:
    """Which decide where their tables lie."""
    for kind, view in (("pvse", ""), ("dive1", ""), ("pcme", "@mean")):
        about = json.loads((Path(name_of(models[kind]).model) / "connote.json").read_text())
        assert name_of(models[kind] + view).digest() == digest_of("connote", about["digest"], "")
    assert len({name_of(models["pcme"] + view).digest() for view in ("", "@mean", "@dot_product")}) == 3


def test_what_is_no_number_is_no_vector(models: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = load_encoder(name_of(models["pcme"]))
    whole = encoder.embed_texts(TEXTS)

    def lost(self: Pcme, texts: Outputs) -> torch.Tensor:
        samples = original(self, texts)
        samples[1, 3, 0] = torch.inf
        return samples

    original = Pcme.text_samples
    monkeypatch.setattr(Pcme, "text_samples", lost)
    found = encoder.embed_texts(TEXTS)
    assert np.isnan(found[1]).all() and np.array_equal(np.delete(found, 1, 0), np.delete(whole, 1, 0))


def test_a_level_that_was_not_learned(tmp_path: Path) -> None:
    """Its tokens are as they were drawn at random."""
    text = write_model(tmp_path / "m", write_clip(tmp_path / "clip"), "prefix")
    place = tmp_path / "m" / "connote.json"
    about = json.loads(place.read_text())

    def learned(start: str | None = None, **told: object) -> list[str]:
        settings = {**about["settings"], "start": start, "data": {"levels": ["context", "broader"]}}
        place.write_text(json.dumps({**about, "settings": settings, **told}))
        found = []
        for level in LEVELS:
            try:
                read_card(name_of(f"{text}@{level}"))
                found.append(level)
            except RecipeError:
                pass
        return found

    assert learned() == ["broader", "context"]
    for ask in (read_card, load_encoder):
        with pytest.raises(
            RecipeError, match=r"captions of broader, context only .* learned nothing of metaphor"
        ):
            ask(name_of(f"{text}@metaphor"))
        ask(name_of(f"{text}@context"))
        ask(name_of(text))
    # What it started from may have learned others, which models of before do not tell.
    assert learned("x", levels=["synonym", "broader", "context"]) == ["synonym", "broader", "context"]
    assert learned("x") == list(LEVELS)


@pytest.mark.parametrize(
    ("kind", "view", "said"),
    [
        ("pvse", "mean", "a model of method pvse draws no samples; leave out @mean"),
        ("dive", "dot_product", "a model of method dive draws no samples; leave out @dot_product"),
        ("pcme", "metaphor", "a model of method pcme has no levels; leave out @metaphor"),
    ],
)
def test_views_that_a_model_has_not(models: dict[str, str], kind: str, view: str, said: str) -> None:
    for ask in (read_card, load_encoder):
        with pytest.raises(RecipeError, match=said):
            ask(name_of(f"{models[kind]}@{view}"))
