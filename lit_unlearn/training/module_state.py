"""State that a run's module adds to a checkpoint, and the check that a checkpoint fits the run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import Rule

if TYPE_CHECKING:
    from lit_unlearn.training.module import UnlearnModule

__all__ = ["add_state", "check_optimizer", "check_state", "optimizer_class", "restore_rules"]
__all__ += ["restore_state"]

_LEARNT = "weightings"
"""Key of the learnt state of weightings in a checkpoint."""
_OPTIMIZER = "optimizer"
"""Key of the optimizer's class; its state alone does not tell SGD's from AdamW's."""
_SKIPPED = "skipped_steps"
_ANSWERS = "own_answers"
_VALIDATIONS = "validations"
_AVERAGED = "averaging_state"
"""Key of averaged weights, which Lightning reads back as a whole."""


def add_state(checkpoint: dict[str, Any], module: UnlearnModule) -> None:
    """Add the module's own state to Lightning's checkpoint; of weights, trained adapters alone."""
    checkpoint[_LEARNT] = {name: rule.state_dict() for name, rule in module.rules().items()}
    checkpoint[_OPTIMIZER] = optimizer_class(module.make_optimizer)
    checkpoint[_SKIPPED] = module.guard.skipped
    checkpoint[_ANSWERS] = module.own_answers.kept
    checkpoint[_VALIDATIONS] = module.validations
    if module.source.lora is not None and _AVERAGED not in checkpoint:
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {k: v for k, v in state.items() if _is_adapter(k)}


def restore_state(checkpoint: Mapping[str, Any], module: UnlearnModule) -> None:
    """Check that a checkpoint is one of this model, and restore what `add_state` has added."""
    check_state(checkpoint, module)
    module.saved_optimizer = checkpoint.get(_OPTIMIZER)
    module.guard.skipped = checkpoint.get(_SKIPPED, 0)
    module.own_answers.kept = checkpoint.get(_ANSWERS, {})
    module.validations = checkpoint.get(_VALIDATIONS, 0)
    restore_rules(checkpoint, module.rules())


def check_state(checkpoint: Mapping[str, Any], module: UnlearnModule) -> None:
    """Check that weights in a checkpoint have the names and shapes of the module's."""
    state = checkpoint.get("state_dict")
    if state is None:
        return
    whole = module.source.lora is None or _AVERAGED in checkpoint
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
    """Check that the optimizer's class in a checkpoint, None where it has none, is the run's."""
    if before not in (None, now):
        raise InputError(
            f"--ckpt_path: the checkpoint is one of a run with the optimizer {before}. Found {now} "
            f"in `model.optimizer`; set it to {before}, or start a new run from an exported model."
        )


def restore_rules(checkpoint: Mapping[str, Any], rules: Mapping[str, Rule]) -> None:
    """Restore the learnt state of weightings."""
    learnt = checkpoint.get(_LEARNT, {})
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
