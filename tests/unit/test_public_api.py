"""`import lit_unlearn`: light, complete, and the same for Python and for type checkers."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import subprocess
import sys
from abc import ABC

import pytest
from lightning import Callback

import lit_unlearn
from lit_unlearn import (
    Combination,
    Context,
    LossWeighting,
    Objective,
    Schedule,
    Suite,
    Teacher,
    Weighting,
)

FUNCTIONS = ("evaluate", "interference", "plan", "rewrite", "compare", "sweep", "load_model")
INTERNAL = {"Answers", "KnownAnswers", "RunConfig", "StepLines"}
"""Classes that a config cannot name."""


def test_every_name_can_be_imported() -> None:
    names = lit_unlearn.__all__  # type: ignore[attr-defined]
    found = {name: getattr(lit_unlearn, name) for name in names}
    assert {name: each.__name__ for name, each in found.items()} == {name: name for name in names}
    assert set(names) < set(dir(lit_unlearn))
    assert all(inspect.isfunction(found[name]) for name in FUNCTIONS)
    assert all(inspect.getdoc(each) for each in found.values())


@pytest.mark.parametrize(
    "base",
    [Callback, Combination, Context, LossWeighting, Objective, Schedule, Suite, Teacher, Weighting],
)
def test_every_class_that_a_config_can_name_is_public(base: type) -> None:
    for module in pkgutil.walk_packages(lit_unlearn.__path__, "lit_unlearn."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    named: set[str] = set()
    families = [base]
    while families:
        cls = families.pop()
        families += type.__subclasses__(cls)
        concrete = not inspect.isabstract(cls) and ABC not in cls.__bases__
        if concrete and cls.__module__.startswith("lit_unlearn.") and cls.__name__[0] != "_":
            named.add(cls.__name__)
    assert named - INTERNAL
    assert named - INTERNAL <= set(dir(lit_unlearn))


def test_the_import_is_light() -> None:
    """Under 0.1 s of processor time, without torch, Lightning or numpy."""
    code = (
        "import sys, time; start = time.process_time(); import lit_unlearn;"
        "assert 'PCGrad' in dir(lit_unlearn); spent = time.process_time() - start;"
        "assert not {'torch', 'lightning', 'numpy', 'yaml'} & set(sys.modules); print(spent)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert float(result.stdout) < 0.1


def test_an_unknown_name() -> None:
    with pytest.raises(AttributeError, match="no attribute 'PCGard'"):
        _ = lit_unlearn.PCGard  # type: ignore[attr-defined]
