"""One Ray for a room's runs that are not killed: to start it, and to import, takes longer than they do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.flow.cluster import cluster
from engine.planning.placing import Demand
from tests.conftest import RIGHTS


@contextmanager
def one_ray(s3_server: str) -> Iterator[None]:
    """A Ray that this process is connected to; its workers know the object store."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**RIGHTS, "AWS_ENDPOINT_URL": s3_server}.items():
            patch.setenv(name, value)
        with cluster(None, [Demand("tests", cpus=1, least=4)], verbose=False):
            yield
