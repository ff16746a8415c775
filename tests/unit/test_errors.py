"""Errors that a user can repair: suggestions for misspelt names."""

import pytest

from lit_unlearn.errors import did_you_mean


def test_suggestions() -> None:
    known = ["PCGrad", "CAGrad", "MGDA"]
    assert did_you_mean("PCGard", known) == "did you mean PCGrad?"
    assert did_you_mean("pcgrad", known, prefix="--") == "did you mean --PCGrad?"
    assert did_you_mean("AGrad", known, most=2) == "did you mean CAGrad or PCGrad?"


@pytest.mark.parametrize("known", [[], ["MGDA"]])
def test_nothing_is_similar(known: list[str]) -> None:
    assert did_you_mean("xyzzy", known) == ""
    assert did_you_mean("xyzzy", known, otherwise="see --help") == "see --help"
