"""State that a run's module adds to a checkpoint, and the check that a checkpoint fits the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import Rule

__all__ = [
    "LEARNT",
    "OPTIMIZER",
    "add_state",
    "check_optimizer",
    "check_state",
    "optimizer_class",
    "restore_rules",
]

LEARNT = "weightings"
"""Key of the learnt state of weightings in a checkpoint."""
OPTIMIZER = "optimizer"
"""Key of the optimizer's class; its state alone does not tell SGD's from AdamW's."""

_AVERAGED = "averaging_state"
"""Key of averaged weights, which Lightning reads back as a whole."""


def add_state(checkpoint: dict[str, Any], rules: Mapping[str, Rule], *, adapters: bool) -> None:
    """Add the learnt state of weightings to a checkpoint.

    Args:
        checkpoint: Lightning's checkpoint.
        rules: Weightings by name.
        adapters: Whether adapters are trained; then they alone stay of the weights.
    """
    checkpoint[LEARNT] = {name: rule.state_dict() for name, rule in rules.items()}
    if adapters and _AVERAGED not in checkpoint:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if _is_adapter(k)}


def check_state(checkpoint: Mapping[str, Any], module: nn.Module, *, adapters: bool) -> None:
    """Check that a checkpoint is one of the same model.

    Args:
        checkpoint: Lightning's checkpoint; one in slices has no weights here.
        module: The run's module, with its models.
        adapters: Whether adapters are trained.

    Raises:
        InputError: Weights are missing, unknown or of another shape.
    """
    state = checkpoint.get("state_dict")
    if state is not None:
        whole = not adapters or _AVERAGED in checkpoint
        own = {k: v.shape for k, v in module.state_dict().items() if whole or _is_adapter(k)}
        found = {name: value.shape for name, value in state.items()}
        wrong = [name for name in {**own, **found} if own.get(name) != found.get(name)]
        if wrong:
            name = wrong[0]
            raise InputError(
                "--ckpt_path: the checkpoint should be one of this model, with the same "
                f"`model.student` and teacher. Found {len(wrong)} weights that differ, such as "
                f"{name}: {_shape(own.get(name))} here, {_shape(found.get(name))} in the file."
            )


def check_optimizer(before: str | None, now: str) -> None:
    """Check that a checkpoint's optimizer is that of the run.

    Args:
        before: Class in the checkpoint; None where it has none.
        now: Class of the run.

    Raises:
        InputError: It is another.
    """
    if before not in (None, now):
        raise InputError(
            f"--ckpt_path: the checkpoint is one of a run with the optimizer {before}. Found {now} "
            f"in `model.optimizer`; set it to {before}, or start a new run from an exported model."
        )


def restore_rules(checkpoint: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Restore the learnt state of weightings.

    Raises:
        InputError: The checkpoint is one of a run with another weighting.
    """
    learnt = checkpoint.get(LEARNT, {})
    for name, rule in rules.items():
        if name not in learnt:
            raise InputError(
                f"--ckpt_path: the checkpoint holds no state of `model.{name}`. Found that of "
                f"{', '.join(learnt) or 'none'}; give the settings of the run that wrote it."
            )
        rule.load_state_dict(learnt[name])


def optimizer_class(make_optimizer: Any) -> str:
    """Return the name of the class of an optimizer, from one of a small matrix."""
    return type(make_optimizer([nn.Parameter(torch.zeros(2, 2))])).__name__


def _is_adapter(name: str) -> bool:
    return "lora_" in name or "modules_to_save" in name


def _shape(shape: Any) -> str:
    return "none" if shape is None else "x".join(map(str, shape)) or "a number"
