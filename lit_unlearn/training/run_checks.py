"""Checks of a whole run before anything is loaded: settings, names, needs, callbacks, monitors."""

from collections.abc import Mapping
from typing import Any

from lightning import Callback, Trainer
from lightning.pytorch.callbacks import (
    BackboneFinetuning,
    BatchSizeFinder,
    GradientAccumulationScheduler,
    LearningRateFinder,
    ModelCheckpoint,
    ModelPruning,
)

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.distributed.strategy import check_strategy
from lit_unlearn.errors import InputError
from lit_unlearn.objectives import DeclineEverywhere, Objective
from lit_unlearn.objectives.objective import check_teacher
from lit_unlearn.training.module_state import optimizer_class
from lit_unlearn.training.monitors import check_monitors
from lit_unlearn.training.setup.checks import (
    check_length,
    check_names,
    check_trainer,
    no_teacher,
)
from lit_unlearn.training.validation import validation_names
from lit_unlearn.utils.library_internals import saves_by_time

__all__ = ["check_needs", "check_parts", "check_run"]

_REFUSED: dict[type[Callback], str] = {
    LearningRateFinder: "sweep the rate with --sweep.model.optimizer.init_args.lr",
    BatchSizeFinder: "set data.micro_batch_rows as `lit-unlearn plan` proposes",
    GradientAccumulationScheduler: "set data.micro_batch_rows, which accumulates inside a step",
    BackboneFinetuning: "set model.student.trainable to what is trained",
    ModelPruning: "prune the exported model",
}
"""Callbacks of Lightning that need automatic optimisation, and what to do instead."""


def check_run(trainer: Trainer, module: Any, data: Any) -> None:
    """Check that a run of an `UnlearnModule` on an `UnlearnDataModule` can be trained."""
    check_trainer(str(trainer.precision), module.source.dtype)
    check_length(trainer)
    _check_step(trainer)
    _check_callbacks(trainer)
    check_parts(trainer, module, data)
    try:  # the optimizer of one small matrix checks its own settings
        optimizer_class(module.make_optimizer)
    except (TypeError, ValueError) as error:
        raise InputError(f"Parameter `model.optimizer`: {' '.join(str(error).split())}") from error
    validation = validation_names(trainer, module, data)
    check_monitors(trainer, module.objectives, data, validation)


def check_parts(trainer: Trainer, module: Any, data: Any) -> None:
    """Check that strategy, objectives and data fit together, for training or validation."""
    check_strategy(trainer, adapters=module.source.lora is not None)
    check_names(module.objectives.keys(), data.objectives.keys())
    if trainer.world_size > 1 and any(own.answer == "student" for own in data.objectives.values()):
        raise InputError(
            "Parameter `answer` of an objective's data is `student`, which works on one device. "
            f"Found {trainer.world_size}; set `trainer.devices` to 1, or `answer: gold`."
        )
    check_needs(module.objectives, data.objectives, has_teacher=module.teacher is not None)


def check_needs(
    objectives: Mapping[str, Objective], data: Mapping[str, ObjectiveData], *, has_teacher: bool
) -> None:
    """Check that the data of every objective have what it reads."""
    if not has_teacher:
        check_teacher(objectives)
    for name, objective in objectives.items():
        rows, kind = data[name], type(objective).__name__
        if rows.answer == "teacher" and not has_teacher:
            raise no_teacher(name)
        if objective.needs_answers and rows.answer == "none":
            raise InputError(
                f"Parameter `data.objectives.{name}.answer` should be gold, teacher, refusal, "
                f"alternate or student, since {kind} reads answers. Found none."
            )
        if isinstance(objective, DeclineEverywhere) and rows.answer == "refusal":
            raise InputError(
                f"Parameter `data.objectives.{name}.answer` should be gold or teacher, a text that "
                "the student must not say, since DeclineEverywhere turns away from it at every "
                "position. Found refusal; BidirectionalDistillation teaches whole refusals."
            )
        if objective.needs_pairs and rows.rejected is None:
            raise InputError(
                f"Parameter `data.objectives.{name}.rejected` should be gold, refusal or row, "
                f"since {kind} compares two answers to each question. Found none; set it beside "
                "`answer`, which is the preferred one."
            )
        if objective.needs_spans and not rows.mark_spans:
            raise InputError(
                f"Parameter `data.objectives.{name}.mark_spans` should be true, since {kind} "
                "treats the tokens that hold the knowledge in a way of their own. Found false; set "
                "it."
            )


def _check_step(trainer: Trainer) -> None:
    """Check the settings of Lightning that a step with manual optimisation replaces."""
    if trainer.accumulate_grad_batches != 1:
        raise InputError(
            "Parameter `trainer.accumulate_grad_batches` should be 1: a step takes all its rows. "
            f"Found {trainer.accumulate_grad_batches}; set more `rows` in `data.objectives`, and "
            "`data.micro_batch_rows` to save memory."
        )
    if trainer.gradient_clip_val:
        raise InputError(
            "Parameter `trainer.gradient_clip_val` should not be set: the step clips the combined "
            f"gradient. Found {trainer.gradient_clip_val}; set `model.clip_norm` to it."
        )


def _check_callbacks(trainer: Any) -> None:
    for callback in trainer.callbacks:
        for refused, repair in _REFUSED.items():
            if isinstance(callback, refused):
                raise InputError(
                    f"Parameter `trainer.callbacks` should not have a {refused.__name__}, which "
                    f"needs another kind of training. Found one; take it out, and {repair}."
                )
        if isinstance(callback, ModelCheckpoint) and saves_by_time(callback):
            raise InputError(
                "Parameter `train_time_interval` of ModelCheckpoint should not be set: Lightning "
                "ignores it in manual optimisation. Found an interval; set `every_n_train_steps`, "
                "or `every_minutes` of Resumable."
            )
