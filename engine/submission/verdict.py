"""What the end of an attempt means: done, useless to try again, or to be tried again."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from engine.statuses import HELD, INTERRUPTED, OK, REFUSED, STOPPED, TOO_MANY_FAILED
from engine.submission.service import Phase, Record

#: What shells say of a command that cannot be run.
_NO_COMMAND = (126, 127)
#: Python leaves with the status of too many failed samples when it cannot import.
_NO_PACKAGE = re.compile(r"ModuleNotFoundError|ImportError|No module named")


@dataclass(frozen=True)
class Verdict:
    """What an attempt's end means.

    Attributes:
        status: the exit status that the command has if this was the last attempt.
        again: whether another attempt may get further.
        words: for the user.
    """

    status: int
    again: bool
    words: str


def judge(record: Record | None, accepted: bool) -> Verdict:
    """Judge an attempt that has ended.

    Args:
        record: how it ended; None if the cluster knows it no more.
        accepted: whether an earlier attempt was not refused: the recipe has not changed since, so
            what refuses it now is a cluster that has, and may again.
    """
    if record is None:
        return Verdict(STOPPED, True, "was lost: the cluster knows it no more (its head was restarted?)")
    match record.phase, record.exit_code:
        case Phase.succeeded, _:
            return Verdict(OK, False, "is complete")
        case Phase.stopped, _:
            return Verdict(INTERRUPTED, False, "was stopped; submit the recipe again to go on")
        case _, code if code in _NO_COMMAND:
            words = f"could not start (status {code}): no `python` on the path of the cluster's head node"
            return Verdict(REFUSED, False, f"{words}; start Ray from an environment that has Connote")
        case _, 1 if _NO_PACKAGE.search(_last_line(record.reason)):
            words = f"could not start ({_last_line(record.reason)})"
            return Verdict(REFUSED, False, f"{words}; install Connote, with all it needs, on every node")
        case _, 1:
            return Verdict(
                TOO_MANY_FAILED,
                False,
                "is complete, but more samples failed than run.max_failed_share allows; "
                "--retry-failed computes them again",
            )
        case _, 2 if not accepted:
            return Verdict(REFUSED, False, "was refused; its log says why, and trying again is useless")
        case _, 2:
            return Verdict(REFUSED, True, "was refused now, but not before: the cluster has changed")
        case _, 4:
            return Verdict(HELD, True, "left the run to another command that works on it; its log says which")
        case _, int(code):
            return Verdict(STOPPED, True, _failed(code))
        case _:
            return Verdict(STOPPED, True, f"was lost: {_last_line(record.reason) or 'no reason is known'}")


def _failed(code: int) -> str:
    if code == STOPPED:
        return "stopped (status 3): storage, a source or a generator failed; its log says which"
    if code == INTERRUPTED:
        return "was interrupted (SIGTERM or Ctrl-C), not by connote stop"
    number = -code if code < 0 else code - 128
    if number > 0 and number in signal.valid_signals():
        return f"was ended by {signal.Signals(number).name}"
    return f"failed with status {code}"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else ""
