"""Types of `fuzz_readers.py`: a reader with its seeds, and an attack."""

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
    """Valid files, and attacks."""
    read: Callable[[bytes, random.Random], None]
    """Function that reads an input; the random generator chooses options."""
    endless: bool = False
    """Whether inputs may compute for ever, so that they need a time limit."""
    slow: tuple[bytes, ...] = ()
    """Attacks that are tried once, unchanged."""


class Evil:
    """Object that creates a mark if a reader runs code while it loads the object."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.mark),)
