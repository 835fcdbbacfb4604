"""Co-captions of a run as users ask for them: by a CLIP, a sentence encoder and BERTScore, against loops."""

from __future__ import annotations

import io
import itertools
import json
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
import yaml
from PIL import Image
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer import modules

from engine.encoders import EncoderName, load_encoder
from engine.evaluation.bertscore import TokenModel, f1
from engine.evaluation.bertscore_name import BertScoreName
from engine.evaluation.caption_texts import CaptionTexts, TextReader
from engine.evaluation.co_captions import ByTokens
from engine.evaluation.co_figures import Tally
from engine.flow import co_captions
from engine.flow.spread import slices
from engine.recipe import Pairs, parse_recipe
from engine.rundir import RunDirectory
from engine.schema import CATALOG
from jobs.show import status_lines
from tests.command import connote, finish
from tests.encoders import tiny
from tests.flow.seers import add
from tests.flow.speaker import CAPTIONS

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

CLIP = "open_clip:terrarium"
SETS = [{"name": name, "captions": name} for name in ("original", "mined", "metaphor")]


@pytest.fixture(scope="module")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny.build_bert(tmp_path_factory.mktemp("models") / "bert")


@pytest.fixture(scope="module")
def sentence(bert: Path) -> str:
    layers = [modules.Transformer(str(bert)), modules.Pooling(32)]
    SentenceTransformer(modules=layers, device="cpu").save(
        str(bert.parent / "saved"), create_model_card=False
    )
    return f"sentence:{bert.parent / 'saved'}"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    with tarfile.open(folder / "0.tar", "w") as tar:
        for index, captions in enumerate(CAPTIONS):
            sink = io.BytesIO()
            Image.new("RGB", (16, 16), (index * 37 % 256, 90, 200 - index * 20)).save(sink, "PNG")
            add(tar, f"{index:03d}.png", b"broken" if index == 1 else sink.getvalue())
            add(tar, f"{index:03d}.json", json.dumps({"captions": captions}).encode())
    return folder


def write_recipe(path: Path, images: Path, sentence: str, co_captions: list[str], **evaluate: Any) -> Path:
    recipe = {
        "images": {"source": "webdataset", "uri": str(images)},
        "run": {"part_rows": 3, "max_failed_share": 0.5},
        "generators": {"a": {"backend": "scripted", "script": "tests.flow.speaker:speak", "cpus": 0.5}},
        "describe": {"generator": "a"},
        "associate": {"generator": "a", "elements": 1, "words": 1},
        "caption": {"generator": "a", "attempts": 1},
        "embed": {"encoders": [CLIP, sentence], "texts": ["original", "mined"], "cpus": 0.5},
        "evaluate": {
            "models": [CLIP], "sets": SETS, "draws": 20, "cpus": 0.5, "co_captions": co_captions, **evaluate,
        },
    }  # fmt: skip
    path.write_text(yaml.safe_dump(recipe))
    return path


@pytest.fixture(scope="module")
def whole(
    pictures: Path, bert: Path, sentence: str, on_ray: None, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Path, list[str], str]:
    """A run, its recipe, the encoders that compare, and what was said."""
    root, names = tmp_path_factory.mktemp("whole"), [CLIP, sentence, f"bertscore:{bert}#1"]
    recipe = write_recipe(root / "recipe.yaml", pictures, sentence, names)
    return root / "out", recipe, names, finish("run", recipe, "--out", root / "out")


def texts_of(out: Path, chosen: str) -> list[list[str]]:
    """The captions of each sample that count, as the tables hold them."""
    if chosen == "original":
        return CAPTIONS
    rows = [
        row for path in sorted(out.glob("stages/caption-*/part-*")) for row in pq.read_table(path).to_pylist()
    ]
    return [
        [
            item["caption"]
            for item in row["creative_captions"] or []
            if item["flag"] is None and chosen in ("mined", item["level"])
        ]
        for row in rows
    ]


def pairs(captions: list[list[str]]) -> Iterator[tuple[int, str, str]]:
    for image, texts in enumerate(captions):
        for one, other in itertools.combinations(texts, 2):
            yield image, one, other


def scores(name: str, captions: list[list[str]], bert: Path) -> np.ndarray:
    """By the model itself, pair by pair."""
    if name.startswith("bertscore:"):
        model = TokenModel(BertScoreName.parse(name))
        told = [(model.tokens([one])[0], model.tokens([other])[0]) for _, one, other in pairs(captions)]
        return f1([one for one, _ in told], [other for _, other in told])
    encoder = load_encoder(EncoderName.parse(name))
    vectors = {text: encoder.embed_texts([text])[0] for texts in captions for text in texts}
    return np.array([float(vectors[one] @ vectors[other]) for _, one, other in pairs(captions)])


def rows_of(out: Path) -> dict[tuple[str, str], dict[str, Any]]:
    table = pq.read_table(out / "evaluation/co-captions.parquet")
    return {(row["set"], row["encoder"]): row for row in table.to_pylist()}


