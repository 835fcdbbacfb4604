"""Asking again, in a later run, what failed: with other seeds, or a failure would only come again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pyarrow as pa

from engine.generation.protocol import Generator, Request, Response, derive_seed
from engine.stages.asking import sampling_of

_RETRIES = b"retries"


def retries_of(table: pa.Table) -> int:
    """How many times error rows of the table were computed again."""
    return int((table.schema.metadata or {}).get(_RETRIES, b"0"))


def note_retries(table: pa.Table, retries: int) -> pa.Table:
    """The table with that number in its metadata; a table never retried carries none."""
    return table.replace_schema_metadata({_RETRIES: str(retries).encode()}) if retries else table


class Reseeded:
    """A generator that answers with the seeds of the n-th retry.

    Greedy requests are asked at the temperature of a second attempt, since their seed decides
    nothing.
    """

    def __init__(self, generator: Generator, retry: int) -> None:
        self.meter = generator.meter
        self._generator = generator
        self._retry = retry

    async def generate(self, requests: Sequence[Request]) -> list[Response]:
        """Answer every request, in order; see `Generator.generate`."""
        return await self._generator.generate([self._reseed(request) for request in requests])

    async def close(self) -> None:
        """Free what the generator holds."""
        await self._generator.close()

    def _reseed(self, request: Request) -> Request:
        seed = derive_seed(request.seed, "retry", self._retry)
        return replace(request, seed=seed, sampling=sampling_of(request.sampling, 1))
