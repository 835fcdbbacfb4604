"""`pcme` against its formulas (METHODS B12), in loops and float64."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor

from engine.training import sets
from engine.training.method import Outputs, Targets
from engine.training.methods import matching
from engine.training.methods.pcme import Pcme, divergence
from tests.training import naive
from tests.training.batches import Largest, same, targets, unit_vectors, vectors
from tests.training.methods.test_pvse import pooled
from tests.training.tiny import load, pixels, settings, write_clip

OWNERS, WEIGHTS = [7, 3, 9, 7, 1], [1.0, 0.5, 2.0, 1.5, 0.25]
#: a and b at which no probability is nearly 0 or 1.
SCALE, SHIFT = torch.tensor(0.7, dtype=torch.float64), torch.tensor(1.1, dtype=torch.float64)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture
def method(clip: str) -> Pcme:
    torch.manual_seed(2)
    made = Pcme(load(clip), settings(clip, "pcme", adapter={"samples": 3}))
    assert (made.scale.item(), made.shift.item()) == (15.0, 15.0)
    return made.double()


def side(count: int, seed: int) -> Outputs:
    return {
        "mean": unit_vectors(count, 4, seed=seed),
        "log_sigma": 0.5 * vectors(count, 4, seed=seed + 50) - 1,
    }


def noise(seed: int, *shape: int) -> tuple[Tensor, Tensor]:
    """Of images and of captions."""
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random).double(), torch.randn(shape, generator=random).double()


def test_the_head(method: Pcme) -> None:
    head, pixel = method.image_head, pixels(2).double()
    with torch.no_grad():
        for value in head.parameters():
            value.add_(0.1 * torch.randn_like(value))
    seen, made = method.backbone.see(pixel), method.image_side(pixel, torch.zeros(2))
    vectors_, _ = head.polysemous(seen)
    torch.testing.assert_close(made["mean"].double(), torch.nn.functional.normalize(vectors_[:, 0], dim=1))
    for i in range(2):
        (mean,) = pooled(head.pool, seen.tokens[i])
        first = head.of_tokens.weight @ mean + head.of_tokens.bias
        second = head.of_global.weight @ seen.pooled[i] + head.of_global.bias
        torch.testing.assert_close(made["log_sigma"][i], first + second)


def test_at_first_samples_lie_near_their_means(clip: str) -> None:
    made = Pcme(load(clip), settings(clip, "pcme"))
    images = made.image_side(pixels(5), torch.zeros(5))
    texts = made.text_side(made.backbone.tokenize(["a", "b c", "d e f"]))
    for said in (images, texts):
        assert 16**0.5 * said["log_sigma"].exp().numpy(force=True) == pytest.approx(0.1)
    # Where samples are the means, a similarity orders as cosines do.
    images["log_sigma"], texts["log_sigma"] = images["log_sigma"] - 20, texts["log_sigma"] - 20
    cosines = images["mean"] @ texts["mean"].T
    assert torch.equal(made.similarity(images, texts).argsort(), cosines.argsort())


@pytest.mark.parametrize("owners", [OWNERS, [0, 1, 2, 3, 4], [2, 2, 2, 2, 2]])
def test_soft_contrastive_loss(owners: list[int]) -> None:
    told = targets(owners, WEIGHTS)

    def loss(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return matching.soft_contrastive(x, y, a, b, told, slice(0, 5))

    def formula(x: Tensor, y: Tensor, a: Tensor, b: Tensor) -> Tensor:
        return naive.soft_contrastive(x, y, a, b, told)

    same(loss, formula, vectors(5, 3, 4), vectors(5, 3, 4, seed=1), SCALE, SHIFT)


def test_it_is_the_published_sum_in_a_batch_of_128() -> None:
    x, y = vectors(128, 2, 3), vectors(128, 2, 3, seed=1)
    odds = matching.match_odds(x, y, SCALE, SHIFT)
    match = (odds.sigmoid().mean(dim=(1, 3))).log()
    other = ((-odds).sigmoid().mean(dim=(1, 3))).log()
    own = torch.eye(128, dtype=torch.bool)
    published = -2 * torch.where(own, match, other).sum()  # both ways are the same
    whole = matching.soft_contrastive(x, y, SCALE, SHIFT, targets(list(range(128))), slice(0, 128))
    torch.testing.assert_close(whole, published / 128)


def test_the_divergence() -> None:
    x, log_sigma = vectors(4, 3, 5), vectors(4, 5, seed=1)

    def formula(x: Tensor, log_sigma: Tensor) -> Tensor:
        return torch.stack([naive.divergence(z, s) for z, s in zip(x, log_sigma, strict=True)])

    same(divergence, formula, x, log_sigma)
    assert divergence(torch.zeros(1, 3, 5), torch.zeros(1, 5)) == 0


def test_the_loss(method: Pcme, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("engine.training.methods.pcme.DIVERGENCE", 0.1)  # so that it shows
    told = targets(OWNERS, WEIGHTS, seed=11)
    image_noise, text_noise = noise(11, 5, 3, 4)
    with torch.no_grad():
        method.scale.copy_(SCALE)
        method.shift.copy_(SHIFT)

    def loss(mean: Tensor, sigma: Tensor, other: Tensor, sigmas: Tensor) -> Tensor:
        images, texts = {"mean": mean, "log_sigma": sigma}, {"mean": other, "log_sigma": sigmas}
        return method.loss(images, texts, told, slice(0, 5))

    def formula(mean: Tensor, sigma: Tensor, other: Tensor, sigmas: Tensor) -> Tensor:
        x = torch.stack([m + s.exp() * n for m, s, n in zip(mean, sigma, image_noise, strict=True)])
        y = torch.stack([m + s.exp() * n for m, s, n in zip(other, sigmas, text_noise, strict=True)])
        x, y = x.view(5, 3, 4), y.view(5, 3, 4)
        far = [naive.divergence(x[i], sigma[i]) + naive.divergence(y[i], sigmas[i]) for i in range(5)]
        return naive.soft_contrastive(x, y, SCALE, SHIFT, told) + 0.1 * naive.weighted(far, told)

    def broadcast(mean: Tensor, sigma: Tensor, other: Tensor, sigmas: Tensor) -> Tensor:
        return formula(mean[:, None], sigma, other[:, None], sigmas)

    images, texts = side(5, 0), side(5, 1)
    same(loss, broadcast, *images.values(), *texts.values())


def test_the_seed_decides_what_is_drawn(method: Pcme) -> None:
    images, texts = side(5, 0), side(5, 1)
    torch.manual_seed(0)
    first, again, another, huge = (
        method.loss(images, texts, targets(OWNERS, seed=seed), slice(0, 5)) for seed in (1, 1, 2, 2**64 - 1)
    )
    assert first == again and first != another and huge.isfinite()
    state = torch.random.get_rng_state()
    method.loss(images, texts, targets(OWNERS, seed=1), slice(0, 5))
    assert torch.equal(torch.random.get_rng_state(), state), "other random numbers are left alone"


def test_the_similarity_orders_as_the_probability_to_match(method: Pcme) -> None:
    with torch.no_grad():
        method.scale.copy_(SCALE)
        method.shift.copy_(SHIFT)
    images, texts = side(5, 0), side(4, 1)
    image_noise, text_noise = noise(0, 3, 4)
    x, y = (
        each["mean"][:, None] + each["log_sigma"].exp()[:, None] * drawn
        for each, drawn in ((images, image_noise), (texts, text_noise))
    )
    found = method.similarity(images, texts)
    expected = naive.matrix(partial(naive.match, a=SCALE, b=SHIFT, m=1), x, y)
    torch.testing.assert_close(found.sigmoid(), expected)


def test_the_similarity_does_not_depend_on_what_lies_beside(method: Pcme) -> None:
    images, texts = side(5, 0), side(4, 1)
    whole = method.similarity(images, texts)
    some = method.similarity(
        {key: value[[3, 1]] for key, value in images.items()},
        {key: value[2:] for key, value in texts.items()},
    )
    torch.testing.assert_close(some, whole[[3, 1], 2:])
    assert torch.equal(method.similarity(images, texts), whole)


def test_what_hardly_matches_is_still_told_apart(method: Pcme) -> None:
    """Where the probabilities are 0, or 1, in float32."""
    method.float()
    mean = unit_vectors(1, 4, dtype=torch.float32)
    sigma = torch.full((1, 4), -20.0)
    steps = torch.tensor([[1.0], [1.01], [20.0], [21.0]])
    found = method.similarity(
        {"mean": mean, "log_sigma": sigma}, {"mean": steps * mean, "log_sigma": sigma.expand(4, 4)}
    )[0]
    assert found.sigmoid()[0] == found.sigmoid()[1] == 1 and found.sigmoid()[2] == found.sigmoid()[3] == 0
    assert found.isfinite().all() and (found.diff() < -0.1).all()


def test_extreme_distances_have_finite_gradients(method: Pcme) -> None:
    method.float()
    for factor in (0.0, 1e-4, 50.0):
        images, texts = (
            {
                "mean": (factor * unit_vectors(5, 4, dtype=torch.float32)).requires_grad_(),
                "log_sigma": torch.full((5, 4), -30.0, requires_grad=True),
            }
            for _ in range(2)
        )
        loss = method.loss(images, texts, targets(OWNERS), slice(0, 5))
        inputs = [*images.values(), *texts.values(), method.scale, method.shift]
        assert loss.isfinite()
        assert all(gradient.isfinite().all() for gradient in torch.autograd.grad(loss, inputs))


def test_no_block_holds_more_scores_than_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sets, "SCORES", 30_000)
    x, y = (vectors(64, 7, 4, seed=seed, dtype=torch.float32).requires_grad_() for seed in (0, 1))
    told = Targets(torch.arange(64), torch.full((64,), -1), torch.ones(64), 0)
    a, b = torch.tensor(15.0, requires_grad=True), torch.tensor(15.0, requires_grad=True)
    with Largest() as held:
        matching.soft_contrastive(x, y, a, b, told, slice(0, 64)).backward()
    # Without blocks it would be 200,704; the batch itself has 1,792.
    assert 10_000 <= held.elements <= 30_000


def test_a_batch_of_1024_is_cut_small_enough() -> None:
    """7 samples: a row has 50,176 scores; of a block a dozen copies are alive at most."""
    blocks = list(sets.row_blocks(slice(0, 1024), 7 * 7 * 1024))
    assert sum(cut.stop - cut.start for cut in blocks) == 1024
    assert max(cut.stop - cut.start for cut in blocks) * 7 * 7 * 1024 * 4 * 12 < 2**28
