"""UnlearnModule: one training step, for any objectives, teacher and weighting or combination.

Manual optimisation: one forward and backward pass per objective, one after the other. Objectives
live on different rows, so this gives exact per-objective gradients almost for free, and only one
objective's activations are alive at a time.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from lightning import LightningModule
from lightning.pytorch.cli import OptimizerCallable
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from lit_unlearn import log_names
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.distributed.sharding import Sharding
from lit_unlearn.distributed.strategy import check_strategy, local_gradients
from lit_unlearn.errors import check_number
from lit_unlearn.gradients.collect import Gradient, Sum, layer_groups, write_gradient
from lit_unlearn.gradients.combination import Combination, check_alone
from lit_unlearn.gradients.finite import Guard, NotFiniteError
from lit_unlearn.gradients.gathering import Diagnostics, Gathering
from lit_unlearn.gradients.weighting import Fixed, LossWeighting, Weighting
from lit_unlearn.gradients.weighting.base import Named
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import ModelSource, load_base, load_student, load_tokenizer
from lit_unlearn.objectives import Objective
from lit_unlearn.teachers.teacher import Teacher
from lit_unlearn.training.learning_rate import LearningRateSchedule, factor
from lit_unlearn.training.setup.checks import check_objectives, check_trainer
from lit_unlearn.training.setup.prepare import Prepared
from lit_unlearn.training.setup.start import foresee, get_ready
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.training.step import (
    ObjectiveGradient,
    StepRecord,
    combined,
    empty_record,
    objective_gradient,
    preferences,
)
from lit_unlearn.types import TokenBatch

LEARNT = "weightings"
"""Key of a checkpoint."""


class UnlearnModule(LightningModule):
    """Trains a language model on any number of objectives at once.

    Args:
        student: The model to train.
        objectives: What training must achieve, by name; the names must be those of
            `data.objectives`.
        teacher: Where target logits come from; null if no objective needs them.
        weighting: Turns the Gramian of the objectives' gradients into their weights; null adds
            the gradients up as their objectives' weights say.
        gate: What the teacher must achieve before training starts.
        optimizer: Optimizer of the trained parameters.
        lr_schedule: Course of the learning rate after the warm-up: `constant`, or down to zero at
            the last step as a `linear` or `cosine` function.
        warmup_steps: Steps in which the learning rate rises linearly.
        clip_norm: Largest 2-norm of the combined gradient; null for no clipping.
        diagnostics_every: Take the Gramian of the objectives' gradients every so many steps; 0 for
            never.
        loss_weighting: Learns factors of the objectives' weights from their losses; null for none.
        combination: Makes the update from the gradients element by element, such as SAGO, instead
            of a weighting; null for none.
        diagnostics: `exact` keeps all gradients of a diagnosed step; `sketch` estimates the same
            figures from 2^16 sums per layer group (cosines to about 0.004, one standard deviation)
            without keeping them. Where weighting or combination keep the gradients, the figures are
            exact in any case.
        guard: What happens to a step with a number that is not finite; null stops the run.
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
    ) -> None:
        super().__init__()
        check_objectives(objectives)
        check_alone(combination, weighting)
        check_number("model.warmup_steps", warmup_steps, 0)
        check_number("model.clip_norm", clip_norm, 0, above=True)
        check_number("model.diagnostics_every", diagnostics_every, 0)
        self.automatic_optimization = False
        self.source = student
        self.objectives = dict(objectives)
        self.teacher = teacher
        self.__dict__ |= {  # never registered: neither moved, nor in the model's state
            "weighting": weighting or Fixed(),
            "loss_weighting": loss_weighting,
            "combination": combination,
        }
        for rule in self._rules().values():
            rule.bind(list(objectives))
        self.gate = gate or Gate()
        self.guard = guard or Guard()
        self.make_optimizer = optimizer
        self.lr_schedule: LearningRateSchedule = lr_schedule
        self.warmup_steps = warmup_steps
        self.clip_norm = clip_norm
        self.diagnostics_every = diagnostics_every
        self.diagnostics: Diagnostics = diagnostics
        self.student: nn.Module | None = None
        self.teacher_weights: nn.Module | None = None
        self.prepared: Prepared | None = None
        self.sharding: Sharding | None = None  # set by a strategy that shards
        self.strict_loading = student.lora is None

    weighting: Weighting
    loss_weighting: LossWeighting | None
    combination: Combination | None

    # ---------------------------------------------------------------------------------- set-up

    def prepare_data(self) -> None:
        """Find the model, so that a missing one is known before anything is loaded."""
        find_model(self.source.path, self.source.revision)

    def configure_model(self) -> None:
        """Load student and teacher, once, and shard them alike if the strategy shards."""
        if self.student is not None:
            return
        self.student = self._sharded(load_student(self.source, sliced=self.sharding is not None))
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.source)
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

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer of the trained parameters and the course of its learning rate."""
        optimizer = self.make_optimizer(self.parameters_trained)
        steps, warmup, schedule = self.trainer.max_steps, self.warmup_steps, self.lr_schedule
        course = LambdaLR(optimizer, lambda step: factor(step, steps, warmup, schedule))
        return {"optimizer": optimizer, "lr_scheduler": course}

    def on_fit_start(self) -> None:
        """Check names, let the teacher pass its gate, and give the data module its rows."""
        trainer, adapters = self.trainer, self.source.lora is not None
        check_trainer(trainer.precision, trainer.max_steps, self.source.dtype)
        check_strategy(trainer, adapters=adapters)
        data: Any = getattr(trainer, "datamodule", None)
        self.prepared = get_ready(
            self.objectives,
            data,
            self.teacher,
            self.tokenizer,
            self.gate,
            Path(trainer.default_root_dir),
            self.source,
            lambda: self._sharded(load_base(self.source, sliced=self.sharding is not None)).to(
                self.device
            ),
            trainer.max_steps,
        )
        with trainer.precision_plugin.forward_context():
            foresee(self.teacher, self.objectives, data, trainer.max_steps)
        if rank() > 0:
            torch.manual_seed(data.seed + rank())  # dropout is not the same in every process

    # ------------------------------------------------------------------------------------ step

    def training_step(self, batch: Mapping[str, list[TokenBatch]], batch_idx: int) -> StepRecord:
        """One optimizer step: a gradient per objective, their Gramian, weights, the update."""
        step = self.global_step
        diagnose = self.diagnostics_every > 0 and step % self.diagnostics_every == 0
        keep = self.weighting.needs_gramian or self.combination is not None
        sketched = diagnose and not keep and self.diagnostics == "sketch"
        gathered = Gathering(
            preferences(self.objectives, step, self.loss_weighting),
            len(self.parameters_trained),
            self.groups,
            keep=keep or (diagnose and not sketched),
            sketch_seed=step if sketched else None,
        )
        record = empty_record(step, "sketch" if sketched else "exact")
        try:
            with local_gradients(self.trainer):
                for name, objective in self.objectives.items():
                    batches = batch.get(name, [])
                    found = self._gradient(name, objective, batches, record, gathered.onto)
                    gathered.add(found.gradient, added=found.added)
            self._update(combined(gathered, self.weighting, self.combination, record, diagnose))
        except NotFiniteError as error:
            self.guard.leave_out(error)
            self._update([None] * len(self.parameters_trained))
            return record
        if self.loss_weighting is not None:
            seen = [record["losses"].get(name, math.nan) for name in self.objectives]
            self.loss_weighting.update(torch.tensor(seen, dtype=torch.float64))
        return record

    def test_step(self, batch: int, batch_idx: int) -> None:
        """Nothing: in `lit-unlearn test` the callbacks measure."""

    def _gradient(
        self,
        name: str,
        objective: Objective,
        batches: list[TokenBatch],
        record: StepRecord,
        onto: Sum | None,
    ) -> ObjectiveGradient:
        """One objective's gradient; its loss and further figures are logged."""
        found = objective_gradient(
            name,
            objective,
            batches,
            ModelReader(self._student()),
            self.teacher,
            self.parameters_trained,
            self.global_step,
            self.manual_backward,
            self.models_read(),
            onto,
        )
        if found.count:
            record["losses"][name] = found.loss
            self.log(log_names.loss_name(name), found.loss, prog_bar=True, batch_size=found.count)
        for statistic, mean in found.statistics.items():
            self.log(log_names.statistic_name(name, statistic), mean, batch_size=found.count)
        return found

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
            self.teacher.after_step(self._student())

    def models_read(self) -> list[nn.Module]:
        """All models that a step reads."""
        return [self._student(), *(self.teacher.models() if self.teacher is not None else [])]

    def _student(self) -> nn.Module:
        if self.student is None:
            raise RuntimeError(
                "UnlearnModule.configure_model should run before the student is used."
            )
        return self.student

    # ----------------------------------------------------------------------- devices and files

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> "UnlearnModule":
        """Device and number format reach the teacher, which is not registered."""
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        unsaved = self.teacher.unsaved_module() if self.teacher is not None else None
        if unsaved is not None:
            unsaved._apply(fn)
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add what weightings have learnt; of a model with adapters save these alone."""
        checkpoint[LEARNT] = {name: rule.state_dict() for name, rule in self._rules().items()}
        checkpoint["skipped_steps"] = self.guard.skipped
        if self.source.lora is not None:
            state = checkpoint["state_dict"]
            checkpoint["state_dict"] = {k: v for k, v in state.items() if "lora_" in k}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let weightings go on from what they have learnt."""
        self.guard.skipped = checkpoint.get("skipped_steps", 0)
        for name, rule in self._rules().items():
            rule.load_state_dict(checkpoint[LEARNT][name])

    def _rules(self) -> dict[str, Named]:
        rules = {
            "weighting": self.weighting,
            "loss_weighting": self.loss_weighting,
            "combination": self.combination,
        }
        return {name: rule for name, rule in rules.items() if rule is not None}
