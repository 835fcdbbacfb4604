"""Counts of similarities, and their picture."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from engine.evaluation.pictures import auprc_picture, similarities_picture
from engine.evaluation.similarities import BINS, SIMILARITIES, similarity_rows
from engine.maps.densities import Densities, draw_densities
from tests.maps.hostile import HOSTILE


def test_every_pair_is_counted_once() -> None:
    rng = np.random.default_rng(0)
    own, others = rng.normal(0.3, 0.05, 500), rng.normal(0.1, 0.05, 90)
    others[7] = np.nan
    easy = own > 0.3
    table = similarity_rows(own, others, {"easy": easy, "hard": ~easy, "medium": np.zeros(500, np.bool_)})
    assert table.schema.equals(SIMILARITIES)
    counts = dict.fromkeys(("all", "easy", "hard", "others"), 0)
    for row in table.to_pylist():
        counts[row["pairs"]] += row["count"]
    assert counts == {"all": 500, "easy": int(easy.sum()), "hard": int((~easy).sum()), "others": 89}
    some = [row for row in table.to_pylist() if row["pairs"] == "others"]
    assert len(some) == BINS and some[0]["low"] == pytest.approx(min(own.min(), np.nanmin(others)))
    inside = [row for row in some if row["low"] >= 0.1]
    assert sum(row["count"] for row in inside) == (others >= inside[0]["low"]).sum()


def test_equal_similarities_lie_in_one_bin() -> None:
    rows = similarity_rows(np.full(4, 0.5), np.full(2, 0.5), {}).to_pylist()
    full = [row for row in rows if row["count"]]
    assert [row["count"] for row in full] == [4, 2] and full[0]["low"] <= 0.5 <= full[0]["high"]


def test_a_density_is_drawn_in_its_colour() -> None:
    edges = np.linspace(0, 1, 11)
    low, high = np.zeros(10, np.int64), np.zeros(10, np.int64)
    low[1], high[8] = 1000, 3
    data = draw_densities([Densities("a", edges, {"hard": high, "easy": low})], "Similarity")
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    green = np.argwhere((abs(pixels - (0x63, 0xA3, 0x5C)) < 8).all(axis=2))
    red = np.argwhere((abs(pixels - (0xB5, 0x47, 0x3C)) < 8).all(axis=2))
    # Of equal area, so of equal height, however few they are; the rare kind to the right.
    assert abs(green[:, 0].min() - red[:, 0].min()) < 10
    top = pixels.shape[0] // 2
    assert green[green[:, 0] < top, 1].max() < red[red[:, 0] < top, 1].min()


def test_any_names_and_the_same_bytes() -> None:
    table = similarity_rows(np.array([0.2, 0.4]), np.array([0.1]), {"easy": np.array([True, False])})
    some = dict.fromkeys(HOSTILE, table)
    assert similarities_picture(HOSTILE[0], some) == similarities_picture(HOSTILE[0], some)
    row = {"model": HOSTILE[1], "way": "pairs", "category": HOSTILE[2], "figure": "AUPRC"}
    drawn = auprc_picture(HOSTILE[0], [{**row, "value": 0.5, "low": None, "high": 0.6}])
    assert drawn is not None and drawn.startswith(b"\x89PNG")
    assert auprc_picture("a", [{**row, "way": "image_to_text"}]) is None


def test_what_cannot_be_drawn() -> None:
    with pytest.raises(ValueError, match="nothing to draw"):
        draw_densities([], "a")
    with pytest.raises(ValueError, match="edges"):
        Densities("a", np.arange(3.0), {"all": np.zeros(3, np.int64)})
