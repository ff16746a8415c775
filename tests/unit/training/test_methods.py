"""The method card: complete, true to the code, and what docs/methods.md says."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from lit_unlearn import objectives
from lit_unlearn.cli import methods as cli_methods
from lit_unlearn.objectives import Objective
from lit_unlearn.training import methods as methods_card
from tests.unit.objectives.given import CASES, batch_of, given
from tests.unit.objectives.test_objectives import ALL

CARDED = methods_card.classes(objectives, Objective)
NEEDS = {"answers", "teacher", "pairs", "spans", "hidden states", "nothing"}
NEEDS |= {"as the inner objective"}


def test_fact_worked_value() -> None:
    """A label's text goes on in lines that are indented, and ends before the next label."""
    text = "What it is.\n\nFormula: a plus\n    b.\nSource: X 2024.\n"
    assert methods_card.fact(text, "Formula") == "a plus b"
    assert methods_card.fact(text, "Source") == "X 2024"
    assert methods_card.fact(text, "Cost") == "-"


@pytest.mark.parametrize("cls", CARDED, ids=lambda cls: cls.__name__)
def test_every_objective_states_its_facts(cls: type[Objective]) -> None:
    card = methods_card.card(cls)
    assert len(card.formula) > 5
    assert re.search(r"arXiv \d{4}\.\d{5}", card.source)
    needs = set(card.needs.split(", "))
    assert needs <= NEEDS
    if "as the inner objective" not in needs:
        assert ("teacher" in needs) is cls.needs_teacher
    assert re.match(r"student \S+.*, teacher \S+", card.cost)
    documented = "\n".join(inspect.cleandoc(base.__doc__ or "") for base in cls.__mro__)
    for name in inspect.signature(cls).parameters:
        assert f"\n    {name}: " in documented


@pytest.mark.parametrize("name", CASES)
def test_cost_is_what_is_read(name: str) -> None:
    """Sequences that student and teacher read, per row of data, counted."""
    objective, batch = CASES[name].make(), batch_of(CASES[name].groups)
    student, teacher = given(batch), given(batch)
    objective(batch, student, teacher)
    rows = len(CASES[name].groups)
    counted = f"student {student.sequences // rows}, teacher {teacher.sequences // rows}"
    assert methods_card.card(type(objective)).cost == counted


def test_every_carded_objective_is_tried_in_the_property_tests() -> None:
    tried = {type(case.make()) for case in CASES.values()} | {objectives.LatentAdversarial}
    tried |= {type(make()) for make in ALL.values()}
    assert set(CARDED) == tried


def test_recipes_name_what_exists(pytestconfig: pytest.Config) -> None:
    """The classes, and a config that has them, itself or from the base that it is laid over."""
    names = {cls.__name__ for cls in methods_card.classes(objectives, Objective)} | {"-"}
    folder = Path(pytestconfig.rootpath, "configs", "tofu")
    for recipe in methods_card.RECIPES:
        assert {recipe.forget, recipe.retain} <= names
        if recipe.config:
            files = [folder / name for name in ("base.yaml", recipe.config)]
            text = "".join(file.read_text("utf-8") for file in files)
            assert {recipe.forget, recipe.retain} <= {"-", *re.findall(r"\w+", text)}


def test_defaults_and_summary() -> None:
    card = methods_card.card(objectives.SimNPO)
    assert card.defaults == "beta 4.5, delta 0.0"
    assert card.summary.startswith("NPO without a reference")
    assert any(card.source == "arXiv 2001.06782" for card in methods_card.weighting_cards())
    sources = {c.name: c.source for c in methods_card.combination_cards()}
    assert sources["SAGO"] == "arXiv 2604.14808"
    assert set(sources) == {"DualOptimPlus", "RepSelect", "SAGO"}


def test_document_is_up_to_date(
    capsys: pytest.CaptureFixture[str], pytestconfig: pytest.Config
) -> None:
    """If this fails: lit-unlearn methods --markdown > docs/methods.md."""
    cli_methods.main(["methods", "--markdown"])
    stored = Path(pytestconfig.rootpath, "docs", "methods.md").read_text("utf-8")
    assert stored == capsys.readouterr().out
