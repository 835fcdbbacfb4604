from __future__ import annotations

import pytest

from engine.submission.service import Phase, Record
from engine.submission.verdict import judge


@pytest.mark.parametrize(
    ("exit_code", "reason", "status", "again", "words"),
    [
        (1, "failed  12% of the samples", 1, False, "--retry-failed"),
        (1, "x\n/usr/bin/python: Error while finding module ... No module named jobs\n", 2, False, "install"),
        (1, "Traceback\nModuleNotFoundError: No module named 'torch'", 2, False, "on every node"),
        (1, "describe failed: 3 x No module named by the user\noutput  /data/run", 1, False, "is complete"),
        (2, "", 2, False, "refused"),
        (3, "", 3, True, "storage, a source or a generator"),
        (4, "", 4, True, "another command"),
        (126, "", 2, False, "python"),
        (127, "sh: 1: python: not found", 2, False, "python"),
        (130, "", 3, True, "interrupted"),
        (143, "", 3, True, "SIGTERM"),
        (-9, "", 3, True, "SIGKILL"),
        (137, "", 3, True, "SIGKILL"),
        (-15, "", 3, True, "SIGTERM"),
        (255, "", 3, True, "status 255"),
        (None, "\nJob supervisor actor died: node lost\n", 3, True, "node lost"),
        (None, "", 3, True, "no reason is known"),
    ],
)
def test_of_an_attempt_that_failed(
    exit_code: int | None, reason: str, status: int, again: bool, words: str
) -> None:
    verdict = judge(Record("a", Phase.failed, exit_code=exit_code, reason=reason), accepted=False)
    assert (verdict.status, verdict.again) == (status, again)
    assert words in verdict.words


def test_a_recipe_that_was_accepted_before_is_tried_again() -> None:
    verdict = judge(Record("a", Phase.failed, exit_code=2), accepted=True)
    assert (verdict.status, verdict.again) == (2, True)


def test_of_other_ends() -> None:
    assert judge(Record("a", Phase.succeeded, exit_code=0), False).status == 0
    assert not judge(Record("a", Phase.stopped), False).again
    assert judge(Record("a", Phase.stopped), False).status == 130
    assert judge(None, False).again
