"""UnlearnModule: one training step, for any objectives, teacher and weighting or combination.

Optimisation is manual: one forward and backward pass per objective, one after the other. Objectives
have different rows, so that exact gradients of each cost little more than their sum, and only one
objective's activations are in memory at a time.
"""

import math
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from lit_unlearn import log_names
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.distributed.sharding import Sharding
from lit_unlearn.distributed.slices import fill
from lit_unlearn.distributed.strategy import local_gradients
from lit_unlearn.errors import check_number
from lit_unlearn.gradients.accumulator import Accumulator, Mode
from lit_unlearn.gradients.collect import Gradient, layer_groups, write_gradient
from lit_unlearn.gradients.combination import Combination, check_alone
from lit_unlearn.gradients.finite import Guard, NotFiniteError
from lit_unlearn.gradients.weighting import Fixed, LossWeighting, Rule, Weighting
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import ModelSource, load_base, load_student, load_tokenizer
from lit_unlearn.models.start_checks import check_vocabulary
from lit_unlearn.objectives import Objective
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.learning_rate import LearningRateSchedule, factor
from lit_unlearn.training.module_state import (
    add_state,
    check_optimizer,
    optimizer_class,
    restore_state,
)
from lit_unlearn.training.own_answers import OwnAnswers
from lit_unlearn.training.run_checks import check_parts, check_run
from lit_unlearn.training.setup.checks import check_objectives
from lit_unlearn.training.setup.prepare import Prepared
from lit_unlearn.training.setup.start import fill_teacher_cache, get_ready, store_trunk
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.training.step import (
    Diagnostics,
    Figures,
    Models,
    ObjectiveStep,
    StepRecord,
    accumulate,
    combined,
    empty_record,
    preferences,
)
from lit_unlearn.training.trunk_cache import TrunkCache
from lit_unlearn.training.validation import ValidatedModule, Validation
from lit_unlearn.types import TokenBatch
from lit_unlearn.utils.library_internals import copied_weights

__all__ = ["UnlearnModule"]


