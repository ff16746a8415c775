"""The form of a reader for `fuzz_readers.py`: true files to start from, and how it reads."""

from __future__ import annotations

import os
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Reader:
    """A reader with its inputs."""

    name: str
    seeds: list[bytes]
    """True files, and attacks."""
    read: Callable[[bytes, random.Random], None]
    """Reads an input; the random generator chooses how."""
    endless: bool = False
    """Whether inputs may compute for ever, so that they must be broken off."""
    slow: tuple[bytes, ...] = ()
    """Attacks that are tried once, as they are."""


class Evil:
    """Leaves a mark when it is loaded by a reader that runs code."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
