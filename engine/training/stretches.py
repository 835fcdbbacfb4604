"""With how many workers a training went on, from which step: nodes leave and join, and recipes change."""

from __future__ import annotations

#: Each number of workers with the step that it began at.
Stretches = list[tuple[int, int]]


def begin(stretches: Stretches, step: int, total: int, workers: int) -> str:
    """Note that training goes on with so many workers; returns the line that tells the user.

    Args:
        stretches: until now; one is added where the number is another.
        step: where training goes on, of `total`.
        workers: from there on.
    """
    if step == total:
        return "going on behind the last step"
    before = stretches[-1][1] if stretches else workers
    line = f"going on from step {step:,} of {total:,}" if step else f"training {total:,} steps"
    line += f", with {workers} worker{'s' * (workers > 1)}"
    if workers != before:
        line += (
            f" instead of {before}: the batches are the same, and sums are taken in another order, so that "
            "the last digits of the weights are not those of an unchanged number"
        )
    if workers != before or not stretches:
        stretches.append((step, workers))
    return line
