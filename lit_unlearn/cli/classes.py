"""Classes that a config may name: they are loaded before parsing, and found as subclasses."""

import inspect
from collections.abc import Iterator
from importlib import import_module

__all__ = ["family", "load_classes"]

_MODULES = (
    "lit_unlearn.data.contexts",
    "lit_unlearn.gradients.combination",
    "lit_unlearn.gradients.weighting",
    "lit_unlearn.objectives",
    "lit_unlearn.teachers",
)
"""Modules with the classes of a run."""


def load_classes(*more: str) -> None:
    """Import the classes of a run, so that a config can name them without their module.

    `more` are further modules with classes that the command uses.
    """
    for name in (*_MODULES, *more):
        module = import_module(name)
        for exported in getattr(module, "__all__", ()):
            getattr(module, exported)  # a package may import its names on first use


def family(base: type) -> Iterator[type]:
    """Yield a class and its loaded subclasses, except abstract and private ones."""
    if not inspect.isabstract(base) and not base.__name__.startswith("_"):
        yield base
    children: list[type] = type.__subclasses__(base)
    for child in children:
        yield from family(child)
