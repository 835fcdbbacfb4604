import asyncio

from engine.generation.protocol import Request
from engine.recipe import Sampling
from engine.stages.asking import Question, ask
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
