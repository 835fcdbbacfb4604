from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from engine.clustering.fitted import Fit, fit
from tests.clustering.blobs import Vectors, blobs, ids, settings


@pytest.fixture(scope="module")
def known() -> tuple[Fit, NDArray[np.uint64], Vectors, NDArray[np.int64]]:
    """Six blobs of a hundred each, and the fit of them."""
    vectors, truth = blobs(6, 100, 32)
    numbers = ids(len(vectors))
    return fit(numbers, vectors, settings(), "cpu", 3), numbers, vectors, truth
