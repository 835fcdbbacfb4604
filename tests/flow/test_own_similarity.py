"""Models that compare sets and samples, evaluated as users do it, against whole matrices and sorting."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score

from engine.evaluation.negatives import draw_others
from engine.flow import ranks
from engine.retrieval.figures import WAYS
from engine.retrieval.ranks import Matches
from engine.storage import locate
from engine.training.methods.pcme import Pcme
from engine.training.result import load_method
from tests.command import connote, finish
from tests.flow.seers import PART_ROWS, SAMPLES, write_pictures
from tests.retrieval.test_ranks import sorted_ranks
from tests.training.tiny import CPU, write_clip, write_model

pytestmark = [pytest.mark.ray, pytest.mark.usefixtures("on_ray")]

Floats = NDArray[np.float64]
KINDS = ("pvse", "dive", "pcme", "pcme@dot_product")


@pytest.fixture(scope="module")
def whole(on_ray: None, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, dict[str, str]]:
    """A run that is evaluated, its recipe, and the models by what they are called here."""
    root = tmp_path_factory.mktemp("own")
    clip = write_clip(root / "clip")
    made = {kind: write_model(root / kind, clip, kind) for kind in ("pvse", "dive", "pcme")}
    models = {kind: made[kind.partition("@")[0]] + "".join(kind.partition("@")[1:]) for kind in KINDS}
    recipe = {
        "images": {"source": "webdataset", "uri": str(write_pictures(root / "tars"))},
        "run": {"part_rows": PART_ROWS, "max_failed_share": 0.1},
        "embed": {"encoders": list(models.values()), "texts": ["original"], "cpus": 0.5},
        "evaluate": {"models": list(models.values()), "draws": 20, "cpus": 0.5},
    }
    path = root / "recipe.yaml"
    path.write_text(yaml.safe_dump(recipe))
    finish("run", path, "--out", root / "out")
    return root / "out", path, models


def embedded(out: Path, name: str) -> tuple[Floats, Floats, NDArray[np.int64]]:
    """Image vectors, (n, k, d), caption vectors, (m, k, d), and the image of each caption."""
    images, texts, owners = {}, [], []
    for path in sorted(out.glob(f"stages/embed-images-*-{name}-????????????????/part-*.parquet")):
        images |= {row["key"]: row["vector"] for row in pq.read_table(path).to_pylist() if row["vector"]}
    for path in sorted(out.glob(f"stages/embed-original-*-{name}-????????????????/part-*.parquet")):
        for row in pq.read_table(path).to_pylist():
            for vector in row["vectors"] or [] if row["key"] in images else []:
                texts.append(vector)
                owners.append(list(images).index(row["key"]))
    x, y = np.array(list(images.values()), np.float64), np.array(texts, np.float64)
    sets = [each[:, None] if each.ndim == 2 else each for each in (x, y)]
    return sets[0], sets[1], np.array(owners)


def of_pvse(products: Floats, lengths: Floats) -> Floats:
    return products.max(axis=(2, 3))


def of_dive(products: Floats, lengths: Floats) -> Floats:
    e = np.exp(16 * products)
    return (np.log(e.sum(axis=3)).mean(axis=2) + np.log(e.sum(axis=2)).mean(axis=2)) / 32


def of_products(products: Floats, lengths: Floats) -> Floats:
    return products.mean(axis=(2, 3))


def of_pcme(scale: float, shift: float) -> Callable[[Floats, Floats], Floats]:
    def of(products: Floats, lengths: Floats) -> Floats:
        s = shift - scale * np.sqrt(lengths - 2 * products + 1e-6)
        yes, no = (np.mean(1 / (1 + np.exp(-2 * m * s)), axis=(2, 3)) for m in (1, -1))
        return np.log(yes) - np.log(no)

    return of


def scores_of(kind: str, models: dict[str, str], images: Floats, texts: Floats) -> Floats:
    """(n, m) by the formulas of METHODS B12."""
    products = np.einsum("nkd,mjd->nmkj", images, texts)
    one, other = (images**2).sum(axis=2), (texts**2).sum(axis=2)
    formulas = {"pvse": of_pvse, "dive": of_dive, "pcme@dot_product": of_products}
    if kind == "pcme":
        method, _ = load_method(locate(models[kind].partition(":")[2]), CPU)
        assert isinstance(method, Pcme)
        formulas["pcme"] = of_pcme(float(method.scale), float(method.shift))
    return formulas[kind](products, one[:, None, :, None] + other[None, :, None])


@pytest.mark.parametrize("kind", KINDS)
def test_figures_are_those_of_the_whole_matrix(whole: tuple[Path, Path, dict[str, str]], kind: str) -> None:
    out, _, models = whole
    images, texts, owners = embedded(out, kind.replace("@", "-"))
    assert images.shape[1] == texts.shape[1] == {"pcme": 7, "pcme@dot_product": 1}.get(kind, 2)
    assert len(images) == SAMPLES - 1 and len(texts) > SAMPLES
    scores = scores_of(kind, models, images, texts)
    matches = Matches(owners, np.arange(len(owners)))
    of_texts = sorted_ranks(scores, matches)
    of_images = sorted_ranks(scores.T, Matches(matches.texts, matches.images))
    rows = [row for row in pq.read_table(out / "evaluation/figures.parquet").to_pylist()
            if row["model"] == models[kind]]  # fmt: skip
    found = {(row["way"], row["figure"]): row["value"] for row in rows if row["category"] == "all"}
    for k in (1, 5, 10, 20):
        assert found[WAYS[1], f"R@{k}"] == pytest.approx((of_images <= k).mean())
        hits = [(of_texts[owners == owner] <= k).any() for owner in np.unique(owners)]
        assert found[WAYS[0], f"R@{k}"] == pytest.approx(np.mean(hits))
    assert found[WAYS[0], "meanR"] == pytest.approx(of_texts.mean())
    assert found[WAYS[1], "meanR"] == pytest.approx(of_images.mean())
    own = scores[owners, np.arange(len(owners))]
    assert found["pairs", "CLIPScore"] == pytest.approx(own.mean(), rel=1e-5)
    others = scores[np.arange(len(images)), draw_others(owners, len(images), 0)]
    labels = np.repeat([True, False], [len(own), len(others)])
    area = average_precision_score(labels, np.concatenate([own, others]))
    assert found["pairs", "AUPRC"] == pytest.approx(area)


def test_any_slices_give_the_same_figures(
    whole: tuple[Path, Path, dict[str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, recipe, _ = whole
    shutil.copytree(out, tmp_path / "out", ignore=shutil.ignore_patterns("evaluation"))
    monkeypatch.setattr(ranks, "_IMAGES", 6)  # a part a task
    finish("evaluate", recipe, "--out", tmp_path / "out")
    for name in ("figures.parquet", *(path.name for path in out.glob("evaluation/*-similarities.parquet"))):
        one, other = (pq.read_table(root / "evaluation" / name) for root in (out, tmp_path / "out"))
        assert one.equals(other), name


@pytest.mark.parametrize(
    ("section", "settings", "said"),
    [
        (
            "difficulty",
            {"voters": ["{pvse}"]},
            "voters: encoder '{pvse}' gives a caption 2 vectors; name one",
        ),
        (
            "difficulty",
            {"voters": ["{dive}"]},
            "voters: encoder '{dive}' compares by smooth_chamfer; name one",
        ),
        ("polysemy", {"text_encoder": "{pcme}", "image_encoder": "{pcme}"}, "name '{pcme}@mean' instead"),
        ("cluster", {"encoder": "{pcme@dot_product}"}, "compares by dot_product; name one that compares by"),
    ],
)
def test_other_jobs_want_single_vectors_and_cosines(
    whole: tuple[Path, Path, dict[str, str]],
    tmp_path: Path,
    section: str,
    settings: dict[str, Any],
    said: str,
) -> None:
    out, recipe, models = whole

    def named(text: str) -> str:
        for kind, name in models.items():
            text = text.replace(f"{{{kind}}}", name)
        return text

    asked = yaml.safe_load(recipe.read_text())
    del asked["evaluate"]
    asked[section] = yaml.safe_load(named(yaml.safe_dump(settings)))
    other = tmp_path / "recipe.yaml"
    other.write_text(yaml.safe_dump(asked))
    status, text = connote(section, other, "--out", out)
    assert status == 2 and named(said) in " ".join(text.split())
