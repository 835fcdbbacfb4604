"""What tests of training share: one thread, since towers of a few weights are slower on two; and one Ray."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.one_ray import one_ray


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="package")
def on_ray(s3_server: str) -> Iterator[None]:
    """One Ray for this room's runs in the tests' own process."""
    with one_ray(s3_server):
        yield
