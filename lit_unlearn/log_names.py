"""Names of the logged scalars, each with its unit."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

__all__ = [
    "CONFLICT_RATE",
    "GRADIENT_NORM_TOTAL",
    "LEARNING_RATE",
    "MFU",
    "MODEL_TFLOPS",
    "PADDING_SHARE",
    "PEAK_MEMORY",
    "STEP_SECONDS",
    "STUDENT_TOKENS",
    "TEACHER_TOKENS",
    "cosine_name",
    "figure_name",
    "gradient_norm_name",
    "layer_cosine_name",
    "loss_name",
    "pairs",
    "phase_name",
    "statistic_name",
    "update_cosine_name",
    "weight_name",
]

LEARNING_RATE = "train/learning_rate"
GRADIENT_NORM_TOTAL = "grad_norm/update"  # 2-norm of the combined gradient before clipping
CONFLICT_RATE = "conflict/rate"  # share of objective pairs with a negative cosine, 0 to 1
STEP_SECONDS = "time/step_s"  # wall seconds of one training step
STUDENT_TOKENS = "throughput/student_tokens_per_s"  # real tokens of the rows, without padding
TEACHER_TOKENS = "throughput/teacher_tokens_per_s"  # real tokens, including cached ones
PADDING_SHARE = "throughput/padding_share"  # share of the student's computed positions, 0 to 1
MODEL_TFLOPS = "throughput/model_tflops"  # 10^12 operations a second; see callbacks.Throughput
MFU = "throughput/mfu"  # MODEL_TFLOPS as a share of the device's peak, 0 to 1
PEAK_MEMORY = "memory/peak_gib"  # GiB: resident set on CPU, allocator peak on GPU


def phase_name(phase: str) -> str:
    """Return the name of the wall seconds of one phase of a step."""
    return f"time/{phase}_s"


def loss_name(objective: str) -> str:
    """Return the name of an objective's unweighted loss (unit: see the objective's docstring)."""
    return f"loss/{objective}"


def statistic_name(objective: str, statistic: str) -> str:
    """Return the name of another figure of an objective, such as the mass outside its support."""
    return f"{statistic}/{objective}"


def figure_name(suite: str, figure: str) -> str:
    """Return the name of a figure of an evaluation during training (unit: see the figure)."""
    return f"eval/{suite}/{figure}"


def weight_name(objective: str) -> str:
    """Return the name of the weight of an objective's gradient in the update."""
    return f"weight/{objective}"


def gradient_norm_name(objective: str) -> str:
    """Return the name of the 2-norm of the gradient of an objective's unweighted loss."""
    return f"grad_norm/{objective}"


def cosine_name(first: str, second: str) -> str:
    """Return the name of the cosine of two gradients: -1 to 1, NaN if one is zero or at rest."""
    return f"grad_cos/{first}~{second}"


def layer_cosine_name(first: str, second: str, group: str) -> str:
    """Return the name of the same cosine within one layer group."""
    return f"grad_cos_layers/{first}~{second}/{group}"


def update_cosine_name(objective: str) -> str:
    """Return the name of the cosine, -1 to 1, of an objective's gradient with the update."""
    return f"grad_cos_update/{objective}"


def pairs(objectives: list[str]) -> Iterator[tuple[int, int]]:
    """Return the index pairs ``i < j`` of objectives, in the order in which they are logged."""
    return combinations(range(len(objectives)), 2)
