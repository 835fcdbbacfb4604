"""The terms of METHODS B12 in loops over single numbers, as the formulas stand there."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from engine.training.method import Targets


def max_over_pairs(x: Tensor, y: Tensor) -> Tensor:
    """(K, d), (L, d) -> a number."""
    return torch.stack([u @ v for u in x for v in y]).max()


def smooth_chamfer(x: Tensor, y: Tensor, a: float) -> Tensor:
    """(K, d), (L, d) -> a number."""
    first = sum(sum((a * (u @ v)).exp() for v in y).log() for u in x)
    second = sum(sum((a * (u @ v)).exp() for u in x).log() for v in y)
    return first / (2 * a * len(x)) + second / (2 * a * len(y))


def matrix(similarity: Callable[[Tensor, Tensor], Tensor], x: Tensor, y: Tensor) -> Tensor:
    """(n, m)."""
    return torch.stack([torch.stack([similarity(u, v) for v in y]) for u in x])


def triplet(scores: Tensor, targets: Targets, margin: float, hardest: bool) -> Tensor:
    """Scores of images (rows) to captions (columns)."""
    count, zero = len(scores), scores.new_zeros(())
    weights = targets.weights.double()
    total = zero
    for i in range(count):
        for way in (scores, scores.T):
            paid = [zero]
            for n in range(count):
                if targets.owners[n] != targets.owners[i]:
                    paid.append(torch.maximum(zero, margin + way[i, n] - way[i, i]))
            total = total + weights[i] * (max(paid) if hardest else sum(paid, zero) / count)
    return total / weights.sum()


def kernel(u: Tensor, v: Tensor) -> Tensor:
    """exp(-0.5 |u - v|), whose slope is 0 where both are one."""
    squares = ((u - v) ** 2).sum()
    return (-0.5 * squares.sqrt()).exp() if squares > 0 else squares + 1


def mmd(x: Tensor, y: Tensor) -> Tensor:
    """(B, K, d) of each side."""
    xs, ys = x.flatten(0, 1), y.flatten(0, 1)
    total = sum(
        kernel(xs[i], xs[j]) - 2 * kernel(xs[i], ys[j]) + kernel(ys[i], ys[j])
        for i in range(len(xs))
        for j in range(len(xs))
    )
    return torch.as_tensor(total / len(xs) ** 2)


def diversity(residuals: Tensor) -> Tensor:
    """(K, d) -> a number."""
    rows = [row / row.norm() for row in residuals]
    squares = sum((rows[i] @ rows[j]) ** 2 for i in range(len(rows)) for j in range(len(rows)) if i != j)
    return torch.as_tensor(squares).sqrt() / len(rows) ** 2


def uniformity(slots: Tensor) -> Tensor:
    """(K, d) -> a number."""
    rows = [row / row.norm() for row in slots]
    pairs = [(i, j) for i in range(len(rows)) for j in range(i + 1, len(rows))]
    total = sum((-2 * ((rows[i] - rows[j]) ** 2).sum()).exp() for i, j in pairs)
    return torch.as_tensor(total) / (len(rows) * (len(rows) - 1) / 2)


def weighted(values: list[Tensor], targets: Targets) -> Tensor:
    """The mean by weights."""
    weights = targets.weights.double()
    return sum((w * v for w, v in zip(weights, values, strict=True)), weights.new_zeros(())) / weights.sum()


def match(z: Tensor, other: Tensor, a: Tensor, b: Tensor, m: int) -> Tensor:
    """(J, d) of each side: mean over J x J of sigma(m s), with sigma(s) = e^s / (e^s + e^-s)."""
    found = []
    for u in z:
        for v in other:
            s = m * (-a * (((u - v) ** 2).sum() + 1e-6).sqrt() + b)
            found.append(s.exp() / (s.exp() + (-s).exp()))
    return torch.stack(found).mean()


def soft_contrastive(x: Tensor, y: Tensor, a: Tensor, b: Tensor, targets: Targets) -> Tensor:
    """Mean over what matches, 127 times the mean over what does not, images to captions and back."""
    weights, total = targets.weights.double(), x.new_zeros(())
    for m, factor in ((1, 1.0), (-1, 127.0)):
        costs, counts = x.new_zeros(()), 0.0
        for i in range(len(x)):
            for j in range(len(y)):
                if (targets.owners[i] == targets.owners[j]) == (m == 1):
                    cost = -match(x[i], y[j], a, b, m).log()
                    # Once as the image's row, and once as the caption's.
                    costs = costs + weights[i] * cost + weights[j] * cost
                    counts += float(weights[i] + weights[j]) / 2
        if counts:
            total = total + factor * costs / counts
    return total


def divergence(samples: Tensor, log_sigma: Tensor) -> Tensor:
    """(J, d), (d,) -> a number."""
    mean = sum(samples) / len(samples)
    terms = [1 + s - z**2 - s.exp() for s, z in zip(log_sigma, mean, strict=True)]
    return -0.5 * torch.stack(terms).sum()


def layer_norm(row: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    """Of one vector."""
    centred = row - row.mean()
    return centred / ((centred**2).mean() + 1e-5).sqrt() * weight + bias


def gelu(x: Tensor) -> Tensor:
    """x times the normal distribution's probability below it."""
    return x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))
