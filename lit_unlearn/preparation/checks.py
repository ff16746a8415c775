"""What is checked before anything costs time: names of objectives, and the trainer's settings."""

from __future__ import annotations

from collections.abc import Iterable

from lit_unlearn.schema import InputError


def check_names(objectives: Iterable[str], data: Iterable[str]) -> None:
    """Compare the names of `model.objectives` and `data.objectives`.

    Raises:
        InputError: One side has a name that the other has not.
    """
    losses, rows = set(objectives), set(data)
    if losses == rows:
        return
    missing = [
        f"`model.objectives.{n}` has no `data.objectives.{n}`" for n in sorted(losses - rows)
    ]
    missing += [
        f"`data.objectives.{n}` has no `model.objectives.{n}`" for n in sorted(rows - losses)
    ]
    raise InputError(
        "Every objective should have both data and a loss of the same name. Found: "
        + "; ".join(missing)
        + ". Add what is missing, or remove an objective with null."
    )


def check_trainer(precision: str, processes: int, max_steps: int) -> None:
    """See that training can run as the trainer is set.

    Args:
        precision: `trainer.precision`, as Lightning took it.
        processes: How many processes train.
        max_steps: Optimizer steps.

    Raises:
        InputError: It cannot.
    """
    if precision == "16-mixed":
        raise InputError(
            "Parameter `trainer.precision` should not be 16-mixed: gradients of objectives "
            "would be compared and clipped before they are unscaled. Use bf16-mixed."
        )
    if processes > 1:
        raise InputError(
            "Parameter `trainer.devices` should be 1: training on several devices is not "
            f"supported yet. Found {processes} processes."
        )
    if max_steps < 1:
        raise InputError(
            "Parameter `trainer.max_steps` should be the number of optimizer steps. Found "
            f"{max_steps}; set for example --trainer.max_steps 60 (epochs differ between "
            "objectives, so steps count)."
        )
