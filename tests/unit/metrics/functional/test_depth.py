"""Erased shares and the linear probe: worked values, and states that are made by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.depth import Array, erased_share, linear_probe


@pytest.mark.parametrize(
    ("own", "reference", "expected"),
    [
        ([0.01, 0.5, 1.0], [0.02, 0.4, 2.0], (0.4 + 1.0) / 2.4),  # block 1 does not count
        ([-1.0, 0.1], [1.0, 1.0], 0.05),  # a rise erases nothing
        ([1.0, 2.0], [1.0, 2.0], 1.0),
        ([0.0, 0.0], [1.0, 2.0], 0.0),
        ([9.0, 9.0], [0.05, -1.0], math.nan),  # the retain model lacks nothing
        ([math.nan, 0.5], [1.0, 1.0], math.nan),
        ([math.nan, 0.5], [0.0, 1.0], 0.5),
    ],
)
def test_the_erased_share(own: list[float], reference: list[float], expected: float) -> None:
    assert erased_share(own, reference) == pytest.approx(expected, nan_ok=True)


def test_a_mean_of_layer_ratios_weighted_by_the_retain_models_falls() -> None:
    """The formula as the paper writes it: sum of ref * clip(own / ref, 0, 1) over sum of ref."""
    rng = np.random.default_rng(0)
    own, theirs = rng.normal(1, 1, 12), rng.uniform(0.1, 2, 12)
    expected = (theirs * np.clip(own / theirs, 0, 1)).sum() / theirs.sum()
    assert erased_share(own.tolist(), theirs.tolist()) == pytest.approx(expected)


RIGHT = [[True, False, False]] * 12


def answers(strength: float, noise: float = 0.3) -> list[Array]:
    """States ``[3, 2, 8]`` of 12 questions: at the second block a direction marks right answers."""
    rng = np.random.default_rng(1)
    direction = rng.normal(size=8)
    found = []
    for _ in RIGHT:
        states = rng.normal(size=(1, 2, 8)) * 5 + noise * rng.normal(size=(3, 2, 8))
        states[0, 1] += strength * direction
        found.append(states)
    return found


def test_a_direction_that_marks_right_answers_is_found_on_other_questions() -> None:
    found = linear_probe(answers(1.0), RIGHT)
    assert found is not None
    assert found.chosen.mean() == found.by_block[:, 1].mean() == 1.0
    assert found.by_block[:, 0].mean() < 0.8


def test_states_that_say_nothing_are_at_chance() -> None:
    """36 rankings of noise: 0.5, give or take 0.2."""
    found = linear_probe(answers(0.0), RIGHT)
    assert found is not None
    assert abs(found.by_block.mean() - 0.5) < 0.2


def test_equal_states_are_exactly_at_chance() -> None:
    found = linear_probe([np.ones((3, 2, 8))] * 12, RIGHT)
    assert found is not None
    assert (found.chosen == 0.5).all()


def test_neither_the_question_nor_the_order_of_answers_counts() -> None:
    states = answers(0.3)
    plain = linear_probe(states, RIGHT)
    shifted = linear_probe([each + 7 * index for index, each in enumerate(states)], RIGHT)
    turned = linear_probe([each[::-1] for each in states], [row[::-1] for row in RIGHT])
    assert plain is not None
    assert shifted is not None
    assert turned is not None
    np.testing.assert_array_equal(plain.chosen, shifted.chosen)
    np.testing.assert_array_equal(plain.by_block, turned.by_block)


def test_too_few_questions_and_questions_without_a_wrong_answer() -> None:
    assert linear_probe(answers(1.0)[:2], RIGHT[:2]) is None
    with pytest.raises(InputError, match="right and wrong"):
        linear_probe(answers(1.0)[:3], [[True, True, True]] * 3)
