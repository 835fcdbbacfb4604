"""The embed stage with a bank of known vectors: what is stored, left out and counted."""

import asyncio
import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from engine.encoders import EncoderName
from engine.encoders.bank import EncoderBank
from engine.errors import RecipeError
from engine.generation.protocol import Picture
from engine.recipe import Embed, Recipe
from engine.stages import Tally, build_stages
from engine.stages.embed import NO_DIRECTION, TOO_LONG, EmbedStage, Of, stage_name

CONFIG = {"embed_dim": 4, "vision_cfg": {"image_size": 32}}


class Bank:
    """Vectors by the length of a text or the width of a picture; a `nan` has none."""

    def __init__(self) -> None:
        self.batches: list[Any] = []

    async def embed_texts(self, name: EncoderName, texts: Sequence[str]) -> Any:
        self.batches.append(list(texts))
        rows = np.eye(4, dtype=np.float32)[[len(text) % 4 for text in texts]]
        rows[[text == "nan" for text in texts]] = np.nan
        return rows

    async def longer(self, name: EncoderName, texts: Sequence[str]) -> int:
        return sum(len(text) > 6 for text in texts)

    async def embed_images(self, name: EncoderName, pictures: Sequence[Any]) -> Any:
        rows = np.eye(4, dtype=np.float32)[[picture.width % 4 for picture in pictures]]
        rows[[picture.width == 7 for picture in pictures]] = np.nan
        return rows


@pytest.fixture
def encoder(tmp_path: Path) -> str:
    (tmp_path / "tiny.json").write_text(json.dumps(CONFIG))
    (tmp_path / "w.safetensors").write_bytes(b"weights")
    return f"open_clip:{tmp_path}/tiny.json/w.safetensors"


def stage(encoder: str, of: Of, **settings: Any) -> EmbedStage:
    embed = Embed(encoders=(encoder,), **settings)
    return EmbedStage(embed, EncoderName.parse(encoder), of, 10**6, "embed", "f")


def run(
    stage: EmbedStage, rows: list[dict[str, Any]], pictures: list[Any], tally: Tally, bank: Bank
) -> pa.Table:
    made = asyncio.run(stage.run(rows, pictures, bank, tally))  # type: ignore[arg-type]
    return pa.Table.from_pylist(
        [{"id": str(i), "key": str(i), **row} for i, row in enumerate(made)], schema=stage.schema
    )


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_images(encoder: str, dtype: str) -> None:
    it, tally = stage(encoder, "images", dtype=dtype), Tally()
    pictures = [Picture(str(width), Image.new("RGB", (width, 9))) for width in (4, 7, 6)]
    table = run(it, [{}] * 3, pictures, tally, Bank())
    assert table.schema.field("vector").type == pa.list_(pa.type_for_alias(dtype), 4)
    assert table["vector"].to_pylist() == [[1, 0, 0, 0], None, [0, 0, 1, 0]]
    assert table["error"].to_pylist() == [None, NO_DIRECTION, None]
    assert tally.counts == {"vectors": 2} and tally.requests == 3
    assert it.look.at_least == 32 and stage(encoder, "images", decode="full").look.full


def test_captions_keep_their_places(encoder: str) -> None:
    it, bank, tally = stage(encoder, "original", batch=2), Bank(), Tally()
    rows = [{"captions": ["lengthy", "ab", " "]}, {"captions": []}, {"captions": ["a", "nan"]}]
    table = run(it, rows, [None] * 3, tally, bank)
    assert table["vectors"].to_pylist() == [
        [[0, 0, 0, 1], [0, 0, 1, 0], None],
        [],
        [[0, 1, 0, 0], None],
    ]
    assert bank.batches == [["a", "ab"], ["nan", "lengthy"]], "alike in length, and none that is empty"
    assert tally.flags == {"empty caption": 1, NO_DIRECTION: 1, TOO_LONG: 1}
    assert tally.counts == {"vectors": 3}


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_several_vectors_of_a_caption(dtype: str) -> None:
    """What is too long for half precision is none."""
    own, tally = "python:tests.encoders.own:twice", Tally()
    it, bank = stage(own, "original", dtype=dtype), EncoderBank(Embed(encoders=(own,), cpus=1))
    rows = [{"captions": ["ab", " ", "long"]}, {"captions": []}, {"captions": ["a"]}]
    made = asyncio.run(it.run(rows, [None] * 3, bank, tally))
    table = pa.Table.from_pylist([{"id": str(i), "key": "k", **row} for i, row in enumerate(made)], it.schema)
    one = pa.list_(pa.type_for_alias(dtype), 4)
    assert table.schema.field("vectors").type == pa.list_(pa.list_(one, 2))
    long = None if dtype == "float16" else [[1e6, 0, 0, 0], [-1e6, 0, 0, 0]]
    assert table["vectors"].to_pylist() == [
        [[[0, 0, 2, 0], [0, 0, -2, 0]], None, long],
        [],
        [[[0, 2, 0, 0], [0, -2, 0, 0]]],
    ]
    assert tally.flags == {"empty caption": 1, **({NO_DIRECTION: 1} if long is None else {})}
    assert tally.counts == {"vectors": 2 if long is None else 3}


def test_mined_captions(encoder: str) -> None:
    it = stage(encoder, "mined")
    rows = [{"creative_captions": [{"caption": "abc"}, {"caption": None}]}, {"creative_captions": None}]
    table = run(it, rows, [None] * 2, Tally(), Bank())
    assert table["vectors"].to_pylist() == [[[0, 0, 0, 1], None], []]
    assert it.needs == ("caption",) and not it.sees_images