@pytest.mark.parametrize("number", range(3))
def test_figures_are_those_of_a_loop(
    whole: tuple[Path, Path, list[str], str], bert: Path, number: int
) -> None:
    out, _, names, _ = whole
    for chosen in ("original", "mined"):
        captions = texts_of(out, chosen)
        values, row = scores(names[number], captions, bert), rows_of(out)[chosen, names[number]]
        assert (row["pairs"], row["images"]) == (len(values), len({image for image, _, _ in pairs(captions)}))
        assert row["mean"] == pytest.approx(values.mean(), abs=1e-3)
        assert row["sd"] == pytest.approx(values.std(), abs=1e-3)
        assert (row["least"], row["most"]) == pytest.approx((values.min(), values.max()), abs=1e-3)
        assert row["low"] <= row["mean"] <= row["high"]
    assert rows_of(out)["original", names[number]]["pairs"] == 18  # 3 + 1 + 1 + 10 + 3
    assert rows_of(out)["original", names[number]]["most"] == pytest.approx(1, abs=1e-5)


def test_what_is_written(whole: tuple[Path, Path, list[str], str]) -> None:
    out, _, names, said = whole
    place = out / "evaluation"
    assert said.count("comparing ") == 9
    table = pyarrow.csv.read_csv(place / "co-captions.csv")
    assert table["encoder"].to_pylist() == names * 3 and table["median"].null_count == 3
    page = (place / "tables.md").read_text()
    assert page.index("# Retrieval") < page.index("# Co-captions")
    # One caption of a level is no pair; that is said, and nothing fails.
    assert f"In metaphor no image has two captions that `{CLIP}`" in page
    assert f"| metaphor | {CLIP} | - |" in page
    for name in ("-original", "-mined", ""):
        assert f"(co-captions{name}.png)" in page
        assert (place / f"co-captions{name}.png").read_bytes().startswith(b"\x89PNG")
    assert not (place / "co-captions-metaphor.png").exists() and "co-captions-metaphor.png" not in page


def test_an_encoder_that_is_added_is_measured_alone(
    whole: tuple[Path, Path, list[str], str], tmp_path: Path, pictures: Path, sentence: str, bert: Path
) -> None:
    out, recipe, names, _ = whole
    shutil.copytree(out, tmp_path / "out")
    again = finish("evaluate", recipe, "--out", tmp_path / "out")
    assert "comparing" not in again and "evaluating" not in again
    run = RunDirectory.at(str(tmp_path / "out"))
    assert "a run with this recipe would compute: nothing, all of it is done" in status_lines(run, None, [])
    more = write_recipe(tmp_path / "more.yaml", pictures, sentence, [f"bertscore:{bert}", *names[:2]])
    setting = f"evaluate.co_captions=['bertscore:{bert}', '{CLIP}']"
    told = "\n".join(status_lines(run, None, [setting]))
    assert "evaluate (measure 3 of 9 pairs of a model and a set)" in told
    said = finish("evaluate", more, "--out", tmp_path / "out")
    assert said.count("comparing ") == 3 and said.count(f"by bertscore:{bert}\n") == 3
    before, after = rows_of(out), rows_of(tmp_path / "out")
    assert {key: after[key] for key in after if key in before} == {
        key: row for key, row in before.items() if key[1] != names[2]
    }
    assert after["original", f"bertscore:{bert}"]["mean"] != before["original", names[2]]["mean"]
    # One answer is gone: it is found again, and is the same.
    one = next((tmp_path / "out/evaluation").glob("co-captions-????????????????.parquet"))
    table = pq.read_table(one)
    one.unlink()
    assert finish("evaluate", more, "--out", tmp_path / "out").count("comparing ") == 1
    assert pq.read_table(one).equals(table)


def test_any_slices_give_the_same_figures(
    whole: tuple[Path, Path, list[str], str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe, _, _ = whole
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("co-captions*"))
    monkeypatch.setattr(co_captions, "slices", lambda rows: slices(rows, 1))  # a part a task
    some = ("--set", "evaluate.sets=[{name: original}]")
    assert finish("evaluate", recipe, "--out", tmp_path / "out", *some).count("comparing ") == 3
    found = rows_of(tmp_path / "out")
    assert found == {key: row for key, row in rows_of(out).items() if key[0] == "original"}
    assert len(found) == 3


def test_another_run_is_a_set_too(
    whole: tuple[Path, Path, list[str], str], tmp_path: Path, pictures: Path, sentence: str
) -> None:
    out, _, names, _ = whole
    sets = [{"name": "theirs", "run": str(out)}]
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, sentence, names, sets=sets)
    finish("evaluate", recipe, "--out", tmp_path / "out")
    mine, theirs = rows_of(tmp_path / "out"), rows_of(out)
    assert [mine["theirs", name]["mean"] for name in names] == [
        theirs["original", name]["mean"] for name in names
    ]
    assert not (tmp_path / "out/evaluation/co-captions.png").exists(), "one set is compared with none"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (["sentence:no/such"], "evaluate.co_captions: 'sentence:no/such' is not one of embed.encoders"),
        ([CLIP, CLIP], "name each once"),
        (["bertscore:org/name#0"], "a layer is a number from 1 on"),
        (
            ["bertscore:/no/such/model"],
            "evaluate.co_captions, 'bertscore:/no/such/model': model /no/such/model",
        ),
        (["bertscore:{bert}#3"], "the model has 2 layers; name one of them"),
    ],
)
def test_what_cannot_compare_is_refused(
    whole: tuple[Path, Path, list[str], str],
    tmp_path: Path, pictures: Path, sentence: str, bert: Path, asked: list[str], said: str,
) -> None:  # fmt: skip
    out, _, _, _ = whole
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("evaluation"))
    names = [name.format(bert=bert) for name in asked]
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, sentence, names)
    status, text = connote("evaluate", recipe, "--out", tmp_path / "out")
    assert status == 2 and said in text, text
    assert not (tmp_path / "out/evaluation").exists(), "it is refused before anything is measured"


