"""From the exceptions of Ray to those of the project."""

from __future__ import annotations

import ray

from engine.errors import ConnoteError

#: What Ray Data appends to the message of an exception it passes on.
_RETRY_NOTE = "\nFailed to apply UDF transform"


def explain(error: BaseException) -> BaseException:
    """The message for the user inside Ray's wrapping, or the error as it is."""
    current: BaseException | None = error
    seen = set[int]()
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        inner = getattr(current, "cause", None) or current.__cause__
        if isinstance(current, ConnoteError) and not isinstance(current, ray.exceptions.RayError):
            return type(current)(str(current).partition(_RETRY_NOTE)[0])
        current = inner
    return error
