"""Ask a generator until the answers pass their checks, or the attempts are used up."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from engine.generation.protocol import Generator, Request
from engine.recipe import Sampling
from engine.schema import storable
from engine.stages.stage import Tally

#: Of requests that are asked again, where the recipe says 0: warm enough for another answer.
RETRY_TEMPERATURE = 0.5


def _newest(new: Any, old: Any) -> bool:
    return True


@dataclass(frozen=True)
class Question:
    """One thing to be generated.

    `request` makes the request of an attempt (counted from 0; its seed differs by attempt).
    `check` reads the answer's text and returns what it is worth and, when it fails, the reason.
    `better` says of two values that failed whether the new one replaces the old one.
    """

    request: Callable[[int], Request]
    check: Callable[[str], tuple[Any, str | None]]
    better: Callable[[Any, Any], bool] = _newest


@dataclass
class Outcome:
    """The best answer's value; `reason` says what that answer failed, or is None.

    `attempts` counts all that were made, also those after the answer that is kept.
    """

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

    Of a question that never passes, the best value is kept: any value before none, and of two
    values the one that its `better` prefers.
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
                (None, storable(response.error))
                if response.error
                else questions[index].check(storable(response.text))
            )
            if reason is not None:
                failed.append(index)
            if reason is None or _improves(questions[index], value, outcomes[index].value):
                outcomes[index] = Outcome(value, reason)
            outcomes[index].attempts = attempt + 1
        open_questions = failed
    return outcomes


def _improves(question: Question, new: Any, old: Any) -> bool:
    """Whether a value that failed is kept instead of an earlier one that failed."""
    return old is None or (new is not None and question.better(new, old))


def sampling_of(sampling: Sampling, attempt: int) -> Sampling:
    """How tokens are drawn at an attempt (counted from 0).

    At temperature 0 the same request has the same answer whatever its seed, so from the second
    attempt on it is asked at `RETRY_TEMPERATURE`, with `top_p` as it is set.
    """
    if attempt == 0 or sampling.temperature > 0:
        return sampling
    return sampling.model_copy(update={"temperature": RETRY_TEMPERATURE})
