"""Where a task computes: on the GPU that it reserved, or on processors."""

from __future__ import annotations

from engine.errors import RecipeError


def device_of(gpus: float, setting: str) -> str:
    """`cuda` where GPUs were reserved, otherwise `cpu`, as torch names them.

    Call it where the computing is done: the driver's machine may have no GPU, and what Ray counts as
    one (`ray start --num-gpus`) torch may not be able to use.

    Args:
        gpus: that the task reserved.
        setting: that says so, for the message.

    Raises:
        RecipeError: torch finds no GPU here.
    """
    if not gpus:
        return "cpu"
    import torch

    if not torch.cuda.is_available():
        raise RecipeError(
            f"{setting} is {gpus:g}, and torch {torch.__version__} finds no GPU on this node; "
            "set it to 0 to compute on processors"
        )
    return "cuda"
