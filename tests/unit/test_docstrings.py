"""Every public method has a docstring, and every module lists its public names."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterator
from importlib import import_module

import lit_unlearn


def modules() -> Iterator[str]:
    for found in pkgutil.walk_packages(lit_unlearn.__path__, "lit_unlearn."):
        if not found.name.endswith("__main__"):
            yield found.name


def test_public_methods_are_documented() -> None:
    missing = [
        f"{cls.__module__}.{cls.__qualname__}.{name}"
        for module in modules()
        for _, cls in inspect.getmembers(import_module(module), inspect.isclass)
        if cls.__module__ == module and not cls.__name__.startswith("_")
        for name, member in vars(cls).items()
        if inspect.isfunction(member) and not name.startswith("_") and not inspect.getdoc(member)
        if not any(hasattr(base, name) for base in cls.__mro__[1:])
    ]
    assert len(list(modules())) > 100
    assert not missing


def test_every_module_lists_its_public_names() -> None:
    for name in modules():
        module = import_module(name)
        if not module.__file__ or module.__file__.endswith("__init__.py"):
            continue
        listed = set(module.__all__)
        assert all(hasattr(module, each) for each in listed), name
        own = {
            each
            for each, value in vars(module).items()
            if getattr(value, "__module__", None) == name and not each.startswith("_")
            if inspect.isclass(value) or inspect.isfunction(value)
        }
        assert own <= listed, name