class UnlearnModule(ValidatedModule):
    """Trains a language model on any number of objectives at once.

    Args:
        student: The model to train.
        objectives: Objectives by name; the names must be those of `data.objectives`.
        teacher: Source of the target logits; null if no objective needs them.
        weighting: Turns the Gramian of the objectives' gradients into their weights; null adds
            the gradients up with the objectives' own weights.
        gate: Requirements that the teacher must meet before training starts.
        optimizer: Optimizer of the trained parameters.
        lr_schedule: Course of the learning rate after the warm-up: `constant`, or down to zero at
            the last step as a `linear` or `cosine` function.
        warmup_steps: Steps in which the learning rate rises linearly.
        clip_norm: Largest 2-norm of the combined gradient; null for no clipping.
        diagnostics_every: Interval in steps at which the Gramian of the objectives' gradients is
            computed; 0 for never.
        loss_weighting: Learns factors of the objectives' weights from their losses; null for none.
        combination: Makes the update from the gradients element by element, such as SAGO, in place
            of a weighting; null for none.
        diagnostics: `exact` keeps all gradients of a diagnosed step; `sketch` estimates the same
            figures from 2^16 sums per layer group (cosines to about 0.004, one standard deviation)
            without keeping them. Where weighting or combination keep the gradients, the figures are
            exact in any case.
        guard: Limit of steps skipped for numbers that are not finite; null stops at the first.
        validation: Settings of the validation's replies; null for none.
    """

    def __init__(
        self,
        student: ModelSource,
        objectives: dict[str, Objective],
        teacher: Teacher | None = None,
        weighting: Weighting | None = None,
        gate: Gate | None = None,
        optimizer: OptimizerCallable = lambda p: torch.optim.AdamW(p, lr=2e-5, weight_decay=0.0),
        lr_schedule: LearningRateSchedule = "constant",
        warmup_steps: int = 0,
        clip_norm: float | None = 1.0,
        diagnostics_every: int = 10,
        loss_weighting: LossWeighting | None = None,
        combination: Combination | None = None,
        diagnostics: Diagnostics = "exact",
        guard: Guard | None = None,
        validation: Validation | None = None,
    ) -> None:
        check_objectives(objectives)
        super().__init__([*objectives], validation or Validation())
        check_alone(combination, weighting, clip_norm)
        check_number("model.warmup_steps", warmup_steps, 0)
        check_number("model.clip_norm", clip_norm, 0, above=True)
        check_number("model.diagnostics_every", diagnostics_every, 0)
        self.automatic_optimization = False
        self.source = student
        self.objectives = dict(objectives)
        self.teacher = teacher
        self.weighting: Weighting = weighting or Fixed()
        self.loss_weighting, self.combination = loss_weighting, combination
        for rule in self.rules().values():
            rule.bind(list(objectives))
        self.gate = gate or Gate()
        self.guard = guard or Guard()
        self.make_optimizer = optimizer
        self.lr_schedule: LearningRateSchedule = lr_schedule
        self.warmup_steps, self.clip_norm = warmup_steps, clip_norm
        self.diagnostics_every = diagnostics_every
        self.diagnostics: Diagnostics = diagnostics
        self.student: nn.Module | None = None
        self.teacher_weights: nn.Module | None = None
        self.prepared: Prepared | None = None
        self.own_answers = OwnAnswers()
        self.sharding: Sharding | None = None  # set by a strategy that shards
        self.trunk: TrunkCache | None = None
        self.saved_optimizer: str | None = None  # set by a checkpoint
        self.strict_loading = student.lora is None

    def prepare_data(self) -> None:
        """Find the model, so that a missing one is an error before anything is loaded."""
        find_model(self.source.path, self.source.revision)

    def setup(self, stage: str) -> None:
        """Check the run before anything is loaded."""
        if stage in ("fit", "validate"):
            check = check_run if stage == "fit" else check_parts
            check(self.trainer, self, getattr(self.trainer, "datamodule", None))

    def configure_model(self) -> None:
        """Load student and teacher, once, and shard them alike if the strategy shards."""
        if self.student is not None:
            return
        self.student = self._sharded(load_student(self.source, sliced=self.sharding is not None))
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.source)
        check_vocabulary(self.student, self.tokenizer, self.source.path)
        if self.teacher is not None:
            self.teacher.attach(self.student, self.source)
            for model in self.teacher.models():
                self._sharded(model)
            self.teacher_weights = self.teacher.saved_module()
        named = [(n, p) for n, p in self.student.named_parameters() if p.requires_grad]
        self.parameters_trained = [parameter for _, parameter in named]
        self.groups = layer_groups(named)

    def _sharded(self, model: nn.Module) -> nn.Module:
        if self.sharding is not None:
            self.sharding.apply(model, decoder_blocks(model))
        return model

    def load_start(self) -> nn.Module:
        """Load the start model, sharded like the student, on the student's device."""
        start = load_base(self.source, sliced=self.sharding is not None)
        return self._sharded(start).to(self.device)

    def start_weights(self, names: Collection[str]) -> dict[str, Tensor]:
        """Return these weights of the start model, sharded like the student, on its device.

        Without sharding, the other weights are not read, if the files are safetensors.
        """
        if self.sharding is not None:
            start = self.load_start()
        else:
            start = load_base(self.source, sliced=True)
            fill(start, self.device, names)
        chosen = ((n, p.detach()) for n, p in start.named_parameters() if n in names)
        return {name: weight.to(self.device) for name, weight in chosen}

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Return the optimizer of the trained parameters and the course of its learning rate."""
        check_optimizer(self.saved_optimizer, optimizer_class(self.make_optimizer))
        optimizer = self.make_optimizer(self.parameters_trained)
        trainer, warmup, schedule = self.trainer, self.warmup_steps, self.lr_schedule
        # the number of steps may depend on rows that are encoded later
        course = LambdaLR(optimizer, lambda s: factor(s, trainer.max_steps, warmup, schedule))
        return {"optimizer": optimizer, "lr_scheduler": course}

    def on_fit_start(self) -> None:
        """Let the teacher pass its gate, and give the data module its rows."""
        trainer = self.trainer
        data: Any = getattr(trainer, "datamodule", None)
        folder, validated = Path(trainer.default_root_dir), self.fit_examples()
        self.prepared = get_ready(self, data, folder, trainer, validated)
        with trainer.precision_plugin.forward_context():
            self.trunk = store_trunk(self, data, trainer.max_steps)
            fill_teacher_cache(self, data, trainer.max_steps)
        if rank() > 0:
            torch.manual_seed(data.seed + rank())  # different dropout in every process

    def test_step(self, batch: int, batch_idx: int) -> None:
        """Do nothing: in `lit-unlearn test` the callbacks evaluate."""

    def training_step(self, batch: Mapping[str, list[TokenBatch]], batch_idx: int) -> StepRecord:
        """Take one optimizer step: the objectives' gradients, Gramian, weights, and the update."""
        step = self.global_step
        diagnose = self.diagnostics_every > 0 and step % self.diagnostics_every == 0
        weights = preferences(self.objectives, step, self.loss_weighting)
        about = (self.parameters_trained, weights, self.groups, self._mode(diagnose))
        accumulator = Accumulator(*about, seed=step)
        data: Any = getattr(self.trainer, "datamodule", None)
        rows = self.own_answers.renewed(batch, step, data, self.loaded_student(), self.tokenizer)
        reader = ModelReader(self.loaded_student(), self.trunk)
        models = Models(reader, self.teacher, self.models_read(), self.manual_backward)
        record = empty_record(step, "sketch" if accumulator.mode == "sketch" else "exact")
        try:
            with local_gradients(self.trainer):
                for name, objective in self.objectives.items():
                    one = ObjectiveStep(name, objective, rows.get(name, []), step)
                    self._note(name, accumulate(one, models, accumulator), record)
            self._update(combined(accumulator, self.weighting, self.combination, record, diagnose))
        except NotFiniteError as error:
            self.guard.leave_out(error)
            self._update([None] * len(self.parameters_trained))
            return record
        if self.loss_weighting is not None:
            seen = [record["losses"].get(name, math.nan) for name in self.objectives]
            self.loss_weighting.update(torch.tensor(seen, dtype=torch.float64))
        return record

    def _mode(self, diagnose: bool) -> Mode:
        """Return how much of the gradients the step needs."""
        if self.weighting.needs_gramian or self.combination is not None:
            return "keep"
        if not diagnose:
            return "sum"
        return "keep" if self.diagnostics == "exact" else "sketch"

    def _note(self, name: str, figures: Figures, record: StepRecord) -> None:
        """Log the figures of one objective, and keep its loss."""
        if figures.count:
            record["losses"][name] = figures.loss
            self.log(log_names.loss_name(name), figures.loss, True, batch_size=figures.count)
        for statistic, mean in figures.statistics.items():
            self.log(log_names.statistic_name(name, statistic), mean, batch_size=figures.count)

    def _update(self, gradient: Gradient) -> None:
        optimizer: Any = self.optimizers()
        write_gradient(self.parameters_trained, gradient)
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")
        optimizer.step()
        optimizer.zero_grad()
        self.log(log_names.LEARNING_RATE, float(optimizer.param_groups[0]["lr"]), batch_size=1)
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        if self.teacher is not None:
            self.teacher.after_step(self.loaded_student())

    def models_read(self) -> list[nn.Module]:
        """Return all models that a step reads."""
        return [self.loaded_student(), *(self.teacher.models() if self.teacher is not None else [])]

    def loaded_student(self) -> nn.Module:
        """Return the student; it must be loaded."""
        if self.student is None:
            raise RuntimeError(
                "UnlearnModule.configure_model should run before the student is used."
            )
        return self.student

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "UnlearnModule":
        """Apply a change of device or dtype to the teacher too, which is not registered."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.teacher is not None and (unsaved := self.teacher.unsaved_module()) is not None:
            unsaved._apply(fn)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "UnlearnModule":
        """Copy the weights, as callbacks that average them do; everything else is shared."""
        made: UnlearnModule = copied_weights(self, memo)
        made._trainer = None
        return made

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the learnt state of weightings; keep only the adapters of a model that has them."""
        add_state(checkpoint, self)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Check that the checkpoint fits, and restore the learnt state of weightings."""
        restore_state(checkpoint, self)

    def rules(self) -> dict[str, Rule]:
        """Return weighting, loss weighting and combination by their names in a config."""
        names = ("weighting", "loss_weighting", "combination")
        return {name: rule for name in names if (rule := getattr(self, name)) is not None}
