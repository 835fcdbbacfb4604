"""What `pvse`, `pcme` and `dive` have in common: shares, masks, gradients, precision, weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from engine.errors import RecipeError
from engine.training import sets
from engine.training.backbone import Seen
from engine.training.method import Method, Outputs, Targets
from engine.training.methods import build_method
from tests.training.batches import cuts, targets, vectors
from tests.training.tiny import load, pixels, settings, write_clip

METHODS = ["pvse", "pcme", "dive"]
LEVELS = torch.tensor([-1, 0, 4, 2, 1, 3])
TEXTS = ["a", "b c", "a long line of words here", "d", "e f", ""]
#: Pairs 0 and 3 are of one image, as 2 and 4 are.
OWNERS, WEIGHTS = [7, 3, 9, 7, 9, 1], [1.0, 0.5, 2.0, 1.5, 0.25, 1.0]


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_clip(tmp_path_factory.mktemp("clip"))


def method_of(clip: str, name: str, seed: int = 3, **adapter: int) -> Method:
    torch.manual_seed(seed)
    return build_method(load(clip), settings(clip, name, adapter={"samples": 3, **adapter}))


def sides(method: Method) -> tuple[Outputs, Outputs]:
    return method.image_side(pixels(6), LEVELS), method.text_side(method.backbone.tokenize(TEXTS))


def trained_weights(method: Method) -> dict[str, torch.nn.Parameter]:
    return {name: value for name, value in method.named_parameters() if value.requires_grad}


def disturb(module: torch.nn.Module) -> None:
    """Move all that is trained, so that nothing is zero as it may be at first."""
    with torch.no_grad():
        for value in module.parameters():
            if value.requires_grad:
                value.add_(0.1 * torch.randn_like(value))


def detached(side: Outputs, dtype: torch.dtype = torch.float64) -> Outputs:
    return {name: value.detach().to(dtype).requires_grad_() for name, value in side.items()}


@pytest.mark.parametrize("many", [1, 2, 5])
@pytest.mark.parametrize(
    ("name", "keys"),
    [("pvse", ["set", "residual"]), ("pcme", ["mean", "log_sigma"]), ("dive", ["set", "slots"])],
)
def test_outputs(clip: str, name: str, keys: list[str], many: int) -> None:
    made = method_of(clip, name, embeddings=many)
    images, texts = sides(made)
    shape = (6, 16) if name == "pcme" else (6, many, 16)
    for side in (images, texts):
        assert list(side) == keys
        assert all(value.shape == shape and value.isfinite().all() for value in side.values())
        torch.testing.assert_close(side[keys[0]].norm(dim=-1), torch.ones(shape[:-1]))
    found = made.similarity(images, {key: value[:4] for key, value in texts.items()})
    assert found.shape == (6, 4) and not found.requires_grad
    assert made.loss(images, texts, targets(OWNERS), slice(0, 6)).isfinite()


@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_shares_add_up(clip: str, name: str, many: int) -> None:
    made, told = method_of(clip, name, embeddings=many), targets(OWNERS, WEIGHTS)
    images, texts = (detached(side) for side in sides(made))
    inputs = [*images.values(), *texts.values()]
    whole = made.loss(images, texts, told, slice(0, 6))
    gradients = torch.autograd.grad(whole, inputs, allow_unused=True, materialize_grads=True)
    assert whole.dtype == torch.float64
    for cut in cuts(6):
        shares = [made.loss(images, texts, told, rows) for rows in cut]
        torch.testing.assert_close(sum(shares).double(), whole, rtol=1e-12, atol=1e-12)
        found = torch.autograd.grad(sum(shares), inputs, allow_unused=True, materialize_grads=True)
        for one, other in zip(found, gradients, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("name", METHODS)
def test_blocks_change_nothing(clip: str, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    made, told = method_of(clip, name), targets(OWNERS, WEIGHTS)
    images, texts = (detached(side) for side in sides(made))
    found = []
    for scores in (sets.SCORES, 1, 150):
        monkeypatch.setattr(sets, "SCORES", scores)
        loss = made.loss(images, texts, told, slice(0, 6))
        own = [value for value in made.parameters() if value.requires_grad]
        inputs = [*images.values(), *texts.values(), *own]
        gradients = torch.autograd.grad(loss, inputs, allow_unused=True, materialize_grads=True)
        found.append([loss, made.similarity(images, texts), *gradients])
    for others in found[1:]:
        for one, other in zip(found[0], others, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", METHODS)
def test_tokens_beyond_a_caption_s_end_do_not_matter(clip: str, name: str) -> None:
    head = method_of(clip, name).text_head
    disturb(head)
    valid = torch.arange(5) < torch.tensor([1, 3, 5])[:, None]
    pooled, tokens = vectors(3, 16, dtype=torch.float32), vectors(3, 5, 24, dtype=torch.float32)
    others = torch.where(valid[..., None], tokens, 50 * tokens.flip(0) + 7)
    longer = torch.cat([tokens, vectors(3, 4, 24, dtype=torch.float32)], dim=1)
    plain = head(Seen(pooled, tokens, valid))
    for changed in (
        head(Seen(pooled, others, valid)),
        head(Seen(pooled, longer, torch.cat([valid, torch.zeros(3, 4, dtype=torch.bool)], dim=1))),
    ):
        for key, value in plain.items():
            torch.testing.assert_close(changed[key], value)
    # Those within it do.
    others = torch.where(valid[..., None], tokens.flip(1) + 1, tokens)
    assert not any(torch.allclose(head(Seen(pooled, others, valid))[key], plain[key]) for key in plain)


@pytest.mark.parametrize("many", [1, 2])
@pytest.mark.parametrize("name", METHODS)
def test_the_gradient_reaches_all_that_is_trained(clip: str, name: str, many: int) -> None:
    made, told = method_of(clip, name, embeddings=many), targets(OWNERS)
    disturb(made)
    before = {key: value.clone() for key, value in made.named_parameters()}
    made.loss(*sides(made), told, slice(0, 6)).backward()
    trained = trained_weights(made)
    assert {key.split(".")[0] for key in trained} >= {"backbone", "image_head", "text_head"}
    assert all(".lora_" in key for key in trained if key.startswith("backbone"))
    towers = {"visual" in key for key in trained if key.startswith("backbone")}
    assert towers == {True, False}
    for key, value in trained.items():
        assert value.grad is not None and value.grad.isfinite().all(), key
        # One slot alone has every token for itself, whatever it asks for.
        asks = (name, many) == ("dive", 1) and any(of in key for of in ("slot_norm", "query", "key"))
        assert value.grad.any() != asks, key
    assert all(value.grad is None for key, value in made.named_parameters() if key not in trained)
    assert all(torch.equal(before[key], value) for key, value in made.named_parameters())


@pytest.mark.parametrize("name", METHODS)
def test_a_half_precision_backbone_and_autocast(clip: str, name: str) -> None:
    made, told = method_of(clip, name), targets(OWNERS, WEIGHTS)
    images, texts = sides(made)
    exact = made.loss(images, texts, told, slice(0, 6))
    similarity = made.similarity(images, texts)
    with torch.autocast("cpu", torch.bfloat16):
        # The comparison is never of lower precision.
        assert torch.equal(made.loss(images, texts, told, slice(0, 6)), exact)
        assert torch.equal(made.similarity(images, texts), similarity)
        low = sides(made)
        rough = made.loss(*low, told, slice(0, 6))
    assert rough.dtype == torch.float32
    rough.backward()
    gradients = [value.grad for value in trained_weights(made).values() if value.grad is not None]
    assert gradients and all(gradient.isfinite().all() for gradient in gradients)
    # Half-precision outputs are compared in float32.
    halves = tuple({key: value.half() for key, value in side.items()} for side in (images, texts))
    assert made.loss(*halves, told, slice(0, 6)).dtype == torch.float32
    made.backbone.to(torch.bfloat16)
    under = made.image_side(pixels(6).bfloat16(), LEVELS), made.text_side(made.backbone.tokenize(TEXTS))
    for mine, plain in zip(under, (images, texts), strict=True):
        for key, value in mine.items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, plain[key], atol=0.2, rtol=0.2)


@pytest.mark.parametrize("name", METHODS)
def test_trained_weights_are_all_that_is_to_be_kept(clip: str, name: str) -> None:
    made, other = method_of(clip, name, seed=3), method_of(clip, name, seed=4)
    with torch.no_grad():
        for value in trained_weights(made).values():
            value.add_(0.1)
    before, told = other.similarity(*sides(other)), targets(OWNERS)
    found = trained_weights(other)
    assert found.keys() == trained_weights(made).keys()
    with torch.no_grad():
        for key, value in trained_weights(made).items():
            found[key].copy_(value)
    after = other.similarity(*sides(other))
    assert torch.equal(after, made.similarity(*sides(made))) and not torch.equal(after, before)
    losses = [each.loss(*sides(each), told, slice(0, 6)) for each in (made, other)]
    assert torch.equal(*losses)


@pytest.mark.parametrize("name", METHODS)
def test_a_whole_batch_of_one_image(clip: str, name: str) -> None:
    made = method_of(clip, name)
    images, texts = (detached(side, torch.float32) for side in sides(made))
    loss = made.loss(images, texts, targets([4] * 6), slice(0, 6))
    assert loss.isfinite()
    loss.backward()
    for side in (images, texts):
        assert all(value.grad is None or value.grad.isfinite().all() for value in side.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_weights_scale_does_not_matter(clip: str, name: str) -> None:
    made = method_of(clip, name)
    images, texts = (detached(side) for side in sides(made))
    one, other = (
        made.loss(images, texts, targets(OWNERS, [factor * w for w in WEIGHTS]), slice(0, 6))
        for factor in (1, 8)
    )
    torch.testing.assert_close(one, other)
    assert one != made.loss(images, texts, targets(OWNERS), slice(0, 6))


@pytest.mark.parametrize("name", METHODS)
def test_a_worker_without_rows(clip: str, name: str) -> None:
    made = method_of(clip, name)
    assert made.loss(*sides(made), targets(OWNERS), slice(2, 2)) == 0


@pytest.mark.parametrize("name", METHODS)
def test_a_few_steps_tell_pairs_apart(clip: str, name: str) -> None:
    made = method_of(clip, name)
    trained = list(trained_weights(made).values())
    optimizer = torch.optim.Adam(trained, lr=3e-3)
    told, losses = Targets(torch.arange(6), LEVELS, torch.ones(6), 1), []
    for step in range(60):
        loss = made.loss(*sides(made), Targets(told.owners, told.levels, told.weights, step), slice(0, 6))
        losses.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
    assert losses[-1] < 0.5 * losses[0]
    found = made.similarity(*sides(made))
    assert found.argmax(dim=0).tolist() == found.argmax(dim=1).tolist() == list(range(6))


def test_no_transformer_no_adapter(tmp_path: Path) -> None:
    resnet = {"image_size": 32, "layers": [1, 1, 1, 1], "width": 8, "patch_size": None}
    clip = write_clip(tmp_path, vision_cfg=resnet)
    for name in METHODS:
        with pytest.raises(RecipeError, match=f"method: {name} works on a vision transformer"):
            method_of(clip, name)
