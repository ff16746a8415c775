"""What an annotated constructor accepts: its parameters, and the classes that may stand for each.

Used to explain mistakes, and to load the classes that a config may name; jsonargparse decides what
is accepted.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator, Sequence
from dataclasses import is_dataclass
from enum import Enum
from importlib import import_module
from pathlib import PurePath
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

_NAMED_CLASSES = (
    "lit_unlearn.data.contexts",
    "lit_unlearn.gradients.combination",
    "lit_unlearn.gradients.weighting",
    "lit_unlearn.objectives",
    "lit_unlearn.teachers",
)
"""Modules with the classes of a run."""


def load_classes(*more: str) -> None:
    """Import the classes of a run before parsing: one that is loaded can be given by its bare name.

    Args:
        more: Further modules with classes that the command takes.
    """
    for name in (*_NAMED_CLASSES, *more):
        import_module(name)


def parameters(made_by: Callable[..., object]) -> dict[str, Any]:
    """Parameters with their types, also those that ``**kwargs`` hands to a base class.

    Args:
        made_by: A class or a function.
    """
    if not isinstance(made_by, type):
        return _named(made_by, skip=0)[0]
    found: dict[str, Any] = {}
    for cls in inspect.getmro(made_by)[:-1]:
        if "__init__" in vars(cls):
            own, more = _named(vars(cls)["__init__"], skip=1)
            found = {**own, **found}
            if not more:
                break
    return found


def _named(function: Callable[..., object], skip: int) -> tuple[dict[str, Any], bool]:
    """Named parameters after the first ``skip``, and whether there are ``**kwargs``."""
    given = list(inspect.signature(function).parameters.values())[skip:]
    try:
        hints = get_type_hints(inspect.unwrap(function))
    except (NameError, TypeError, AttributeError):  # a name that exists for type checkers only
        hints = {}
    variable = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    named = {p.name: hints.get(p.name, Any) for p in given if p.kind not in variable}
    return named, any(p.kind is inspect.Parameter.VAR_KEYWORD for p in given)


def alternatives(annotation: object) -> Iterator[object]:
    """The members of a union, without None; of any other annotation itself."""
    origin = get_origin(annotation)
    if origin is Annotated:
        yield from alternatives(get_args(annotation)[0])
    elif origin in (Union, types.UnionType):
        for part in get_args(annotation):
            yield from alternatives(part)
    elif annotation is not type(None):
        yield annotation


def element_types(parts: Sequence[object], container: type) -> list[object]:
    """Types of the values in the members of a union that are such containers.

    Args:
        parts: Members of a union.
        container: ``Sequence`` or ``Mapping``, from `collections.abc`.
    """
    found = []
    for part in parts:
        origin = get_origin(part)
        if isinstance(origin, type) and issubclass(origin, container):
            found.append(get_args(part)[-1 if len(get_args(part)) == 2 else 0])
    return found


def bases_of(parts: Sequence[object]) -> list[type]:
    """Classes of which a config may name a subclass, for the members of a union."""
    return [base for part in parts for base in _bases(part)]


def _bases(part: object) -> Iterator[type]:
    """The annotation's class, or what a callable makes, or what a list holds."""
    if isinstance(part, type) and get_origin(part) is None:
        if part.__module__ != "builtins":
            yield part
        return
    origin = get_origin(part)
    if origin is Callable or (isinstance(origin, type) and issubclass(origin, Sequence | Callable)):
        for made in get_args(part)[-1:]:
            yield from bases_of(list(alternatives(made)))


def takes_class_names(part: object) -> bool:
    """Whether a plain string for this annotation can only be the name of a class."""
    bases = bases_of([part])
    return bool(bases) and not any(map(_takes_values, bases))


def _takes_values(cls: type) -> bool:
    """Return whether a config may give the values of a class without its name."""
    plain = is_dataclass(cls) and not inspect.isabstract(cls)
    return plain or issubclass(cls, Enum | PurePath)


def family(base: type) -> Iterator[type]:
    """A class and all below it, without the abstract and the private ones."""
    if not inspect.isabstract(base) and not base.__name__.startswith("_"):
        yield base
    children: list[type] = type.__subclasses__(base)
    for child in children:
        yield from family(child)


def find_class(name: str, bases: Sequence[type]) -> Callable[..., object] | None:
    """What a class path names; None if there is nothing of that name.

    Args:
        name: A dotted path, or the bare name of a subclass of ``bases``.
        bases: The classes below which a bare name is looked for.
    """
    module, _, last = name.rpartition(".")
    if not module:
        return next((c for base in bases for c in family(base) if c.__name__ == last), None)
    try:
        found = getattr(import_module(module), last, None)
    except ImportError:
        return None
    return found if callable(found) else None
