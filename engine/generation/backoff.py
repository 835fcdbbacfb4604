"""When a failed request is sent again: exponential back-off with jitter, or when the server says."""

from __future__ import annotations

import email.utils
import random
import time
from collections.abc import Mapping

#: Statuses that a later try may turn into an answer: time-out, conflict, too many requests.
_TEMPORARY = {408, 409, 429}

_FIRST_S = 0.5
_LONGEST_S = 60.0


def is_temporary(status: int) -> bool:
    """Whether a request that got this HTTP status is worth sending again."""
    return status in _TEMPORARY or status >= 500


def delay(attempt: int, headers: Mapping[str, str] | None = None) -> float:
    """Seconds to wait after the failed attempt number `attempt`, counted from 0.

    Half of the exponential delay is drawn at random, so that clients that failed together do not
    come back together. A `Retry-After` header (seconds or a date) is obeyed, up to a minute.
    """
    longest = min(_FIRST_S * 2.0**attempt, _LONGEST_S)
    drawn = longest * random.uniform(0.5, 1)
    asked = retry_after(headers or {})
    return drawn if asked is None else min(asked, _LONGEST_S) + random.uniform(0, _FIRST_S / 2)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds that a server's headers ask to wait, if they do."""
    value = headers.get("retry-after")
    if value is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        date = email.utils.parsedate_tz(value)
        return None if date is None else max(0.0, email.utils.mktime_tz(date) - time.time())
