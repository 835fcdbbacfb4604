import asyncio
from typing import Any

from engine.generation.protocol import Request
from engine.recipe import Sampling
from engine.stages.asking import RETRY_TEMPERATURE, Question, ask, sampling_of
from engine.stages.stage import Tally
from tests.stages.answers import Answers


def question(name: str, wanted: str) -> Question:
    def request(attempt: int) -> Request:
        return Request(name, (f"{name}{attempt}",), Sampling(), seed=attempt)

    def check(text: str) -> tuple[str, str | None]:
        return text, None if text == wanted else "not wanted"

    return Question(request, check)


def test_only_failed_questions_are_asked_again() -> None:
    generator, tally = Answers(lambda request: str(request.content[0])), Tally()
    questions = [question("a", "a0"), question("b", "b2"), question("c", "never")]
    outcomes = asyncio.run(ask(generator, questions, 3, tally))
    assert [(o.value, o.reason, o.attempts) for o in outcomes] == [
        ("a0", None, 1),
        ("b2", None, 3),
        ("c2", "not wanted", 3),
    ]
    assert tally.requests == 1 + 3 + 3
    assert tally.output_tokens == 7


def test_a_generator_error_is_a_reason() -> None:
    def refuse(request: Request) -> str:
        raise ValueError("refused")

    outcome = asyncio.run(ask(Answers(refuse), [question("a", "a")], 2, Tally()))[0]
    assert (outcome.value, outcome.reason, outcome.attempts) == (None, "refused", 2)


def test_no_question_asks_nothing() -> None:
    assert asyncio.run(ask(Answers(lambda request: ""), [], 3, Tally())) == []


def ask_in_turn(answers: list[str], **settings: Any) -> tuple[Any, str | None, int]:
    """Ask one question that never passes; an answer "!" is an error of the generator."""
    turns = iter(answers)

    def answer(request: Request) -> str:
        text = next(turns)
        if text == "!":
            raise ValueError("refused")
        return text

    def check(text: str) -> tuple[str | None, str | None]:
        return text or None, f"failed with '{text}'"

    asked = Question(question("q", "").request, check, **settings)
    outcome = asyncio.run(ask(Answers(answer), [asked], len(answers), Tally()))[0]
    return outcome.value, outcome.reason, outcome.attempts


def test_a_value_is_not_lost_to_a_later_attempt_that_has_none() -> None:
    assert ask_in_turn(["some", "", "!"]) == ("some", "failed with 'some'", 3)
    assert ask_in_turn(["", "some", "!"]) == ("some", "failed with 'some'", 3)
    assert ask_in_turn(["", "!"]) == (None, "refused", 2)


def test_of_values_that_failed_the_newest_or_the_better_is_kept() -> None:
    assert ask_in_turn(["long", "longer", "short"]) == ("short", "failed with 'short'", 3)

    def longer(new: str, old: str) -> bool:
        return len(new) > len(old)

    assert ask_in_turn(["long", "longer", "short"], better=longer) == ("longer", "failed with 'longer'", 3)


def test_only_a_greedy_request_is_asked_again_at_another_temperature() -> None:
    greedy, warm = Sampling(temperature=0, top_p=0.8, max_tokens=7), Sampling(temperature=0.3)
    assert sampling_of(greedy, 0) == greedy
    again = Sampling(temperature=RETRY_TEMPERATURE, top_p=0.8, max_tokens=7)
    assert RETRY_TEMPERATURE > 0 and sampling_of(greedy, 1) == sampling_of(greedy, 2) == again
    assert [sampling_of(warm, attempt) for attempt in range(3)] == [warm] * 3
