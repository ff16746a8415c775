"""Options by likelihood and by what a reply names."""

from __future__ import annotations

import pytest

from lit_unlearn.metrics.functional.choices import chosen_option, option_score

PLANETS = ["Mars", "Jupiter", "Venus"]


def test_option_scores_by_hand() -> None:
    """Tokens of -1 and -3 for a text of 8 characters: -4, -2, -0.5."""
    assert option_score([-1.0, -3.0], "eight ch", "sum") == -4
    assert option_score([-1.0, -3.0], "eight ch", "token") == -2
    assert option_score([-1.0, -3.0], "eight ch", "character") == -0.5


@pytest.mark.parametrize(
    "reply",
    [
        "B",
        " B.",
        "(B)",
        "**B**",
        "B) Jupiter",
        "B: it is the largest",
        "B\nbecause",
        "The answer is B",
        "The correct answer is: B.",
        "Answer: (B)",
        "I choose option B, since A is small",
        "Jupiter",
        "It is jupiter, the gas giant.",
    ],
)
def test_replies_that_name_the_second_option(reply: str) -> None:
    assert chosen_option(reply, PLANETS) == 1


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "I cannot say.",
        "A planet is hard to choose",
        "Mars or Venus",
        "D",
        "Saturn",
        "I'm sorry",
    ],
)
def test_replies_that_name_none(reply: str) -> None:
    assert chosen_option(reply, PLANETS) is None


def test_an_option_inside_another_does_not_count() -> None:
    options = ["York", "New York", "Boston"]
    assert chosen_option("It is New York.", options) == 1
    assert chosen_option("It is York.", options) == 0


def test_empty_options_are_never_named() -> None:
    assert chosen_option("Jupiter", ["", "Jupiter", ""]) == 1
    assert chosen_option("nothing", ["", "Jupiter", ""]) is None
