"""`lit-unlearn methods`: the list and the cards."""

from __future__ import annotations

import pytest

from lit_unlearn.cli import methods as cli_methods
from lit_unlearn.errors import InputError
from lit_unlearn.training import methods as methods_card


def printed(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    cli_methods.main(["methods", *args])
    return capsys.readouterr().out


def test_list_has_a_line_for_each(capsys: pytest.CaptureFixture[str]) -> None:
    """Names stand first in their lines, whole, also where the terminal is 80 columns wide."""
    firsts = [line.split("  ")[1] for line in printed(capsys).splitlines() if line[:2] == "  "]
    kinds = [cards() for _, cards in cli_methods._KINDS.values()]
    for each in [*(card for cards in kinds for card in cards), *methods_card.RECIPES]:
        assert each.name in firsts


def test_card_has_the_facts(capsys: pytest.CaptureFixture[str]) -> None:
    """SimNPO is a class and a published method; both are shown, whatever the name's case."""
    text = " ".join(printed(capsys, "simnpo").split())
    (card,) = (each for each in methods_card.objective_cards() if each.name == "SimNPO")
    for fact in (card.formula, card.needs, card.cost, card.defaults, card.source, card.summary):
        assert fact in text
    assert "SimNPO (published method)" in text
    assert "configs/tofu/simnpo.yaml" in text
    assert "lit-unlearn fit --model.objectives.help SimNPO" in text


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("GRU", "OneSidedProjection (weighting)"),
        ("mollm", "MGDA (weighting)"),
        ("DWA", "DynamicWeightAverage (weighting of losses)"),
        ("LAT", "LatentAdversarial (objective)"),
        ("circuit breakers", "Circuit breakers (published method)"),
        ("sago", "SAGO (combination, instead of a weighting)"),
    ],
)
def test_finds_what_papers_call_otherwise(
    capsys: pytest.CaptureFixture[str], name: str, shown: str
) -> None:
    assert shown in printed(capsys, name)


def test_several_names(capsys: pytest.CaptureFixture[str]) -> None:
    text = printed(capsys, "PCGrad", "DUET")
    assert text.index("PCGrad (weighting)") < text.index("DUET (published method)")
    assert "MGDA" not in text


@pytest.mark.parametrize(
    ("name", "repair"),
    [("PCGard", "did you mean PCGrad"), ("xyzzy", "lit-unlearn methods lists all")],
)
def test_unknown_name(capsys: pytest.CaptureFixture[str], name: str, repair: str) -> None:
    """Nothing is shown, not even of the names that are known."""
    with pytest.raises(InputError, match=repair):
        cli_methods.main(["methods", "NPO", name])
    assert capsys.readouterr().out == ""
