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
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from rich.console import Console
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from transformers import PreTrainedTokenizerBase

from lit_unlearn import schema
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.gradients.collect import Gradient, layer_groups, write_gradient
from lit_unlearn.gradients.combination import Combination, check_alone
from lit_unlearn.gradients.gathering import Diagnostics, Gathering
from lit_unlearn.gradients.weighting import Fixed, LossWeighting, Weighting
from lit_unlearn.learning_rate import LearningRateSchedule, factor
from lit_unlearn.models.finding import find_model, fingerprint
from lit_unlearn.models.hidden import HiddenReader
from lit_unlearn.models.loading import ModelSource, load_base, load_student, load_tokenizer
from lit_unlearn.models.teacher import Teacher
from lit_unlearn.objectives import Objective
from lit_unlearn.objectives.objective import asked, check_teacher
from lit_unlearn.preparation.checks import check_names, check_trainer
from lit_unlearn.preparation.gate import Gate, gate_error, gate_table
from lit_unlearn.preparation.prepare import Prepared, prepare
from lit_unlearn.preparation.progress import bars
from lit_unlearn.schema import InputError, TokenBatch, check_number
from lit_unlearn.step import StepRecord, combined, objective_gradient


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
    ) -> None:
        super().__init__()
        if not objectives:
            raise InputError(
                "Parameter `model.objectives` should name at least one objective. Found none."
            )
        check_alone(combination, weighting)
        check_number("model.warmup_steps", warmup_steps, 0)
        check_number("model.clip_norm", clip_norm, 0, above=True)
        check_number("model.diagnostics_every", diagnostics_every, 0)
        self.automatic_optimization = False
        self.source = student
        self.objectives = nn.ModuleDict(objectives)
        self.weighting = weighting or Fixed()
        self.loss_weighting = loss_weighting
        self.combination = combination
        for bound in (self.weighting, self.loss_weighting, self.combination):
            if bound is not None:
                bound.bind(list(objectives))
        self.gate = gate or Gate()
        self.make_optimizer = optimizer
        self.lr_schedule: LearningRateSchedule = lr_schedule
        self.warmup_steps = warmup_steps
        self.clip_norm = clip_norm
        self.diagnostics_every = diagnostics_every
        self.diagnostics: Diagnostics = diagnostics
        self.__dict__["teacher"] = teacher  # a plain object: never registered, never saved
        self.student: nn.Module | None = None
        self.teacher_weights: nn.Module | None = None
        self.prepared: Prepared | None = None
        self.strict_loading = student.lora is None

    # ---------------------------------------------------------------------------------- set-up

    def prepare_data(self) -> None:
        """Find the model, so that a missing one is known before anything is loaded."""
        find_model(self.source.path, self.source.revision)

    def configure_model(self) -> None:
        """Load student and teacher, once."""
        if self.student is not None:
            return
        self.student = load_student(self.source)
        self.tokenizer: PreTrainedTokenizerBase = load_tokenizer(self.source)
        teacher: Teacher | None = self.__dict__["teacher"]
        if teacher is not None:
            teacher.attach(self.student, self.source)
            self.teacher_weights = teacher.saved_module()
        named = [(n, p) for n, p in self.student.named_parameters() if p.requires_grad]
        self.parameters_trained = [parameter for _, parameter in named]
        self.groups = layer_groups(named)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """The optimizer of the trained parameters and the course of its learning rate."""
        optimizer = self.make_optimizer(self.parameters_trained)
        steps, warmup, schedule = self.trainer.max_steps, self.warmup_steps, self.lr_schedule
        course = LambdaLR(optimizer, lambda step: factor(step, steps, warmup, schedule))
        return {"optimizer": optimizer, "lr_scheduler": course}

    def on_fit_start(self) -> None:
        """Check names, let the teacher pass its gate, and give the data module its rows."""
        trainer = self.trainer
        check_trainer(trainer.precision, trainer.world_size, trainer.max_steps)
        data: Any = getattr(self.trainer, "datamodule", None)
        check_names(self.objectives.keys(), data.objectives.keys())
        encoder = Encoder(self.tokenizer, data.max_length, data.on_problem)
        teacher: Teacher | None = self.__dict__["teacher"]
        check_teacher(self._objective(name) for name in self.objectives if teacher is None)
        console = Console(stderr=True)
        with bars(console) as tell:
            self.prepared = prepare(
                data.objectives,
                data.examples,
                teacher,
                encoder,
                self.gate,
                Path(self.trainer.default_root_dir) / "preparation.json",
                fingerprint(self.source.path, self.source.revision),
                progress=tell,
                start=self._start_model,
            )
        data.set_rows(self.prepared.encoded, pad_id=int(self.tokenizer.eos_token_id or 0))
        self._announce(console, data.summary(self.trainer.max_steps))
        error = gate_error(self.prepared.settled)
        if error is not None and self.gate.action == "error":
            raise error
        if teacher is not None:
            named = {name: self._objective(name) for name in self.objectives}
            plan, steps = data.plan(), range(self.trainer.max_steps)
            batches = (data.batch(plan.step(step)) for step in steps)
            with self.trainer.precision_plugin.forward_context():
                teacher.foresee(asked(named, batches))

    def _start_model(self) -> nn.Module:
        """The model as it was before any training, noise or adapters, in a copy of its own."""
        start: nn.Module = load_base(self.source)
        return start.to(self.device)

    @rank_zero_only
    def _announce(self, console: Console, summary: str) -> None:
        if self.prepared is not None and self.prepared.gate_rows:
            console.print(gate_table(self.prepared.gate_rows))
        console.print(f"Data: {summary}", highlight=False)

    # ------------------------------------------------------------------------------------ step

    def training_step(self, batch: Mapping[str, list[TokenBatch]], batch_idx: int) -> StepRecord:
        """One optimizer step: a gradient per objective, their Gramian, weights, the update."""
        step = self.global_step
        preferences = self._preferences(step)
        diagnose = self.diagnostics_every > 0 and step % self.diagnostics_every == 0
        losses: dict[str, float] = {}
        keep = self.weighting.needs_gramian or self.combination is not None
        sketched = diagnose and not keep and self.diagnostics == "sketch"
        gathered = Gathering(
            preferences,
            len(self.parameters_trained),
            self.groups,
            keep=keep or (diagnose and not sketched),
            sketch_seed=step if sketched else None,
        )
        for name in self.objectives:
            gathered.add(self._gradient(name, batch.get(name, []), losses))
        record = StepRecord(
            step=step,
            losses=losses,
            gramian=None,
            diagnostics="sketch" if sketched else "exact",
            weights=None,
            with_update=None,
        )
        self._update(combined(gathered, self.weighting, self.combination, record, diagnose))
        if self.loss_weighting is not None:
            seen = [losses.get(name, math.nan) for name in self.objectives]
            self.loss_weighting.update(torch.tensor(seen, dtype=torch.float64))
        return record

    def test_step(self, batch: int, batch_idx: int) -> None:
        """Nothing: in `lit-unlearn test` the callbacks measure."""

    def _preferences(self, step: int) -> Tensor:
        """``[M]``, float64: the objectives' weights at a step, with their learnt factors."""
        weights = [self._objective(name).weight_at(step) for name in self.objectives]
        preferences = torch.tensor(weights, dtype=torch.float64)
        if self.loss_weighting is not None:
            preferences = preferences * self.loss_weighting.factors()
        return preferences

    def _objective(self, name: str) -> Objective:
        objective = self.objectives[name]
        if not isinstance(objective, Objective):
            raise TypeError(f"model.objectives.{name} is a {type(objective).__name__}.")
        return objective

    def _gradient(
        self, name: str, micro_batches: list[TokenBatch], losses: dict[str, float]
    ) -> Gradient:
        """One objective's gradient; its loss and further figures are logged."""
        found = objective_gradient(
            name,
            self._objective(name),
            micro_batches,
            HiddenReader(self._student()),
            self.__dict__["teacher"],
            self.parameters_trained,
            self.global_step,
            self.manual_backward,
        )
        if found.count:
            losses[name] = found.loss
            self.log(schema.loss_name(name), found.loss, prog_bar=True, batch_size=found.count)
        for statistic, mean in found.statistics.items():
            self.log(schema.statistic_name(name, statistic), mean, batch_size=found.count)
        return found.gradient

    def _update(self, gradient: Gradient) -> None:
        optimizer: Any = self.optimizers()
        write_gradient(self.parameters_trained, gradient)
        if self.clip_norm is not None:
            self.clip_gradients(optimizer, self.clip_norm, "norm")
        optimizer.step()
        optimizer.zero_grad()
        self.log(schema.LEARNING_RATE, float(optimizer.param_groups[0]["lr"]), batch_size=1)
        scheduler: Any = self.lr_schedulers()
        scheduler.step()
        teacher: Teacher | None = self.__dict__["teacher"]
        if teacher is not None:
            teacher.after_step(self._student())

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
        teacher: Teacher | None = self.__dict__.get("teacher")
        unsaved = teacher.unsaved_module() if teacher is not None else None
        if unsaved is not None:
            unsaved._apply(fn)
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """With adapters the model is left out: it can be loaded again."""
        if self.source.lora is not None:
            state = checkpoint["state_dict"]
            kept = ("weighting.", "loss_weighting.", "combination.")
            checkpoint["state_dict"] = {
                k: v for k, v in state.items() if "lora_" in k or k.startswith(kept)
            }
