"""Parts of gpu_check.py, and the packages that they need; standard library only."""

import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal

PYPROJECT = Path(__file__).resolve().parents[1] / "pyproject.toml"
UNUSED = {"torch", "datasets", "gguf", "requests", "tensorboard"}
"""Packages of a default install that these runs do not import, and torch, which is installed."""


@dataclass(frozen=True)
class Settings:
    """Settings of the check."""

    device: Literal["cuda", "cpu"]
    tiny: bool
    """Whether models have a few thousand parameters, for a test on a CPU."""
    folder: Path
    """Folder of everything that is written."""
    data: Path
    """Folder with TOFU."""
    steps: int
    """Steps of a run; the first one does not count."""


@dataclass(frozen=True)
class Part:
    """One part of the check."""

    name: str
    title: str
    kind: Literal["card", "fit", "fsdp2"]
    seconds: int
    """Guessed (not measured) wall time on a large card, for the time budget."""
    config: str = ""
    """Config of `fit`."""
    shape: str = ""
    """Model whose shape is trained."""
    model: dict[str, Any] = field(default_factory=dict)
    """Settings laid over `model` in the config."""
    needs: str = ""
    """Module without which the part is left out."""


_SMALL, _LARGE, _LARGEST = "SmolLM2-135M", "Llama-3.2-1B", "Llama-3.1-8B"
_ADAPTERS = {
    "student": {"lora": {"rank": 16}, "dtype": "bfloat16"},
    "teacher": {"class_path": "AdapterOffTeacher"},
}


def _tofu(name: str, title: str, seconds: int, needs: str = "", **student: Any) -> Part:
    return Part(name, title, "fit", seconds, "tofu", _LARGE, {"student": student}, needs)


PARTS = (
    Part("card", "the card: rates and attention kernels", "card", 25),
    Part("quickstart", "quickstart.yaml", "fit", 45, "quickstart", _SMALL),
    _tofu("tofu", "tofu.yaml", 60),
    Part("lora", "tofu.yaml with LoRA", "fit", 100, "tofu", _LARGEST, _ADAPTERS, "peft"),
    Part("fsdp2", "fsdp2 on one device by none", "fsdp2", 60, "quickstart", _SMALL),
    _tofu("compiled", "tofu.yaml, compiled blocks", 80, compile=True),
    _tofu("eager", "tofu.yaml, eager attention", 45, attention="eager"),
    _tofu("flash", "tofu.yaml, flash_attention_2", 45, "flash_attn", attention="flash_attention_2"),
)


def wheels() -> list[str]:
    """Return the requirements of the parts besides torch, for pip."""
    project = tomllib.loads(PYPROJECT.read_text("utf-8"))["project"]
    needed = [*project["dependencies"], *project["optional-dependencies"]["lora"]]
    return [requirement for requirement in needed if name_of(requirement) not in UNUSED]


def name_of(requirement: str) -> str:
    """Return the name of the package in a requirement."""
    return re.split(r"[^\w-]", requirement, maxsplit=1)[0]


def missing(requirements: Sequence[str]) -> list[str]:
    """Return the requirements of which no version is installed."""
    found = []
    for requirement in requirements:
        try:
            version(name_of(requirement))
        except PackageNotFoundError:
            found.append(requirement)
    return found
