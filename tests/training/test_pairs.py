from __future__ import annotations

from collections import Counter
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import RecipeError, StorageError
from engine.export.mined import MinedSample, SampleReader, open_run
from engine.recipe.finetune import Finetune
from engine.recipe.finetune_parts import TrainingData
from engine.schema import LEVELS
from engine.storage import Location, digest_of, locate
from engine.training.captions import AGAIN
from engine.training.pairs import PAIRS, Collected, Pairs, collect, join, pairs_of
from tests.export.runs import Made, make_run, many, picture

BOTH = TrainingData(captions=("original", "mined"))
Item = dict[str, Any]


def item(level: str, caption: str | None, element: str = "dog", flag: str | None = None) -> Item:
    return {"element": element, "level": level, "association": "x", "caption": caption, "flag": flag}


def sample(
    number: int, mined: list[Item] | None = None, captions: tuple[str, ...] = (), **more: Any
) -> MinedSample:
    given = {"id": digest_of(str(number)), "key": f"k{number}", "uri": "u", "offset": 0, "size": 1}
    given |= {"captions": list(captions), "extra": None, "error": None, "creative_captions": mined}
    stages = dict.fromkeys(("describe", "associate", "caption"))
    return MinedSample(**{**given, "errors": stages, **more})


def five(number: int) -> MinedSample:
    return sample(number, [item(level, f"{level} of {number}") for level in LEVELS], (f"original {number}",))


def finetune(batch: int = 2, order: str = "shuffled", **data: Any) -> Finetune:
    given = {"captions": ("mined",), "validation": 0, **data}
    return Finetune.model_validate(
        {"model": "open_clip:ViT-B-32/x", "batch": batch, "order": order, "data": given}
    )


def chosen(one: MinedSample, data: TrainingData) -> list[tuple[str, int]]:
    table = pairs_of([one], data, "a.parquet", 7).table
    return list(zip(table["caption"].to_pylist(), table["level"].to_pylist(), strict=True))


def counts(one: MinedSample, data: TrainingData) -> dict[str, int]:
    return dict(pairs_of([one], data, "a.parquet", 7).left_out)


def test_a_row_per_caption_with_where_its_image_lies() -> None:
    data = TrainingData(captions=("original", "mined"), weights={"original": 0.5, "metaphor": 2})
    found = pairs_of([five(1), sample(2, [], ("  one ", "two"))], data, "a.parquet", 7)
    assert found.table.schema.equals(PAIRS) and not found.left_out
    assert found.table["id"].to_pylist() == [digest_of("1")] * 6 + [digest_of("2")] * 2
    assert found.table["key"].to_pylist() == ["k1"] * 6 + ["k2"] * 2
    assert found.table["row"].to_pylist() == [7] * 6 + [8] * 2
    assert set(found.table["catalog"].to_pylist()) == {"a.parquet"}
    assert found.table["level"].to_pylist() == [-1, 0, 1, 2, 3, 4, -1, -1]
    assert found.table["weight"].to_pylist() == [0.5, 1, 1, 1, 1, 2, 0.5, 0.5]
    assert found.table["caption"].to_pylist()[-2:] == ["one", "two"]


def test_settings_choose_captions_levels_and_elements() -> None:
    assert chosen(five(1), TrainingData(captions=("original",))) == [("original 1", -1)]
    assert [level for _, level in chosen(five(1), TrainingData())] == [0, 1, 2, 3, 4]
    some = TrainingData(levels=("metaphor", "broader"))
    assert chosen(five(1), some) == [("broader of 1", 1), ("metaphor of 1", 4)]
    assert counts(five(1), some) == {"of a level that finetune.data.levels does not name": 3}
    elements = [item("synonym", f"a {name}", name) for name in ("dog", "park", "ball")]
    elements += [item("concept", "the dog again", "dog")]
    assert chosen(sample(1, elements), TrainingData(elements=2)) == [
        ("a dog", 0),
        ("a park", 0),
        ("the dog again", 3),
    ]
    assert counts(sample(1, elements), TrainingData(elements=2)) == {
        "of an element beyond finetune.data.elements": 1
    }