def test_an_encoder_that_reads_no_texts(
    whole: tuple[Path, Path, list[str], str], tmp_path: Path, pictures: Path, sentence: str
) -> None:
    out, _, _, _ = whole
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("evaluation"))
    tiny.build("dinov2", tmp_path / "dinov2")
    blind = f"hf:{tmp_path / 'dinov2'}"
    recipe = write_recipe(tmp_path / "recipe.yaml", pictures, sentence, [blind])
    settings = yaml.safe_load(recipe.read_text())
    settings["embed"]["encoders"].append(blind)
    recipe.write_text(yaml.safe_dump(settings))
    status, text = connote("evaluate", recipe, "--out", tmp_path / "out")
    assert (
        status == 2 and "evaluate.co_captions, set original" in text and "it reads no such thing" in text
    ), text
    assert not (tmp_path / "out/evaluation").exists()


def test_empty_captions_and_unread_samples_do_not_count(tmp_path: Path, bert: Path) -> None:
    captions = [["cat", "", "  ", "a red boat"], ["cat", "cat"], [], ["dogs", "run"], ["\x00", "cat", "cat"]]
    run = RunDirectory.at(str(tmp_path / "run"))
    rows = [
        {"id": f"{i:016x}", "key": str(i), "uri": "a", "size": 1, "captions": each, "error": None}
        for i, each in enumerate(captions)
    ]
    rows[3]["error"] = "no such image"
    (run.catalog / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=CATALOG))
    source = CaptionTexts(run)
    parts = [
        {"part": "p0", "catalog": "0.parquet", "start": start, "rows": count}
        for start, count in ((0, 2), (2, 3))
    ]
    told = TextReader(source).part(parts[1])
    assert told.owners.tolist() == [1, 1, 2, 2, 2] and told.kept.tolist() == [False, False, True, True, True]
    assert told.starts.tolist() == [0, 0, 2]
    compared = ByTokens(BertScoreName.parse(f"bertscore:{bert}"), source)
    tally = Tally.of(compared.compare(parts, "cpu"), 5)
    # Of the first two captions, of the second's equal ones, and of the last's, one of which has no token.
    assert tally.pairs.tolist() == [1, 1, 1]
    assert tally.short[1:] == pytest.approx([0, 0], abs=1e-6) and tally.short[0] > 0.01


def test_captions_in_a_field(tmp_path: Path) -> None:
    extras = [{"more": ["cat", None, "dog"]}, {"more": "boat"}, {}, {"more": 3}, None, {"more": "lost"}]
    run = RunDirectory.at(str(tmp_path / "run"))
    rows = [
        {"id": f"{i:016x}", "key": str(i), "uri": "a", "size": 1, "captions": ["own"], "error": None}
        for i in range(len(extras))
    ]
    for row, extra in zip(rows, extras, strict=True):
        row["extra"] = None if extra is None else json.dumps(extra)
    rows[5]["error"] = "no such image"
    (run.catalog / "0.parquet").write_table(pa.Table.from_pylist(rows, schema=CATALOG))
    recipe = parse_recipe("images: {source: folder, uri: /data}")
    source, plain = (
        CaptionTexts.of(recipe, run, Pairs(captions=each)) for each in ("field:more", "original")
    )
    part = {"part": "p0", "catalog": "0.parquet", "start": 0, "rows": 6}
    told = TextReader(source).part(part)
    assert told.texts.to_pylist() == ["cat", "", "dog", "boat", "lost"]
    assert told.owners.tolist() == [0, 0, 0, 1, 5] and told.kept.tolist() == [True] * 4 + [False]
    assert TextReader(plain).part(part).texts.to_pylist() == ["own"] * 6
    plan = pa.table({"part": ["p0"]})
    assert source.state(plan) != plain.state(plan) == CaptionTexts(run).state(plan)
