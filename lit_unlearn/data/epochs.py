"""Length of an epoch and of a run in optimizer steps, and the loader of an epoch."""

from collections.abc import Mapping
from typing import Any

from torch import Generator
from torch.utils.data import DataLoader, Dataset, Sampler

from lit_unlearn.data.mixing import StepPlan
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.errors import InputError, check_number, did_you_mean
from lit_unlearn.types import TokenBatch

__all__ = ["EpochSteps", "StepBatch", "StepDataset", "StepLoader", "checked_epoch", "limited"]
__all__ += ["run_steps"]

StepBatch = dict[str, list[TokenBatch]]


def limited(length: int, trainer: Any) -> int:
    """Return the steps of an epoch of that length under `limit_train_batches` of a trainer."""
    limit = trainer.limit_train_batches
    return min(length, limit) if isinstance(limit, int) else int(length * limit)


def run_steps(trainer: Any, length: int) -> int:
    """Return the steps of a run: those of `max_steps` or `max_epochs`, whichever come first.

    Args:
        trainer: Trainer, or its settings, with `max_steps`, `max_epochs` and
            `limit_train_batches`.
        length: Steps of one epoch; 0 if they are not known, so that only `max_steps` counts.

    Returns:
        The number of steps; 0 if it is not known.
    """
    steps, epochs = trainer.max_steps, trainer.max_epochs
    limits = [steps] if steps is not None and steps >= 0 else []
    if epochs is not None and epochs >= 0 and length:
        limits.append(epochs * limited(length, trainer))
    return min(limits, default=0)


class EpochSteps(Sampler[int]):
    """Steps from the trainer's current one to the end of its epoch, or of the run.

    The length is that of a whole epoch, as Lightning counts on resume.
    """

    def __init__(self, trainer: Any, length: int, steps: int) -> None:
        self.trainer, self.length, self.steps = trainer, length, steps

    def __len__(self) -> int:
        whole = limited(self.length, self.trainer) == self.length
        return min(self.length, self.steps) if whole else self.length

    def __iter__(self) -> Any:
        step, length = self.trainer.global_step, limited(self.length, self.trainer)
        return iter(range(step, min(step - step % length + length, self.steps)))


def checked_epoch(epoch: int | str | None, objectives: Mapping[str, ObjectiveData]) -> int | str:
    """Return the length of an epoch, or the name of the objective that has it."""
    if epoch is None:
        declining = (name for name, data in objectives.items() if data.expect == "decline")
        return next(declining, next(iter(objectives)))
    if isinstance(epoch, str) and epoch not in objectives:
        hint = did_you_mean(epoch, objectives)
        raise InputError(
            "Parameter `data.epoch` should be a number of steps or the name of an objective: "
            f"{', '.join(objectives)}. Found {epoch!r}{'; ' * bool(hint)}{hint or '.'}"
        )
    if isinstance(epoch, int):
        check_number("data.epoch", epoch, 1)
    return epoch


class StepLoader(DataLoader[StepBatch]):
    """Loader that needs no state to resume, since it starts at the trainer's step.

    `state_dict` and `load_state_dict` tell Lightning that there is no state.
    """

    def __iter__(self) -> Any:
        """Iterate over an epoch; only the first takes a number from the generator of dropout."""
        steps = super().__iter__()
        self.generator = Generator()
        return steps

    def state_dict(self) -> dict[str, int]:
        """Return no state, since the checkpoint already has the step."""
        return {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        """Load nothing."""


class StepDataset(Dataset[StepBatch]):
    """Dataset whose item k is the batch of optimizer step k on this rank."""

    def __init__(self, data: Any, plan: StepPlan, steps: int) -> None:
        self.data, self.plan, self.steps = data, plan, steps

    def __len__(self) -> int:
        return self.steps

    def __getitem__(self, step: int) -> StepBatch:
        batch: StepBatch = self.data.batch(self.plan.step(step), self.plan.busiest().step(step))
        return batch
