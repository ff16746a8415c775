"""Nothing under the GPL comes with a default install; read from the installed metadata."""

from importlib.metadata import Distribution, PackageNotFoundError, distribution, requires

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

UNSTATED = {"cuda-toolkit"}
"""NVIDIA's empty package that names the libraries of torch's CUDA build; it states no licence."""


def default_install(root: str) -> dict[str, Distribution]:
    """Every installed distribution that ``pip install root`` brings, without extras."""
    found: dict[str, Distribution] = {}
    seen: set[tuple[str, str]] = set()
    queue = [Requirement(line) for line in requires(root) or [] if "extra ==" not in line]
    while queue:
        needed = queue.pop()
        name = canonicalize_name(needed.name)
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:  # for another platform or Python
            continue
        for extra in {"", *needed.extras} - {e for n, e in seen if n == name}:
            seen.add((name, extra))
            lines = map(Requirement, found[name].requires or [])
            queue += [r for r in lines if not r.marker or r.marker.evaluate({"extra": extra})]
    return found


def licence(package: Distribution) -> str:
    """What the metadata says: the expression, or the first line of the text, and classifiers."""
    data = package.metadata
    text = data.get("License-Expression") or (data.get("License") or "").split("\n")[0]
    named = [c for c in data.get_all("Classifier", []) if c.startswith("License ::")]
    return " ".join([text, *named])


def test_nothing_is_under_the_gpl() -> None:
    try:
        packages = default_install("lit-unlearn")
    except PackageNotFoundError:
        pytest.skip("lit-unlearn is not installed here; `make test` installs it")
    assert {"torch", "lightning", "transformers"} < set(packages)
    licences = {name: licence(package) for name, package in packages.items()}
    assert [n for n, text in licences.items() if "GPL" in text or "GNU" in text] == []
    assert {n for n, text in licences.items() if not text.strip()} <= UNSTATED
