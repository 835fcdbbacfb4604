"""Ask a generator until the answers pass their checks, or the attempts are used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.generation.protocol import Generator, Request
from engine.stages.stage import Tally


@dataclass(frozen=True)
class Question:
    """One thing to be generated.

    `request` makes the request of an attempt (counted from 0; its seed differs by attempt).
    `check` reads the answer's text and returns what it is worth and, when it fails, the reason.
    """

    request: Callable[[int], Request]
    check: Callable[[str], tuple[Any, str | None]]


@dataclass
class Outcome:
    """The last answer's value; `reason` says what it failed, or is None."""

    value: Any = None
    reason: str | None = "not asked"
    attempts: int = 0


async def ask(
    generator: Generator, questions: Sequence[Question], attempts: int, tally: Tally
) -> list[Outcome]:
    """Ask all questions together, then those that failed again, at most `attempts` times.

    Answers are checked in the order of the questions, so a check may depend on the values that
    questions before it were given (captions that must not repeat each other) and the outcome
    still does not depend on which answer came first.
    """
    outcomes = [Outcome() for _ in questions]
    open_questions = list(range(len(questions)))
    for attempt in range(attempts):
        if not open_questions:
            break
        requests = [questions[index].request(attempt) for index in open_questions]
        responses = await generator.generate(requests)
        tally.requests += len(requests)
        failed = []
        for index, response in zip(open_questions, responses, strict=True):
            tally.output_tokens += response.output_tokens
            value, reason = (
                (None, response.error) if response.error else questions[index].check(response.text)
            )
            outcomes[index] = Outcome(value, reason, attempt + 1)
            if reason is not None:
                failed.append(index)
        open_questions = failed
    return outcomes
