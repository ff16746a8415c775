"""Checks before the first long stage: names of objectives, and the trainer's settings."""

from collections.abc import Iterable
from typing import Any

from lit_unlearn.errors import InputError

__all__ = ["check_length", "check_names", "check_objectives", "check_trainer", "no_teacher"]


def check_objectives(names: Iterable[str]) -> None:
    """Check that there are objectives, with names that a config and the logs can address."""
    found = list(names)
    if not found:
        raise InputError(
            "Parameter `model.objectives` should name at least one objective. Found none."
        )
    for name in found:
        if not name or "." in name:
            raise InputError(
                "Parameter `model.objectives` should have names that are not empty and have no "
                f"dot. Found {name!r}; give the objective another name."
            )


def check_names(objectives: Iterable[str], data: Iterable[str]) -> None:
    """Check that `model.objectives` and `data.objectives` have the same names."""
    losses, rows = set(objectives), set(data)
    if losses == rows:
        return
    missing = [
        f"`{one}.objectives.{name}` has no `{other}.objectives.{name}`"
        for one, other, names in (
            ("model", "data", losses - rows),
            ("data", "model", rows - losses),
        )
        for name in sorted(names)
    ]
    raise InputError(
        "Every objective should have both data and a loss of the same name. Found: "
        + "; ".join(missing)
        + ". Add what is missing, or remove an objective with null."
    )


def no_teacher(name: str) -> InputError:
    """Return the error about an objective whose answers a missing teacher should write."""
    return InputError(
        f"Parameter `data.objectives.{name}.answer` is `teacher`, but the run has no teacher. Set "
        "`model.teacher`, for example to FrozenTeacher, or use another `answer`."
    )


def check_length(trainer: Any) -> None:
    """Check that the settings of a trainer say how many steps a run has."""
    for name in ("max_steps", "max_epochs", "limit_train_batches"):
        if getattr(trainer, name) == 0:
            raise InputError(f"Parameter `trainer.{name}` should be above 0. Found 0.")
    if trainer.max_steps < 1 and (trainer.max_epochs or -1) < 1:
        raise InputError(
            "Parameter `trainer.max_steps` or `trainer.max_epochs` should say how long training is "
            f"at most. Found {trainer.max_steps} and {trainer.max_epochs}; set for example "
            "--trainer.max_steps 60."
        )


def check_trainer(precision: str, dtype: str = "float32") -> None:
    """Check that training can run with the precision and the student's dtype."""
    if precision == "16-mixed":
        raise InputError(
            "Parameter `trainer.precision` should not be 16-mixed: gradients of objectives "
            "would be compared and clipped before they are unscaled. Use bf16-mixed."
        )
    if precision in ("16-true", "transformer-engine-float16") or dtype == "float16":
        name = "model.student.dtype" if dtype == "float16" else "trainer.precision"
        raise InputError(
            f"Parameter `{name}` should not train in float16, found "
            f"{dtype if dtype == 'float16' else precision}: without a loss scale, gradients below "
            "6e-8 become zero. Use bfloat16."
        )
    if precision == "64-true":
        raise InputError(
            "Parameter `trainer.precision` should not be 64-true, for which Lightning copies "
            "batches in a way that fails here. Use 32-true."
        )
    if precision in ("16-true", "bf16-true"):
        raise InputError(
            f"Parameter `trainer.precision` should not be {precision}: the number format of the "
            "weights is `model.student.dtype`. Set that to bfloat16, or use bf16-mixed."
        )
