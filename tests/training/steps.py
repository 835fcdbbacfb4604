"""A step to look into: two small towers, a batch before it is cut, and its gradient by torch alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from engine.training.method import Method, Outputs, Targets
from engine.training.step import LocalBatch, StepResult, accumulate
from engine.training.world import World

SIDE, LENGTH, WORDS = 2, 5, 30
SEED = 7


class Tiny(Method):
    """Two small towers in float64, and InfoNCE written naively; it notes how its towers are called."""

    def __init__(self, dropout: float = 0.0, frozen: str = "") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.image = nn.Sequential(nn.Flatten(), nn.Linear(3 * SIDE**2, 8), nn.Tanh(), nn.Dropout(dropout))
        self.image_head, self.level = nn.Linear(8, 4), nn.Embedding(6, 8)
        self.words, self.text_head = nn.Embedding(WORDS, 8), nn.Linear(8, 4)
        self.drop = nn.Dropout(dropout)
        self.log_scale, self.unused = nn.Parameter(torch.tensor(1.0)), nn.Parameter(torch.ones(3))
        self.double()
        if frozen:
            still = (
                [self.words, self.text_head]
                if frozen == "texts"
                else [self.image, self.image_head, self.level]
            )
            nn.ModuleList(still).requires_grad_(False)
            self.sides = tuple(side for side in self.sides if side != frozen)
        self.seen: list[tuple[str, int, bool, torch.dtype]] = []
        self.given: list[Tensor] = []
        self.made: list[Tensor] = []

    def image_side(self, pixels: Tensor, levels: Tensor) -> Outputs:
        out = self.image_head(self.image(pixels.to(self.level.weight.dtype)) + self.level(levels + 1))
        self.seen.append(("images", len(pixels), torch.is_grad_enabled(), out.dtype))
        self.made.append(out)
        return {"features": out, "row": pixels.flatten(1).argmax(dim=1), "bright": pixels.mean((1, 2, 3)) > 0}

    def text_side(self, tokens: Tensor) -> Outputs:
        out = self.text_head(self.drop(self.words(tokens).mean(dim=1)))
        self.seen.append(("texts", len(tokens), torch.is_grad_enabled(), out.dtype))
        return {"features": out, "twice": 2 * out}

    def loss(self, images: Outputs, texts: Outputs, targets: Targets, rows: slice) -> Tensor:
        assert rows.start < rows.stop, "who answers for no row is not asked"
        assert len(images["features"]) == len(texts["twice"]) == len(targets.owners), "all are of the batch"
        assert images["bright"].dtype == torch.bool and images["row"].dtype == torch.int64
        self.given = [images["features"], texts["features"]]
        # Each kind of output has its part in the loss, so that a wrong row of any shows.
        factor = 1 + images["row"] / 10 + images["bright"].double()
        logits = self.log_scale.exp() * images["features"] @ (texts["features"] + texts["twice"]).T
        terms = logits.logsumexp(dim=1) + logits.logsumexp(dim=0) - 2 * logits.diagonal()
        return (targets.weights * factor * terms)[rows].sum() / targets.weights.sum()


@dataclass(frozen=True)
class Whole:
    """A batch before it is cut among workers."""

    pixels: Tensor
    tokens: Tensor
    good: Tensor
    targets: Targets
    weight: float = 1.0

    @classmethod
    def of(cls, count: int, bad: Sequence[int] = (), weight: float = 1.0) -> Whole:
        random = torch.Generator().manual_seed(3)
        good = torch.ones(count, dtype=torch.bool)
        good[list(bad)] = False
        pixels = torch.randn(count, 3, SIDE, SIDE, generator=random)
        pixels[~good] = 0
        return cls(
            pixels,
            torch.randint(1, WORDS, (count, LENGTH), generator=random),
            good,
            Targets(torch.arange(count), torch.arange(count) % 6 - 1, torch.arange(1.0, count + 1), SEED),
            weight,
        )

    def cut(self, rows: slice) -> LocalBatch:
        """What the worker of these rows is given."""
        ids = tuple(f"image-{index}" for index in range(len(self.good)))
        return LocalBatch(
            self.pixels[rows], self.tokens[rows], self.good[rows], rows, self.targets, self.weight, ids
        )

    def all(self) -> LocalBatch:
        return self.cut(slice(0, len(self.good)))

    def readable(self) -> Whole:
        """The batch that is left."""
        of = self.targets
        left = Targets(of.owners[self.good], of.levels[self.good], of.weights[self.good], of.seed)
        return Whole(self.pixels[self.good], self.tokens[self.good], self.good[self.good], left, self.weight)


Gradients = dict[str, Tensor | None]


def gradients(method: Method) -> Gradients:
    return {name: value.grad for name, value in method.named_parameters() if value.requires_grad}


def at_once(method: Tiny, whole: Whole) -> tuple[float, Gradients]:
    """The readable pairs in one pass, differentiated by torch alone."""
    left = whole.readable()
    images = method.image_side(left.pixels, left.targets.levels)
    texts = method.text_side(left.tokens)
    loss = method.loss(images, texts, left.targets, slice(0, len(left.good)))
    (loss * whole.weight).backward()
    method.unused.grad = torch.zeros_like(method.unused)
    return loss.item(), gradients(method)


def assert_same(found: Gradients, wanted: Gradients) -> None:
    assert found.keys() == wanted.keys()
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-9, atol=1e-12, msg=name)


def step(method: Method, batch: LocalBatch, micro: int, world: World | None = None) -> StepResult:
    return accumulate(method, batch, world or World(), micro, None, None)
