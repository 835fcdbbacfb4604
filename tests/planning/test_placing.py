"""How many actors find room on which nodes, with GPUs whole and in shares."""

from __future__ import annotations

import itertools
import random

import pytest

from engine.planning.placing import Demand, Node, place

EIGHT = Node(cpus=64, gpus=8)


def test_one_pool_fills_the_cluster() -> None:
    assert place([EIGHT, EIGHT], [Demand("vlm", cpus=8, gpus=1)]) == [16]
    assert place([EIGHT, EIGHT], [Demand("vlm", cpus=16, gpus=1)]) == [8], "CPUs run out first"
    assert place([Node(4)], [Demand("embed", cpus=1), Demand("reading", 0.45, most=1)]) == [3, 1]


def test_an_engine_has_its_gpus_on_one_node() -> None:
    six = [Node(64, 6), Node(64, 6)]
    assert place(six, [Demand("llm", cpus=1, gpus=4)]) == [2]
    assert place(six, [Demand("llm", cpus=1, gpus=4), Demand("vlm", cpus=1, gpus=1)]) == [2, 4]
    assert place([Node(64, 4)] * 4, [Demand("llm", cpus=1, gpus=8)]) == [0]


def test_shares_of_a_gpu_lie_on_one_gpu() -> None:
    assert place([Node(64, 2)], [Demand("embed", cpus=1, gpus=0.6)]) == [2], "0.6 + 0.6 are no share of one"
    assert place([Node(64, 2)], [Demand("embed", cpus=1, gpus=0.1)]) == [20], "without rounding"
    pools = [Demand("embed", 1, 0.25, least=6, most=6), Demand("vlm", 1, 1)]
    assert place([Node(64, 4)], pools) == [6, 2]


def test_large_engines_come_before_small_ones_that_would_break_up_the_nodes() -> None:
    small, large = Demand("vlm", 1, 1, least=4, most=4), Demand("llm", 1, 4, least=3, most=3)
    assert place([EIGHT, EIGHT], [small, large]) == [4, 3]


@pytest.mark.parametrize(("weights", "split"), [((1, 1), [8, 8]), ((3, 1), [12, 4]), ((1, 7), [2, 14])])
def test_devices_are_split_by_weight(weights: tuple[float, float], split: list[int]) -> None:
    pools = [Demand(name, 1, 1, weight=weight) for name, weight in zip("ab", weights, strict=True)]
    assert place([EIGHT, EIGHT], pools) == split


def test_the_weight_counts_devices_and_not_actors() -> None:
    pools = [Demand("llm", 1, 4, weight=1), Demand("embed", 1, 0.5, weight=1)]
    assert place([EIGHT, EIGHT], pools) == [2, 16]


def test_what_one_pool_does_not_want_the_others_get() -> None:
    pools = [Demand("a", 1, 1, most=2, weight=9), Demand("b", 1, 1), Demand("c", 1, 1, least=3, most=3)]
    assert place([EIGHT], pools) == [2, 3, 3]


def test_too_little_room_says_how_many_fit() -> None:
    assert place([EIGHT], [Demand("vlm", 1, 1, least=10, most=10)]) == [8]
    assert place([EIGHT], [Demand("llm", 1, 4, least=2, most=2), Demand("vlm", 1, 1)]) == [2, 0]
    assert place([], [Demand("vlm", 1)]) == [0]


def test_what_reserves_nothing_has_what_it_needs() -> None:
    assert place([Node(1)], [Demand("remote", cpus=0, least=3)]) == [3]


def test_a_type_of_gpu_is_found_on_its_nodes_only() -> None:
    nodes = [Node(64, 8, frozenset({"A10G"})), Node(64, 8, frozenset({"H100", "H100-80G"}))]
    h100, any_gpu = Demand("llm", 1, 4, gpu_type="H100"), Demand("vlm", 1, 1)
    assert place(nodes, [h100]) == [2]
    assert place(nodes, [h100, any_gpu]) == [2, 8], "who takes any leaves the type alone"
    fixed = [Demand("any", 1, 4, 2, 2), Demand("typed", 1, 4, 2, 2, gpu_type="H100")]
    assert place(nodes, fixed) == [2, 2] and place(nodes, fixed[::-1]) == [2, 2]
    assert place(nodes, [Demand("llm", 1, 1, gpu_type="B200")]) == [0]


def test_no_more_is_placed_than_there_is_and_no_further_actor_fits() -> None:
    draw = random.Random(0)
    for _ in range(300):
        nodes = [Node(draw.choice([4, 16]), draw.choice([0, 1, 4, 8])) for _ in range(draw.randint(1, 5))]
        one = Demand("a", draw.choice([0.5, 1, 8]), draw.choice([0, 0.25, 0.5, 1, 2, 4]))
        other = Demand("b", draw.choice([0.5, 1]), draw.choice([0.5, 1]), weight=draw.choice([0.2, 1, 6]))
        placed = place(nodes, [one, other])
        for what in ("cpus", "gpus"):
            used = placed[0] * getattr(one, what) + placed[1] * getattr(other, what)
            assert used <= sum(getattr(node, what) for node in nodes)
        alone = place(nodes, [one])[0]
        assert alone >= placed[0]
        more = Demand("a", one.cpus, one.gpus, alone + 1, alone + 1)
        assert place(nodes, [more]) == [alone], "one more would not have fitted"


def test_engines_without_need_of_cpus_leave_them_to_others() -> None:
    nodes = [Node(16, 8), Node(96, 8)]
    assert place(nodes, [Demand("big", 1, 4, 2, 2), Demand("small", 8, 1, 8, 8)]) == [2, 8]
    assert place(nodes[::-1], [Demand("small", 8, 1, 8, 8), Demand("big", 1, 4, 2, 2)]) == [8, 2]


def test_growth_is_even_for_any_weights() -> None:
    """No pool is a whole device behind another, for its weight, while there was room."""
    for one, other in itertools.product((1, 2, 5), repeat=2):
        a, b = place([Node(64, 24)], [Demand("a", 1, 1, weight=one), Demand("b", 1, 1, weight=other)])
        assert a + b == 24 and abs(a / one - b / other) <= 1 / min(one, other)
