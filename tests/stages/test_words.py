import pytest

from engine.stages.words import clean, contains, repeats, tokens


@pytest.mark.parametrize(
    ("phrase", "original", "expected"),
    [
        ("fox", "fox", True),
        ("foxes", "fox", True),
        ("red fox", "fox", True),
        ("foxglove", "fox", False),
        ("vixen", "fox", False),
        ("end of day", "end of line", True),
        ("time of day", "end of line", False),
    ],
)
def test_repeats_finds_forms_of_the_word(phrase: str, original: str, expected: bool) -> None:
    assert repeats(phrase, original) is expected


@pytest.mark.parametrize(
    ("text", "phrase", "expected"),
    [
        ("A quiet Journey home.", "journey", True),
        ("Journeys home", "journey", False),
        ("catch the cat", "cat", True),
        ("catch it", "cat", False),
        ("the well-being of all", "well-being", True),
        ("coming of age", "coming of age", True),
        ("anything", "", False),
    ],
)
def test_contains_means_whole_words(text: str, phrase: str, expected: bool) -> None:
    assert contains(text, phrase) is expected


def test_clean_strips_what_models_put_around_words() -> None:
    assert clean('  "Quiet  Joy." ') == "quiet joy"
    assert clean("**") == ""
    assert clean("quiet\x00\njoy") == "quiet joy"


def test_tokens_keep_letters_of_every_script() -> None:
    assert tokens("Été à l'école, 東京!") == ["été", "à", "l'école", "東京"]