def test_flagged_empty_and_repeated_captions() -> None:
    mined = [
        item("synonym", "a hound"),
        item("broader", "far too long", flag="too long"),
        item("context", None, flag="refused"),
        item("concept", " a hound\n"),
        item("metaphor", "  "),
    ]
    one = sample(1, mined, ("a hound", ""))
    assert chosen(one, TrainingData()) == [("a hound", 0)]
    assert counts(one, TrainingData()) == {"flagged: too long": 1, "empty caption": 2, AGAIN: 1}
    assert chosen(one, TrainingData(flagged=True)) == [("a hound", 0), ("far too long", 1)]
    # What came with the image is before what was mined.
    assert chosen(one, BOTH) == [("a hound", -1)]
    assert counts(one, BOTH)[AGAIN] == 2


def test_samples_without_image_or_mined_captions() -> None:
    for broken, reason in (
        (sample(1, None, ("text",), error="zero bytes", offset=None), "catalog: zero bytes"),
        (sample(1, None, ("text",), offset=None), "catalog: no image"),
    ):
        assert chosen(broken, BOTH) == [] and counts(broken, BOTH) == {reason: 1}
    errors = {"describe": None, "associate": "skipped: describe failed", "caption": "x"}
    failed = sample(1, None, ("text",), errors=errors)
    assert chosen(failed, BOTH) == [("text", -1)]
    assert counts(failed, BOTH) == {"associate: skipped: describe failed": 1}
    assert counts(sample(1, None, ("text",), errors={}), BOTH) == {"describe: not in the recipe": 1}
    assert counts(failed, TrainingData(captions=("original",))) == {}


def parts_of(samples: list[MinedSample], cuts: list[int]) -> list[Collected]:
    bounds = [0, *sorted(cuts), len(samples)]
    pieces = [(start, samples[start:end]) for start, end in pairwise(bounds)]
    return [collect([("a.parquet", start, some)], BOTH) for start, some in pieces]


def same(one: Pairs, other: Pairs) -> bool:
    arrays = ("image", "level", "weight", "held_out")
    return (
        all(np.array_equal(getattr(one, name), getattr(other, name)) for name in arrays)
        and one.captions.to_pylist() == other.captions.to_pylist()
        and one.images.to_pylist() == other.images.to_pylist()
        and dict(one.left_out) == dict(other.left_out)
    )


@given(st.lists(st.integers(0, 20), max_size=4), st.randoms())
@settings(max_examples=20)
def test_pairs_do_not_depend_on_how_a_run_is_cut_and_in_which_order_parts_come(
    cuts: list[int], random: Any
) -> None:
    samples = [five(n) for n in range(18)] + [sample(20, None, offset=None), sample(21, [], ("b", "a", "b"))]
    setting = finetune(captions=("original", "mined"), validation=0.3)
    parts = parts_of(samples, cuts)
    random.shuffle(parts)
    pairs = join(parts, setting, 5)
    assert same(pairs, join(parts_of(samples, []), setting, 5))
    ids = pairs.images["id"].to_pylist()
    assert ids == sorted(ids) and len(ids) == 19
    for number, one in enumerate(ids):
        (original,) = [each for each in samples if each.id == one]
        mine = pairs.captions.filter(pa.array(pairs.image == number)).to_pylist()
        assert mine == [text for text, _ in chosen(original, BOTH)]
        assert pairs.images["row"][number].as_py() == samples.index(original)


