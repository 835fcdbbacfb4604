"""The stage vqascore with a generator of known probabilities: what is asked, kept, left out and counted."""

import asyncio
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from PIL import Image

from engine.decoding import Look
from engine.errors import RecipeError
from engine.generation.first_word import ONE_TOKEN
from engine.generation.prompts import load_prompt
from engine.generation.protocol import Picture, Request, Response
from engine.recipe import Recipe, VQAScore
from engine.schema import VQASCORE
from engine.stages import Tally, build_stages
from engine.stages.vqascore import EMPTY, NO_PROBABILITY, VQAScoreStage
from tests.stages.answers import Answers

PROMPT = load_prompt("vqascore", None, ("caption",), image=True)


class Sure(Answers):
    """Answers with a probability, or with an error."""

    def __init__(self, of: Callable[[str], Response]) -> None:
        super().__init__(str)
        self.of = of

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        self.asked += requests
        return [self.of(request.values["caption"]) for request in requests]


def by_length(caption: str) -> Response:
    if caption == "bad":
        return Response(error="prompt longer than max_model_len")
    if caption in ("nan", "none"):
        return Response("Yes", probability=math.nan if caption == "nan" else None)
    return Response("No", 9, 1, probability=len(caption) / 8)


def run(rows: list[dict[str, Any]], of: Any = "original") -> tuple[pa.Table, Tally, Sure]:
    stage = VQAScoreStage(VQAScore(generator="g"), PROMPT, of, Look(10**8, at_most=64), "f")
    tally, generator = Tally(), Sure(by_length)
    rows = [{"id": str(number), "key": str(number), **row} for number, row in enumerate(rows)]
    pictures = [Picture(row["id"], Image.new("RGB", (8, 8))) for row in rows]
    made = asyncio.run(stage.run(rows, pictures, generator, tally))
    named = [{"id": row["id"], "key": row["key"], **one} for row, one in zip(rows, made, strict=True)]
    return pa.Table.from_pylist(named, schema=VQASCORE), tally, generator


def test_each_caption_is_asked_about_by_itself() -> None:
    table, tally, generator = run([{"captions": ["a", 'say "b"']}, {"captions": ["abcd"]}])
    assert table["scores"].to_pylist() == [[0.125, 0.875], [0.5]]
    assert table["error"].null_count == 2
    first = generator.asked[1]
    picture, question = first.content
    assert isinstance(picture, Picture) and picture.id == "0"
    assert question == 'Does this figure show "say "b""? Please answer yes or no.'
    assert first.system is None and first.probability_of == "Yes" and first.sampling == ONE_TOKEN
    assert len({request.seed for request in generator.asked}) == 3
    assert (tally.requests, tally.output_tokens, tally.counts) == (3, 3, {"scores": 3})


def test_captions_keep_their_places() -> None:
    rows = [{"captions": ["ab", " ", "bad", "abc"]}, {"captions": []}, {"captions": ["", "\n"]}]
    table, tally, _ = run(rows)
    assert table["scores"].to_pylist() == [[0.25, None, None, 0.375], [], [None, None]]
    assert table["error"].null_count == 3
    assert tally.flags == {EMPTY: 3, "prompt longer than max_model_len": 1}


def test_an_image_with_no_score_at_all_has_failed() -> None:
    table, tally, _ = run([{"captions": ["nan", "bad", "none", ""]}, {"captions": ["a"]}])
    assert table["scores"].to_pylist() == [None, [0.125]]
    assert table["error"].to_pylist() == [NO_PROBABILITY, None]
    assert tally.flags == {NO_PROBABILITY: 2, "prompt longer than max_model_len": 1, EMPTY: 1}
    assert run([])[0].num_rows == 0


def test_mined_captions() -> None:
    rows = [{"creative_captions": [{"caption": "abc"}, {"caption": None}]}, {"creative_captions": None}]
    table, _, _ = run(rows, "mined")
    assert table["scores"].to_pylist() == [[0.375, None], []]


def recipe(**sections: Any) -> Recipe:
    base = {"images": {"source": "folder", "uri": "/d"}, "generators": {"g": {"backend": "scripted"}}}
    mining = {name: {"generator": "g"} for name in ("describe", "associate", "caption")}
    asking = {"vqascore": {"generator": "g", "captions": ["original", "mined"]}}
    return Recipe.model_validate({**base, **mining, **asking, **sections})


def test_what_decides_the_scores(tmp_path: Path) -> None:
    def prints(**sections: Any) -> dict[str, str]:
        return {stage.name: stage.fingerprint for stage in build_stages(recipe(**sections))}

    def changed(**sections: Any) -> list[str]:
        return [name for name, made in prints(**sections).items() if made != before[name]]

    before = prints()
    assert list(before)[3:] == ["vqascore-original", "vqascore-mined"]
    assert prints(vqascore=None) == {name: before[name] for name in ("describe", "associate", "caption")}
    both = ["vqascore-original", "vqascore-mined"]
    assert changed(caption={"generator": "g", "draw": 2}) == ["caption", "vqascore-mined"]
    asked = {"generator": "g", "captions": ["mined", "original"]}
    assert changed(vqascore=asked) == []
    assert changed(vqascore={**asked, "answer": "yes"}) == []
    assert sorted(changed(vqascore={**asked, "answer": "Oui"})) == sorted(both)
    (tmp_path / "p.txt").write_text("--- user ---\n$image\n$caption?")
    assert sorted(changed(vqascore={**asked, "prompt": str(tmp_path / "p.txt")})) == sorted(both)
    assert "vqascore-original" not in changed(run={"seed": 7}), "no answer is drawn"


def test_a_prompt_asks_about_the_caption(tmp_path: Path) -> None:
    (tmp_path / "p.txt").write_text("--- user ---\n$image\nIs it good?")
    asked = {"generator": "g", "prompt": str(tmp_path / "p.txt")}
    with pytest.raises(RecipeError, match=r"p\.txt: needs \$caption"):
        build_stages(recipe(vqascore=asked))


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"vqascore": {"generator": "h"}}, r"vqascore.generator: 'h' is not under generators \(g\)"),
        ({"caption": None}, "vqascore.captions: mined captions need the section caption"),
        ({"vqascore": {"generator": "g", "captions": []}}, "each once"),
        ({"vqascore": {"generator": "g", "captions": ["mined", "mined"]}}, "each once"),
        ({"vqascore": {"generator": "g", "captions": ["metaphor"]}}, "original"),
        ({"vqascore": {"generator": "g", "answer": "oh yes"}}, "'oh yes' is not one word"),
        ({"vqascore": {"generator": "g", "answer": ""}}, "is not one word"),
        ({"vqascore": {"generator": "g", "sampling": {}}}, "sampling"),
    ],
)
def test_settings_that_are_refused(sections: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**sections)


def test_a_bare_yes_of_yaml_is_a_word() -> None:
    assert [VQAScore.model_validate({"generator": "g", "answer": each}).answer for each in (True, False)] == [
        "Yes",
        "No",
    ]
