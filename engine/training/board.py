"""Where workers leave lines for the terminal, which belongs to another process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

#: Seconds between two looks at what there is to say.
_LOOK_EVERY_S = 0.5


@ray.remote(num_cpus=0)
class _Board:
    def __init__(self) -> None:
        self._lines: list[str] = []

    def tell(self, line: str) -> None:
        self._lines.append(line)

    def take(self) -> list[str]:
        lines, self._lines = self._lines, []
        return lines


@contextlib.contextmanager
def told(say: Callable[[str], None]) -> Iterator[Any]:
    """A board, an actor with `tell(line)`, whose lines are said while this is open."""
    # Beside the driver: on a node that is just being lost it would take the lines with it.
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    board: Any = _Board.options(scheduling_strategy=here).remote()  # type: ignore[attr-defined]
    over = threading.Event()

    def look() -> None:
        with contextlib.suppress(ray.exceptions.RayError):
            while True:
                last = over.wait(_LOOK_EVERY_S)
                for line in ray.get(board.take.remote()):
                    say(line)
                if last:
                    return

    thread = threading.Thread(target=look, name="board", daemon=True)
    thread.start()
    try:
        yield board
    finally:
        over.set()
        thread.join(timeout=5)
        ray.kill(board)
