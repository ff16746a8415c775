"""Suites that the command line can name, and their descriptions."""

import inspect
import pkgutil
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any

from lit_unlearn.cli.classes import family
from lit_unlearn.cli.config import Config
from lit_unlearn.errors import InputError, did_you_mean
from lit_unlearn.evaluation import suites
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.evaluation.suites.answers import Answers

__all__ = ["choose_suites", "find_suite", "known_suites", "suite_lines"]


def known_suites() -> dict[str, type[Suite]]:
    """Return the suites that a config can name, by name, in alphabetical order."""
    for module in pkgutil.iter_modules(suites.__path__, f"{suites.__name__}."):
        import_module(module.name)
    classes: list[type[Suite]] = list(family(Suite))
    own = [cls for cls in classes if cls.__module__.startswith(f"{suites.__name__}.")]
    own.remove(Answers)  # takes rows, not settings
    return {cls.name: cls for cls in sorted(own, key=lambda cls: cls.name)}


def find_suite(name: str) -> type[Suite]:
    """Return the class of a suite; an `InputError` about an unknown name suggests others."""
    known = known_suites()
    if name in known:
        return known[name]
    hint = did_you_mean(name, known, otherwise=f"the suites are {', '.join(known)}")
    raise InputError(f"--suite {name}: unknown suite; {hint}")


def choose_suites(config: Config, names: Sequence[str]) -> Config:
    """Return a config with only the named suites; suites that it lacks get their defaults.

    Without names, all suites of the config are chosen.

    Raises:
        InputError: There is no suite, or a name is unknown.
    """
    configured = config.values.get("suites") or {}
    if not names and not configured:
        raise InputError(
            "--suite: expected at least one suite, found none; name one (--suite tofu), or give a "
            f"config with suites (--config FILE). The suites are {', '.join(known_suites())}"
        )
    if not names:
        return config
    chosen: dict[str, Any] = {
        name: configured[name] if name in configured else {"class_path": _path(find_suite(name))}
        for name in names
    }
    return Config({**config.values, "suites": chosen}, config.origins)


def suite_lines(classes: Mapping[str, type[Suite]]) -> str:
    """Return name and first sentence of each suite, one per line."""
    width = max(map(len, classes), default=0)
    docs = {name: (inspect.getdoc(cls) or "").split("\n", 1)[0] for name, cls in classes.items()}
    return "\n".join(f"  {name:{width}}  {first}" for name, first in docs.items())


def _path(cls: type[Suite]) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"
