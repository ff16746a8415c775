"""UnlearnModule: one training step, for any objectives, teacher and weighting.

Manual optimisation: one forward and backward pass per objective, one after the other. Objectives
live on different rows, so this gives exact per-objective gradients almost for free, and only one
objective's activations are alive at a time.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

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
from lit_unlearn.gradients.collect import (
    Gradient,
    add_to,
    combine,
    layer_groups,
    scale,
    take_gradient,
    write_gradient,
)
from lit_unlearn.gradients.gramian import GroupedGramian, gramian
from lit_unlearn.gradients.weighting import Fixed, LossWeighting, Weighting
from lit_unlearn.learning_rate import LearningRateSchedule, factor
from lit_unlearn.models.finding import find_model, fingerprint
from lit_unlearn.models.hidden import HiddenReader
from lit_unlearn.models.loading import ModelSource, load_student, load_tokenizer
from lit_unlearn.models.teacher import Teacher
from lit_unlearn.objectives import Objective
from lit_unlearn.objectives.objective import Terms, asked
from lit_unlearn.preparation.gate import Gate, gate_error, gate_table
from lit_unlearn.preparation.prepare import Prepared, prepare
from lit_unlearn.schema import InputError, TokenBatch


class StepRecord(TypedDict):
    """What one step leaves for callbacks."""

    step: int
    losses: dict[str, float]
    """Unweighted loss of each objective that had rows."""
    gramian: GroupedGramian | None
    """Of the unweighted gradients, on diagnosed steps."""
    weights: Tensor | None
    """``[M]``: the factor with which each unweighted gradient entered the update."""


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
        diagnostics_every: Take the exact Gramian of the objectives' gradients every so many
            steps; 0 for never.
        loss_weighting: Learns factors of the objectives' weights from their losses; null for none.
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
    ) -> None:
        super().__init__()
        if not objectives:
            raise InputError(
                "Parameter `model.objectives` should name at least one objective. Found none."
            )
        self.automatic_optimization = False
        self.source = student
        self.objectives = nn.ModuleDict(objectives)
        self.weighting = weighting or Fixed()
        self.loss_weighting = loss_weighting
        for bound in (self.weighting, self.loss_weighting):
            if bound is not None:
                bound.bind(list(objectives))
        self.gate = gate or Gate()
        self.make_optimizer = optimizer
        self.lr_schedule: LearningRateSchedule = lr_schedule
        self.warmup_steps = warmup_steps
        self.clip_norm = clip_norm
        self.diagnostics_every = diagnostics_every
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
        if self.trainer.precision == "16-mixed":
            raise InputError(
                "Parameter `trainer.precision` should not be 16-mixed: gradients of objectives "
                "would be compared and clipped before they are unscaled. Use bf16-mixed."
            )
        if self.trainer.world_size > 1:
            raise InputError(
                "Parameter `trainer.devices` should be 1: training on several devices is not "
                f"supported yet. Found {self.trainer.world_size} processes."
            )
        data: Any = getattr(self.trainer, "datamodule", None)
        _check_names(self.objectives.keys(), data.objectives.keys())
        encoder = Encoder(self.tokenizer, data.max_length, data.on_problem)
        teacher: Teacher | None = self.__dict__["teacher"]
        console = Console(stderr=True)
        with console.status("preparing") as status:
            self.prepared = prepare(
                data.objectives,
                data.examples,
                teacher,
                encoder,
                self.gate,
                Path(self.trainer.default_root_dir) / "preparation.json",
                fingerprint(self.source.path, self.source.revision),
                progress=lambda text: status.update(text),
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
        gradients: list[Gradient] = []
        losses: dict[str, float] = {}
        total: Gradient = [None] * len(self.parameters_trained)
        keep = diagnose or self.weighting.needs_gramian
        for index, name in enumerate(self.objectives):
            gradient = self._gradient(name, batch.get(name, []), losses)
            if keep:
                gradients.append(gradient)
            else:
                add_to(total, scale(gradient, float(preferences[index])))
        record = StepRecord(step=step, losses=losses, gramian=None, weights=None)
        if keep:
            grouped = gramian(gradients, self.groups)
            weighted = preferences[:, None] * grouped.whole * preferences[None, :]
            weights = preferences * self.weighting(weighted).to(torch.float64)
            total = combine(gradients, weights)
            record["weights"] = weights
            record["gramian"] = grouped if diagnose else None
        self._update(total)
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
        """Gradient of one objective's mean loss over all its micro batches."""
        objective = self._objective(name)
        reader, teacher = HiddenReader(self._student()), self.__dict__["teacher"]
        parts: list[Terms] = []
        for batch in micro_batches:
            terms: Terms = objective(batch, reader, teacher)
            self._check_finite(name, terms.values, batch)
            self.manual_backward(terms.values.sum())
            parts.append(Terms(terms.values.detach(), terms.rows, terms.statistics))
        gradient = take_gradient(self.parameters_trained)
        count = sum(len(part.values) for part in parts)
        if not count:
            return gradient
        losses[name] = float(sum(float(part.values.sum()) for part in parts) / count)
        self.log(schema.loss_name(name), losses[name], prog_bar=True, batch_size=count)
        for statistic in parts[0].statistics:
            mean = torch.cat([part.statistics[statistic].float() for part in parts]).mean()
            self.log(schema.statistic_name(name, statistic), mean, batch_size=count)
        return scale(gradient, 1 / count)

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

    def _check_finite(self, name: str, values: Tensor, batch: TokenBatch) -> None:
        if bool(torch.isfinite(values).all()):
            return
        raise InputError(
            f"The loss of objective {name!r} is no finite number at step {self.global_step}, in a "
            f"batch with the rows {', '.join(batch.example_ids)}. Lower the learning rate "
            "(`model.optimizer.init_args.lr`) or the objective's `weight`, or set `clip_norm`."
        )

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
        """With adapters only these and the weightings are saved; the model can be loaded again."""
        if self.source.lora is not None:
            state, kept = checkpoint["state_dict"], ("weighting.", "loss_weighting.")
            checkpoint["state_dict"] = {
                k: v for k, v in state.items() if "lora_" in k or k.startswith(kept)
            }


def _check_names(objectives: Iterable[str], data: Iterable[str]) -> None:
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
