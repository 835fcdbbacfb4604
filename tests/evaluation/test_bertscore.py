"""BERTScore against torchmetrics, its formula by hand, and models that cannot be used."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchmetrics.functional.text import bert_score
from transformers import RobertaConfig, RobertaModel

from engine.errors import RecipeError
from engine.evaluation.bertscore import TokenModel, f1
from engine.evaluation.bertscore_name import BertScoreName, is_bertscore
from tests.encoders import tiny

TEXTS = ["a red boat", "two dogs run along the beach", "cat", "a boat along the red beach", "two cat run"]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_bert(tmp_path_factory.mktemp("models") / "bert")


def name_of(folder: Path, layer: str = "") -> BertScoreName:
    return BertScoreName.parse(f"bertscore:{folder}{layer}")


@pytest.mark.parametrize("layer", [None, 1])
def test_same_figures_as_torchmetrics(bert: Path, layer: int | None) -> None:
    model = TokenModel(name_of(bert, f"#{layer}" if layer else ""))
    pairs = list(itertools.combinations(range(len(TEXTS)), 2))
    tokens = model.tokens(TEXTS)
    ours = f1([tokens[i] for i, _ in pairs], [tokens[j] for _, j in pairs])
    # One pair a call: of several of different lengths torchmetrics 1.9 does not restore the order.
    theirs = [
        bert_score(
            [TEXTS[i]],
            [TEXTS[j]],
            model_name_or_path=str(bert),
            num_layers=layer,
            max_length=32,
            device="cpu",
        )["f1"].item()
        for i, j in pairs
    ]
    np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert np.ptp(ours) > 0.05, "texts that all score alike would tell nothing"


@settings(max_examples=30)
@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=70), st.integers(0, 99))
def test_f1_is_its_formula(lengths: list[tuple[int, int]], seed: int) -> None:
    rng = np.random.default_rng(seed)

    def text(tokens: int) -> torch.Tensor:
        rows = rng.standard_normal((tokens, 3)) + 0.7
        return torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=torch.float32)

    pairs = [(text(one), text(other)) for one, other in lengths]
    found = f1([one for one, _ in pairs], [other for _, other in pairs])
    for value, (one, other) in zip(found, pairs, strict=True):
        precision = np.mean([max(float(x @ y) for y in other) for x in one])
        recall = np.mean([max(float(x @ y) for x in one) for y in other])
        fine = precision > 0 and recall > 0
        assert value == pytest.approx(2 * precision * recall / (precision + recall) if fine else 0, abs=1e-5)


def test_equal_texts_score_1_in_either_order(bert: Path) -> None:
    model = TokenModel(name_of(bert))
    one, other, again = model.tokens([TEXTS[0], TEXTS[1], TEXTS[0]])
    found = f1([one, one, other], [again, other, one])
    assert found[0] == pytest.approx(1, abs=1e-6) and found.max() <= 1
    assert found[1] == pytest.approx(found[2], abs=1e-6)


def test_neighbours_in_a_batch_change_nothing(bert: Path) -> None:
    model = TokenModel(name_of(bert))
    many = [TEXTS[i % 5] + " red" * (i % 7) for i in range(150)]
    together, alone = model.tokens(many), [model.tokens([text])[0] for text in many[:12]]
    for one, other in zip(together, alone, strict=False):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    assert [len(each) for each in together] == [len(text.split()) for text in many]
    assert model.tokens([]) == []


def test_a_text_without_tokens_has_no_score(bert: Path) -> None:
    model = TokenModel(name_of(bert))
    # The tokenizer takes control characters out.
    none, some = model.tokens(["\x00\x01", "cat"])
    assert len(none) == 0 and np.isnan(f1([none, some], [some, none])).all()
    assert len(f1([], [])) == 0


def test_long_texts_are_cut_where_places_end(tmp_path: Path, bert: Path) -> None:
    assert len(TokenModel(name_of(bert)).tokens(["red " * 500])[0]) == 62  # of 64, two are special
    config = RobertaConfig(
        vocab_size=40, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2,
        max_position_embeddings=32, pad_token_id=1,
    )  # fmt: skip
    RobertaModel(config).save_pretrained(tmp_path)
    tiny.plain_tokenizer().save_pretrained(tmp_path)
    # Two places are before the first token's; one of the others is the end's.
    assert len(TokenModel(name_of(tmp_path)).tokens(["red " * 500])[0]) == 29


def test_models_that_cannot_be_used(bert: Path, tmp_path: Path) -> None:
    tiny.build("dinov2", tmp_path / "dinov2")
    with pytest.raises(RecipeError, match=r"dinov2'.*co_captions"):
        TokenModel(name_of(tmp_path / "dinov2"))
    shutil.copytree(bert, tmp_path / "lacking")
    settings_file = tmp_path / "lacking/config.json"
    settings_file.write_text(json.dumps({**json.loads(settings_file.read_text()), "num_hidden_layers": 3}))
    with pytest.raises(RecipeError, match="its weights lack 16 tensors"):
        TokenModel(name_of(tmp_path / "lacking"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sentence:a/b", "write bertscore:DIRECTORY"),
        ("bertscore:", "write bertscore:DIRECTORY"),
        ("bertscore:org/name#0", "a layer is a number from 1 on"),
        ("bertscore:org/name#last", "a layer is a number from 1 on"),
    ],
)
def test_names_written_otherwise(text: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        BertScoreName.parse(text)


def test_names_and_what_they_stand_for(bert: Path) -> None:
    hub = BertScoreName.parse("bertscore:org/name@main#17")
    assert (hub.model.model, hub.model.revision, hub.layer) == ("org/name", "main", 17)
    assert is_bertscore("bertscore:a") and not is_bertscore("sentence:a")
    names = [name_of(bert), name_of(bert, "#1"), name_of(bert, "#2"), hub]
    assert len({name.digest() for name in names}) == 4
    name_of(bert, "#2").check()
    with pytest.raises(RecipeError, match="the model has 2 layers"):
        name_of(bert, "#3").check()
    with pytest.raises(RecipeError, match=r"config\.json cannot be read"):
        name_of(bert.parent).check()
    with pytest.raises(RecipeError, match="no such directory"):
        name_of(bert / "none").digest()