def test_ids_in_two_rows_are_one_image() -> None:
    first, other = sample(1, None, ("a", "b")), sample(1, None, ("b", "c", "a"), key="other")
    between = sample(2, None, ("a", "d", "e"))
    found = [
        collect([("b.parquet", 0, [other, between])], BOTH),
        collect([("a.parquet", 3, [first])], BOTH),
    ]
    setting = finetune(captions=("original",))
    for order in (found, found[::-1]):
        pairs = join(order, setting, 0)
        by_image = {
            pairs.images["key"][n].as_py(): pairs.captions.filter(pa.array(pairs.image == n)).to_pylist()
            for n in range(2)
        }
        assert by_image == {"k1": ["a", "b", "c"], "k2": ["a", "d", "e"]}
        assert {row["key"]: (row["catalog"], row["row"]) for row in pairs.images.to_pylist()} == {
            "k1": ("a.parquet", 3),
            "k2": ("b.parquet", 1),
        }
        assert pairs.left_out[AGAIN] == 2


def test_held_out_are_images_by_id_and_seed() -> None:
    samples = [five(number) for number in range(400)]

    def held(some: list[MinedSample], seed: int, share: float) -> set[str]:
        pairs = join([collect([("a", 0, some)], BOTH)], finetune(validation=share), seed)
        ids = set(pairs.images["id"].filter(pa.array(pairs.held_out)).to_pylist())
        # All captions of an image are on one side.
        training = set(pairs.image[pairs.training()].tolist())
        validation = set(pairs.image[pairs.validation(10**6)].tolist())
        assert not training & validation and len(training) + len(validation) == len(some)
        assert len(pairs.training()) + len(pairs.validation(10**6)) == len(pairs.captions)
        assert validation == set(np.flatnonzero(pairs.held_out).tolist())
        return ids

    some = held(samples, 1, 0.2)
    assert 50 < len(some) < 110
    assert held(samples[::-1], 1, 0.2) == some
    assert held(samples, 1, 0.1) < some
    assert held(samples[:200], 1, 0.2) == some & {one.id for one in samples[:200]}
    assert held(samples, 2, 0.2) != some
    assert held(samples, 1, 0) == set()


def test_validation_takes_at_most_so_many_images() -> None:
    pairs = join([collect([("a", 0, [five(n) for n in range(60)])], BOTH)], finetune(validation=0.5), 1)
    few, more = pairs.validation(3), pairs.validation(9)
    assert len(np.unique(pairs.image[few])) == 3 and len(few) == 18
    assert set(few.tolist()) < set(more.tolist())


def test_a_file_holds_all_of_it(tmp_path: Path) -> None:
    place = locate(tmp_path / "pairs.parquet")
    samples = [*(five(number) for number in range(9)), sample(99, None, offset=None)]
    setting = finetune(captions=("original", "mined"), validation=0.4, weights={"concept": 0.25})
    pairs = join([collect([("ü.parquet", 2, samples)], setting.data)], setting, 1)
    pairs.write(place)
    found = Pairs.read(place)
    assert same(found, pairs) and found.left_out == {"catalog: no image": 1}
    for name in ("image", "level", "weight", "held_out"):
        assert getattr(found, name).dtype == getattr(pairs, name).dtype
    assert found.captions.take([3, 1]).to_pylist() == [pairs.captions[3].as_py(), pairs.captions[1].as_py()]
    assert found.told() == pairs.told()
    # One row per image, as other tools open it.
    rows = place.read_table().to_pylist()
    assert len(rows) == 9 and len(rows[0]["captions"]) == 6
    once = place.read_bytes()
    found.write(place)
    assert place.read_bytes() == once


@pytest.mark.parametrize("data", [b"", b"PAR1 no table PAR1"])
def test_another_file_is_no_file_of_pairs(tmp_path: Path, data: bytes) -> None:
    place = locate(tmp_path / "pairs.parquet")
    place.write_bytes(data)
    with pytest.raises(StorageError, match=r"pairs\.parquet"):
        Pairs.read(place)
    place.write_table(pa.table({"id": ["a"]}))
    with pytest.raises(StorageError, match=r"other columns .* put it back"):
        Pairs.read(place)
    with pytest.raises(StorageError, match=r"none\.parquet is gone, .* put it back"):
        Pairs.read(Location(str(tmp_path / "none.parquet")))


def joined(samples: list[MinedSample], **data: Any) -> Pairs:
    setting = finetune(**data)
    return join([collect([("a", 0, samples)], setting.data)], setting, 1)


