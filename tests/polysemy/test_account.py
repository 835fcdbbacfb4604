"""Who counts in a measurement and who does not, and how it is told."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from engine.embeddings import CaptionVectors, ImageVectors
from engine.errors import RecipeError
from engine.polysemy.account import Gaps, Queries, account, check_captions, left_out, notes
from engine.polysemy.radius import Curve
from engine.recipe import Polysemy

SETTINGS = Polysemy(image_encoder="looker", text_encoder="reader", queries=10, radii=(0, 1))


def images(*errors: str | None) -> ImageVectors:
    count, good = len(errors), np.array([error is None for error in errors])
    names = [f"{n:016x}" for n in range(count)]
    vectors = np.where(good[:, None], 1.0, 0.0)
    return ImageVectors(np.arange(count, dtype=np.uint64), names, names, good, vectors, list(errors))


def captions(counts: list[int], kept: int) -> CaptionVectors:
    # Only the counts and the rows are asked for.
    nothing = np.zeros(len(counts) + 1, np.int64)
    return CaptionVectors(np.array(counts), nothing, nothing, np.ones((kept, 1)))


def curve(*known: bool) -> Curve:
    column = np.where(known, 1.0, np.nan)[:, None]
    distances = np.concatenate([np.full_like(column, np.nan), column], axis=1)
    return Curve(np.array([0.0, 1.0]), distances, distances, distances, distances)


def test_each_image_is_excluded_for_one_reason() -> None:
    looks = images(None, "broken", "broken", None)
    seen = images(None, "broken", None, "zero")
    gaps = Gaps.of(looks, seen, captions([2, 0, 3, 1], 4), ("looker", "reader"))
    assert (gaps.images, gaps.captions) == (1, 2)
    assert gaps.excluded == {"looker: broken": 2, "reader: zero": 1}
    twice = Gaps.joined([gaps, gaps, Gaps()])
    assert twice == Gaps(2, Counter({"looker: broken": 4, "reader: zero": 2}), 4)
    assert Gaps.joined([]) == Gaps()


def test_what_result_json_says() -> None:
    gaps = {
        "original": Gaps(6, Counter({"reader: zero": 4}), 0),
        "mined": Gaps(6, Counter({"reader: zero": 4}), 7),
    }
    about = account(Queries(10, 9, 6), 9, gaps, SETTINGS)
    assert about == {
        "queries": 10,
        "measured": 6,
        "unmeasured": {"no place on the map": 1, "no vector of 'reader'": 3},
        "others": 9,
        "images": 6,
        "excluded": {"reader: zero": 4},
        "captions_excluded": {"mined": 7},
    }
    assert notes(about, [0, 9]) == [
        "6 of 10 queries are measured: 1 x no place on the map, 3 x no vector of 'reader'"
    ]
    assert left_out(about) == [
        "4 images lack a vector, and are no queries: 4 x reader: zero",
        "7 mined captions are empty or have no direction, and are left out",
    ]


def test_nothing_is_said_where_nothing_is_left_out() -> None:
    about = account(Queries(10, 10, 10), 9, {"original": Gaps(10)}, SETTINGS)
    assert notes(about, [0, 1, 9]) == [] and left_out(about) == []
    assert about["unmeasured"] == about["excluded"] == about["captions_excluded"] == {}
    assert notes({"queries": 5, "radius": "map"}, [0, 100]) == [], "as older ones are"


@pytest.mark.parametrize(
    ("radii", "line"),
    [
        ([0, 9, 100], "radius 100 reaches beyond the run's 9 other images: it holds all of them"),
        ([9, 10, 25], "radii 10 and 25 reach beyond the run's 9 other images: they hold all of them"),
        ([25, 50, 100], "radii 25, 50 and 100 reach beyond the run's 9 other images: they hold all of them"),
    ],
)
def test_radii_beyond_the_images_there_are(radii: list[float], line: str) -> None:
    assert notes({"others": 9}, radii) == [line]
    assert notes({"others": None}, radii) == [], "on the map"
    assert notes({"others": 100}, radii) == []


@pytest.mark.parametrize(
    ("queries", "message"),
    [
        (Queries(10, 10, 1), r"1 of 10 queries .* 2 are needed: 9 x no vector of 'reader'; draw more"),
        (Queries(10, 10, 0), r"0 of 10 queries .*: 10 x no vector of 'reader'; "),
        (Queries(10, 1), r"1 of 10 queries .*: 9 x no place on the map; "),
        (Queries(1, 1), r"1 of 1 queries .*: only 1 images have a vector of 'looker'; "),
    ],
)
def test_too_few_queries_are_refused(queries: Queries, message: str) -> None:
    with pytest.raises(RecipeError, match=rf"^polysemy: {message}"):
        queries.check(SETTINGS)


def test_one_query_is_too_few_though_all_images_are_good() -> None:
    with pytest.raises(RecipeError, match=r"1 of 1 queries can be measured, and 2 are needed; draw more"):
        Queries(1, 1, 1).check(SETTINGS.model_copy(update={"queries": 1}))
    Queries(2, 2).check(SETTINGS)
    Queries(10, 10, 2).check(SETTINGS)


def test_captions_around_too_few_queries_are_refused() -> None:
    check_captions(curve(True, True, False), Gaps(), "mined", SETTINGS)
    with pytest.raises(RecipeError, match=r"^polysemy\.texts: 1 of 3 queries have mined .*; 5 of the run's"):
        check_captions(curve(False, True, False), Gaps(captions=5), "mined", SETTINGS)
