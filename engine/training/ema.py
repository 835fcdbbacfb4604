"""An exponential moving average of the trained weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.nn import Parameter

from engine.errors import StorageError
from engine.training.tensors import take


class Average:
    """The average of parameters over the steps of a training.

    After step n, from 1, average <- d average + (1 - d) parameter, with d = min(decay, (1 + n) /
    (10 + n)): the first steps do not keep the average at the weights that training began with
    (Tan and Le 2019's code, after TensorFlow's ExponentialMovingAverage).

    Args:
        parameters: by name; the average begins at their values.
        decay: of one step, in (0, 1).
    """

    def __init__(self, parameters: Mapping[str, Parameter], decay: float) -> None:
        self._parameters, self._decay, self._count, self._swapped = dict(parameters), decay, 0, False
        # Never below float32: in float16, steps of 1 - decay would round to nothing.
        self._averages = {
            name: parameter.detach().to(torch.promote_types(parameter.dtype, torch.float32), copy=True)
            for name, parameter in parameters.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take in the parameters after a step of the optimiser.

        Raises:
            RuntimeError: the averages are in the model's place.
        """
        if self._swapped:
            raise RuntimeError("the average cannot take in itself: update() was called inside swapped()")
        self._count += 1
        decay = min(self._decay, (1 + self._count) / (10 + self._count))
        # A difference that is added: equal weights leave the average as it is, to the last bit.
        values = [self._parameters[name].to(average.dtype) for name, average in self._averages.items()]
        if values:
            torch._foreach_lerp_(list(self._averages.values()), values, 1 - decay)

    @contextmanager
    def swapped(self) -> Iterator[None]:
        """The model computes with the averages while this is open, and then has its own weights again.

        Raises:
            RuntimeError: it is open already.
        """
        if self._swapped:
            raise RuntimeError("swapped() is open already")
        raw = {name: parameter.detach().clone() for name, parameter in self._parameters.items()}
        self._swapped = True
        try:
            self._put(self._averages)
            yield
        finally:
            self._put(raw)
            self._swapped = False

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps: the averages themselves, which the next step changes, and their count."""
        return {"count": self._count, "averages": dict(self._averages)}

    def load(self, state: Mapping[str, Any], origin: str = "the average of the weights") -> None:
        """Go on from what `state` told.

        Raises:
            StorageError: it is of other parameters.
        """
        if not isinstance(state, Mapping) or state.keys() != {"count", "averages"}:
            raise StorageError(
                f"{origin}: holds no average of the weights; delete it, or take finetune.ema out"
            )
        take(self._averages, state["averages"], origin)
        self._count = int(state["count"])

    @torch.no_grad()
    def _put(self, values: Mapping[str, Tensor]) -> None:
        # Into the memory that is there: compiled models and other views of it see the change.
        for name, parameter in self._parameters.items():
            parameter.copy_(values[name])
