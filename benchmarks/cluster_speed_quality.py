"""What `cluster_speed` measures on: vectors whose clusters are known, and how good a layout of them is."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from engine.clustering.fitted import Fit

WIDTH, RANK = 512, 8
#: Clusters lie in families of so many, in whose few dimensions their edges run into each other.
FAMILY, NEAR = 5, 0.6
#: Rows that lie between two clusters, which no cluster should claim.
BETWEEN = 0.1
#: What the engine's result may be worse by.
ARI_SLACK, TRUST_SLACK = 0.01, 0.005


def mixture(rows: int, seed: int, clusters: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Unit vectors in clusters that are flat ellipsoids, as those of image encoders are.

    Args:
        rows: how many.
        seed: of all of it.
        clusters: how many; their sizes differ by up to a factor of three.

    Returns:
        (rows, 512) unit vectors, and (rows,) the cluster of each, -1 between two of them.
    """
    random = np.random.default_rng(seed)
    family = np.arange(clusters) // FAMILY
    middles = random.standard_normal((family[-1] + 1, WIDTH))
    shapes = random.standard_normal((family[-1] + 1, RANK, WIDTH)).astype(np.float32)
    apart = NEAR * random.standard_normal((clusters, RANK))
    centres = (middles[family] + np.einsum("cr,crw->cw", apart, shapes[family])).astype(np.float32)
    sizes = random.uniform(0.5, 1.5, clusters)
    truth = random.choice(clusters, size=rows, p=sizes / sizes.sum())
    vectors = np.empty((rows, WIDTH), np.float32)
    for cluster in range(clusters):
        mine = np.flatnonzero(truth == cluster)
        along = random.standard_normal((len(mine), RANK), np.float32) / np.sqrt(RANK)
        vectors[mine] = centres[cluster] + 0.7 * along @ shapes[family[cluster]]
    between = np.flatnonzero(random.random(rows) < BETWEEN)
    share = random.uniform(0.3, 0.7, (len(between), 1)).astype(np.float32)
    one, other = (centres[random.integers(clusters, size=len(between))] for _ in range(2))
    vectors[between] = share * one + (1 - share) * other
    truth[between] = -1
    vectors += 0.3 * random.standard_normal(vectors.shape, np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), truth


def trustworthiness(
    vectors: NDArray[np.float32],
    layouts: dict[str, tuple[NDArray[Any], NDArray[Any]]],
    asked: NDArray[Any],
    neighbours: int = 15,
) -> dict[str, float]:
    """How many of the nearest points on a layout are near in truth (Venna and Kaski 2001), sampled.

    Args:
        vectors: (n, d), unit rows.
        layouts: by name the places (n, k) of these rows and the places (m, k) of the asked ones.
        asked: either (m,) row numbers of `vectors`, or (m, d) unit rows that are not among them.
        neighbours: how many are looked at.

    Returns:
        By name 1 for a perfect layout, about 0.5 for a random one.
    """
    inside = asked.ndim == 1
    points = len(vectors) if inside else len(vectors) + 1
    penalties = dict.fromkeys(layouts, 0)
    for at, query in enumerate(asked):
        # Negated cosines, so that a rank is the number of smaller ones.
        apart = -(vectors @ (vectors[query] if inside else query))
        if inside:
            apart[query] = np.inf
        sorted_apart = np.sort(apart)
        for name, (places, own) in layouts.items():
            distances = ((places - own[at]) ** 2).sum(axis=1)
            if inside:
                distances[query] = np.inf
            near = np.argpartition(distances, neighbours)[:neighbours]
            ranks = np.searchsorted(sorted_apart, apart[near]) + 1
            penalties[name] += int(np.maximum(ranks - neighbours, 0).sum())
    scale = 2 / (len(asked) * neighbours * (2 * points - 3 * neighbours - 1))
    return {name: 1 - scale * penalty for name, penalty in penalties.items()}


def agreement(truth: NDArray[Any], label: NDArray[Any]) -> float:
    """The adjusted Rand index over the rows that have a true cluster; noise counts as a cluster."""
    from sklearn.metrics import adjusted_rand_score

    some = truth >= 0
    return float(adjusted_rand_score(truth[some], label[some]))


def judge(
    fits: dict[str, Fit],
    peer: Any,
    vectors: NDArray[np.float32],
    truth: NDArray[np.int64],
    asked: NDArray[np.int64],
    faults: list[str],
) -> None:
    """Print how good each result is; what is worse than the peer's is added to `faults`."""
    from sklearn.metrics import adjusted_rand_score

    sides = {mode: (made.placed.plane, made.placed.space, made.placed.label) for mode, made in fits.items()}
    sides = {"peer": (peer.plane, peer.space, peer.label), **sides}
    layouts = {
        f"{name} {side}": (places, places[asked])
        for name, (plane, space, _) in sides.items()
        for side, places in (("2-D", plane), ("5-D", space))
    }
    trust = trustworthiness(vectors, layouts, asked)
    ari = {name: agreement(truth, label) for name, (_, _, label) in sides.items()}
    for name, (_, _, label) in sides.items():
        like = adjusted_rand_score(peer.label, label)
        flat, deep = trust[f"{name} 2-D"], trust[f"{name} 5-D"]
        print(
            f"    {name:<6} {label.max() + 1} clusters, {(label < 0).mean():.3f} noise; "
            f"ARI {ari[name]:.4f} with the truth, {like:.4f} with the peer; "
            f"trustworthiness {flat:.4f} in 2-D, {deep:.4f} in 5-D"
        )
        if ari["peer"] - ari[name] > ARI_SLACK:
            faults.append(f"{len(vectors):,} rows, {name}: ARI {ari[name]:.4f}, the peer's {ari['peer']:.4f}")
        for side, mine in (("2-D", flat), ("5-D", deep)):
            if trust[f"peer {side}"] - mine > TRUST_SLACK:
                theirs = trust[f"peer {side}"]
                faults.append(f"{len(vectors):,} rows, {name}: trust {mine:.4f} in {side}, peer {theirs:.4f}")