def test_no_captions_says_which_and_why() -> None:
    undone = [sample(n, None, errors={"describe": None, "associate": "not done yet"}) for n in range(3)]
    with pytest.raises(
        RecipeError, match=r"data\.captions is \[mined\], .*no captions.*3 associate: not done yet"
    ):
        joined(undone)
    with pytest.raises(RecipeError, match=r"data\.captions is \[original\]"):
        joined([five(1), five(2)][:0], captions=("original",))
    with pytest.raises(RecipeError, match=r"flagged: too long"):
        joined([sample(n, [item("synonym", f"{n}", flag="too long")]) for n in range(3)])
    with pytest.raises(RecipeError, match="names original, and no image came with a caption"):
        joined(
            [sample(n, [item(level, f"{level} {n}") for level in LEVELS]) for n in range(3)],
            captions=("original", "mined"),
        )


def test_a_level_that_does_not_occur() -> None:
    some = [sample(n, [item("synonym", f"s {n}"), item("concept", f"c {n}")]) for n in range(4)]
    with pytest.raises(RecipeError, match=r"data\.levels names broader, context, metaphor, and"):
        joined(some)
    assert set(joined(some, levels=("synonym", "concept")).level.tolist()) == {0, 3}


def test_an_empty_split_and_a_batch_larger_than_the_data() -> None:
    samples = [five(number) for number in range(4)]
    with pytest.raises(RecipeError, match=r"validation is 0\.0001, which holds out none of 4 images: raise"):
        joined(samples, validation=0.0001)
    with pytest.raises(RecipeError, match=r"validation is 0\.9999, which holds out all of 4 images: lower"):
        joined(samples, validation=0.9999)
    with pytest.raises(
        RecipeError, match=r"batch is 5, and there are 4 images with captions, .*: lower it to at most 4"
    ):
        joined(samples, batch=5)
    assert len(joined(samples, batch=5, order="balanced").captions) == 20


def test_what_is_told() -> None:
    pairs = joined([*(five(number) for number in range(5)), sample(9, None, offset=None)], batch=3)
    assert pairs.told() == [
        "pairs      25 captions of 5 images to train on, 0 images held out",
        "left out   1 catalog: no image",
    ]
    assert joined([five(number) for number in range(3)], batch=3).told()[1:] == []
    one = replace(pairs, held_out=np.arange(5) == 2, left_out={})
    assert one.told()[0].endswith(", 1 image held out")
    assert one.told()[1].endswith("(of 1 every R@5 is 100 %): raise finetune.data.validation")
    many = pa.table({"id": [str(n) for n in range(40)]})
    assert len(replace(one, images=many, held_out=np.arange(40) < 20, image=np.arange(40)).told()) == 1
    many_reasons = Collected(
        collect([("a", 0, [five(n) for n in range(3)])], BOTH).table,
        Counter({f"reason {number}": number for number in range(1, 9)}),
    )
    told = join([many_reasons], finetune(batch=3), 0).told()[1]
    assert told.startswith("left out   8 reason 8; 7 reason 7; ") and told.endswith("; 3 other reasons")


def test_a_run_as_it_lies_in_its_directory(tmp_path: Path) -> None:
    made = [
        *many(6),
        Made("empty", catalog_error="zero bytes"),
        Made("failed", picture(9), caption_error="no answer"),
        Made("short", picture(10), flags={"concept": "too long"}),
    ]
    mined = open_run(make_run(tmp_path, made))
    reader = SampleReader(mined)
    found = collect(
        [(row["catalog"], row["start"], reader.part(row)) for row in mined.parts()], TrainingData()
    )
    assert len(found.table) == 6 * 5 + 4
    assert found.left_out == {"catalog: zero bytes": 1, "caption: no answer": 1, "flagged: too long": 1}
    pairs = join([found], finetune(), 3)
    catalog = (mined.directory.catalog / "shard-0.parquet").read_table()
    for image in pairs.images.to_pylist():
        assert catalog["id"][image["row"]].as_py() == image["id"]
