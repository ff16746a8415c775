"""What memory and time are functions of, beside the rows: a run's models and switches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.reads import Work

Strategy = Literal["single", "ddp", "fsdp2"]
Steps = Sequence[Mapping[str, Sequence[Work]]]
"""For each step the micro batches of each objective, on the device with most rows."""


@dataclass(frozen=True)
class Teaching:
    """The teacher's models."""

    layout: Layout | None
    """None for no teacher."""
    copies: int = 1
    """Models that are held: 0 where it is the student itself."""
    cached: bool = False
    """Whether only the output head is left."""
    fixed: bool = True
    """Whether its logits could be cached: it is neither moving nor a difference of two models."""


@dataclass(frozen=True)
class Run:
    """Everything but the rows that the figures depend on."""

    student: Layout
    teaching: Teaching
    compute_bytes: int
    """c, of the number format in which matrices are multiplied."""
    mixed: bool
    """Whether float32 weights are cast for it (autocast)."""
    checkpointing: bool
    eager: bool
    """Whether attention probabilities are written down."""
    kept: bool
    """Whether the objectives' gradients are kept side by side on the dearest step."""
    further: int
    """Gradients that a combination needs beside these."""
    sketched: bool
    optimizer_bytes: float
    """State of one trained element."""
    accelerator: Literal["cpu", "gpu"]
    strategy: Strategy = "single"
    devices: int = 1
    gathered_bytes: int = 4
    """Of a gathered weight, under `fsdp2`."""

    @property
    def residual_bytes(self) -> int:
        """r, of the hidden states between blocks."""
        return 4 if self.mixed else self.compute_bytes

    def shard(self, size: float) -> int:
        """The part of something divided among devices."""
        return round(size / self.devices if self.strategy == "fsdp2" else size)