def test_the_texts_of_a_field(encoder: str) -> None:
    it, tally = stage(encoder, "field:failed"), Tally()
    extras = [
        {"failed": "ab "},
        {"failed": ["abc", None, "", "a"]},
        {"other": "abc"},
        {"failed": None},
        {"failed": " "},
        {"failed": []},
        {"failed": 3},
        {"failed": ["a", {"text": "b"}]},
        {"failed": [["a"]]},
        {"failed": True},
    ]
    rows = [{"captions": ["abcd"], "extra": json.dumps(extra)} for extra in extras]
    rows.append({"captions": ["abcd"], "extra": None})
    table = run(it, rows, [None] * len(rows), tally, Bank())
    assert table["vectors"].to_pylist() == [
        [[0, 0, 1, 0]],
        [[0, 0, 0, 1], None, None, [0, 1, 0, 0]],
        *[[]] * 4,
        *[None] * 4,
        [],
    ]
    assert [error for error in table["error"].to_pylist() if error] == [
        f"field 'failed' holds {what}, and neither a text nor a list of texts"
        for what in ("a number", "a list with an object", "a list with a list", "true or false")
    ]
    assert tally.flags == {"empty caption": 2} and tally.counts == {"vectors": 3}
    assert it.needs == () and not it.sees_images


def recipe(**sections: Any) -> Recipe:
    script = {"backend": "scripted"}
    return Recipe.model_validate(
        {
            "images": {"source": "folder", "uri": "/data"},
            "generators": {"g": script},
            "describe": {"generator": "g"},
            "associate": {"generator": "g"},
            "caption": {"generator": "g"},
            **sections,
        }
    )


def test_one_stage_for_each_encoder_and_what_it_can_embed(encoder: str) -> None:
    own = "python:tests.encoders.own:colours"
    stages = build_stages(recipe(embed={"encoders": [encoder, own], "texts": ["original", "mined"]}))[3:]
    assert [each.name for each in stages] == [
        "embed-images-tiny.json-w.safetensors",
        "embed-original-tiny.json-w.safetensors",
        "embed-mined-tiny.json-w.safetensors",
        "embed-images-tests.encoders.own-colours",
    ]
    assert len({each.fingerprint for each in stages}) == 4


def test_fields_are_told_apart(encoder: str) -> None:
    texts = ["original", "field:a", "field:a b", "field:a/b", f"field:{'long' * 20}"]
    stages = build_stages(recipe(embed={"encoders": [encoder], "texts": texts}))[3:]
    names = [each.name.removesuffix("-tiny.json-w.safetensors") for each in stages]
    assert names[:3] == ["embed-images", "embed-original", "embed-field-a"]
    assert names[3].startswith("embed-field-a-b-") and names[4].startswith("embed-field-a-b-")
    assert len(set(names)) == len({each.fingerprint for each in stages}) == 6
    assert all("/" not in name and len(name) < 70 for name in names)
    alone = build_stages(recipe(embed={"encoders": [encoder], "texts": ["original"]}))[3:]
    assert [(each.name, each.fingerprint) for each in alone] == [
        (each.name, each.fingerprint) for each in stages[:2]
    ]


def test_what_decides_the_vectors(encoder: str, tmp_path: Path) -> None:
    def prints(**settings: Any) -> list[str]:
        caption = settings.pop("caption", {"generator": "g"})
        embed = {"encoders": [encoder], "texts": ["original", "mined"], **settings}
        return [s.fingerprint for s in build_stages(recipe(embed=embed, caption=caption))[3:]]

    before = prints()
    assert prints(batch=3, cpus=1, actors=2, gpus=1) == before
    assert [a == b for a, b in zip(prints(decode="full"), before, strict=True)] == [False, True, True]
    assert not set(prints(dtype="float32")) & set(before)
    assert not set(prints(compute="bfloat16")) & set(before)
    other_captions = prints(caption={"generator": "g", "draw": 2})
    assert [a == b for a, b in zip(other_captions, before, strict=True)] == [True, True, False]
    (tmp_path / "w.safetensors").write_bytes(b"other weights")
    assert not set(prints()) & set(before)


@pytest.mark.parametrize(
    ("embed", "message"),
    [
        ({"encoders": []}, "at least one encoder"),
        ({"encoders": ["clip"]}, "encoder 'clip': write open_clip:ARCHITECTURE/TAG"),
        ({"encoders": ["open_clip:ViT-B-32"]}, "which weights"),
        ({"encoders": ["hf:a/b"], "texts": ["all"]}, "original"),
        ({"encoders": ["hf:a/b"], "texts": ["original", "original"]}, "once"),
    ],
)
def test_settings_that_are_refused(embed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Embed.model_validate(embed)


def test_mined_captions_must_be_mined() -> None:
    with pytest.raises(ValueError, match=r"embed.texts: mined captions need the section caption"):
        recipe(caption=None, embed={"encoders": ["hf:a/b"], "texts": ["mined"]})


def test_an_encoder_that_is_not_there(tmp_path: Path) -> None:
    name = f"open_clip:{tmp_path}/tiny.json/w.safetensors"
    with pytest.raises(RecipeError, match=r"there is no file .*tiny\.json"):
        build_stages(recipe(embed={"encoders": [name]}))


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("hf:facebook/dinov2-large", "embed-images-facebook-dinov2-large"),
        ("open_clip:ViT-B-32-quickgelu/openai", "embed-images-ViT-B-32-quickgelu-openai"),
        ("hf:/models/my clip/", "embed-images-my-clip"),
    ],
)
def test_names_that_people_recognise(text: str, name: str) -> None:
    assert stage_name(SimpleNamespace(text=text), "images") == name  # type: ignore[arg-type]
