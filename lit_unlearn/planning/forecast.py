"""Forecast of the time of a run's phases on this machine, before a model is loaded."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Suite
from lit_unlearn.models.loading import load_tokenizer
from lit_unlearn.planning.flops import step_flops
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.phases import (
    Forecast,
    Ids,
    Phase,
    forecast_of,
    reading,
    replying,
    step_phase,
)
from lit_unlearn.planning.planned_rows import PlannedRows, rows_of
from lit_unlearn.planning.rates import Rates, SampleWork, rates_here, writing_rate
from lit_unlearn.planning.scenario import Scenario, scenario_of
from lit_unlearn.planning.stored import CPU, Lookup
from lit_unlearn.planning.suites import SuiteModel, none_stored, suite_phases
from lit_unlearn.teachers import FrozenTeacher, SmoothedTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.types import EncodedExample
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["PlannedRun", "RunWork", "SuiteSchedule", "forecast", "run_forecast"]

_FORMS = 2
"""Candidates of each row from which the size of caches is estimated; each must be encoded."""


@dataclass(frozen=True)
class SuiteSchedule:
    """Suites that are run at certain steps."""

    suites: Mapping[str, Suite]
    before: bool = True
    """Whether they run before the first step."""
    after: bool = True
    """Whether they run after the last step."""
    every: int = 0
    """Steps between further evaluations; 0 for none."""
    limit: int | None = None
    """Largest number of rows of each group in these further evaluations."""
    kept: bool = False
    """Whether the answers before the first step are stored in the user's cache."""
    times: int = 1
    """Number of runs at each of these two times."""


@dataclass(frozen=True)
class RunWork:
    """Steps, evaluations and export of a run."""

    steps: int
    """Optimizer steps of the whole run."""
    done: int = 0
    """Steps that were done before the run was resumed."""
    evaluations: Sequence[SuiteSchedule] = ()
    validated: Mapping[str, int] = field(default_factory=dict)
    """Rows of each objective that all validations together read."""
    replies: int = 16
    """Replies that are generated in one batch."""
    export: bool = False
    """Whether the model is exported."""
    folder: Path = Path()
    """The run's folder."""


def forecast(
    module: UnlearnModule,
    data: UnlearnDataModule,
    work: RunWork,
    *,
    precision: str = "32-true",
    device: torch.device,
) -> Forecast | None:
    """Forecast the time of a run; None if it takes only seconds.

    Args:
        module: The run's objectives, models and optimizer.
        data: The run's rows.
        work: The run's steps, evaluations and export.
        precision: Precision of the trainer.
        device: Device of the run.

    Raises:
        InputError: The model's config or the rows cannot be read.
    """
    scenario = scenario_of(module, data, precision=precision)
    return run_forecast(module, scenario, rows_of(module, data)[0], work, device)


def run_forecast(
    module: UnlearnModule,
    scenario: Scenario,
    rows: PlannedRows,
    work: RunWork,
    device: torch.device,
) -> Forecast | None:
    """Forecast a run of planned rows; see `forecast`."""
    run = PlannedRun(module, scenario, rows, work, device)
    dtype = torch.bfloat16 if scenario.weight_bytes == 2 else torch.float32

    def measured() -> Rates:
        at, source = scenario, scenario.source
        rates = rates_here(at.config, source, dtype, device, run.sample_work(), mixed=at.mixed)
        return replace(rates, writing=writing_rate(work.folder)) if work.export else rates

    return forecast_of(run.phases(), measured)


@dataclass(frozen=True)
class PlannedRun:
    """Parts of a run that are known before a model is loaded."""

    module: UnlearnModule
    scenario: Scenario
    rows: PlannedRows
    work: RunWork
    device: torch.device = CPU

    @cached_property
    def encoder(self) -> Encoder | None:
        """Encoder with the model's tokenizer; None if it cannot be read."""
        data = self.rows.data
        text: Any = self.scenario.config.get_text_config()
        positions = getattr(text, "max_position_embeddings", None)
        try:
            words = load_tokenizer(self.scenario.source)
        except InputError:
            return None
        length = min(data.max_length, positions or data.max_length)
        return Encoder(words, length, "warn", data.template)

    @cached_property
    def lookup(self) -> Lookup | None:
        """Lookup in the user's cache; None if the keys of this run's results are unknown."""
        encoder = self.encoder
        if encoder is None:
            return None
        steps = self.work.steps
        found = Lookup(self.module, self.scenario, self.rows, encoder, steps, self.device)
        return found if found.possible else None

    def phases(self) -> list[Phase]:
        """Return the phases in the order in which they run."""
        at, work = self.scenario, self.work
        found = [] if work.done else [*self.teaching()]
        found += self._caches()
        if not work.done:
            found += self._answers("before", [one for one in work.evaluations if one.before])
        found += [self._steps(), self._sampled()]
        found += [*self._during(), self._validation()]
        found += self._answers("after", [one for one in work.evaluations if one.after])
        counted = (any(each.flops for each in self._suites(one, None)) for one in work.evaluations)
        if self.rows.assumed and not all(counted):
            found.append(Phase("evaluations", note="unknown without the rows", counted=False))
        if work.export:
            size = at.student.parameters * at.weight_bytes
            found.append(Phase("export", written=size, note=f"{size / 1e9:.2g} GB"))
        return [phase for phase in found if phase.flops or phase.written or phase.note]

    def teaching(self) -> Iterator[Phase]:
        """Yield the phases of the teacher gate and of the answers that a model generates."""
        layout, data, gate = self.scenario.teaching.layout, self.rows.data, self.module.gate
        if layout is None:
            return
        tried, made = Phase("teacher gate", kept=True), Phase("answers of a model", kept=True)
        for name, own in data.objectives.items():
            prompts = [row[0].teacher_ids[: row[0].teacher_start] for row in data.encoded[name]]
            size = self.rows.sizes[name] or len(prompts)
            if gate.action != "off":
                tried += _replied(layout, evenly_spread(prompts, gate.sample), gate.max_new_tokens)
            if own.answer in ("teacher", "alternate"):
                made += _replied(layout, prompts, own.answer_tokens).times(size / len(prompts))
            thoughts = own.context.reasoning_tokens if own.context else 0
            if thoughts:
                made += _replied(layout, prompts, thoughts).times(size / len(prompts))
        stored = self.lookup.gate() if self.lookup and tried.flops else 0.0
        yield tried.without(stored)
        yield made

    def _caches(self) -> Iterator[Phase]:
        at, student, teaching = self.scenario, self.scenario.student, self.scenario.teaching
        trunk = teacher = 0.0
        frozen = isinstance(at.teacher, FrozenTeacher) and at.teacher.path is None
        start = frozen and not isinstance(at.teacher, SmoothedTeacher)
        for name, encoded in self.rows.data.encoded.items():
            flat = [candidate for row in encoded for candidate in evenly_spread(row, _FORMS)]
            share = self.rows.distinct(name, self.work.steps) / len(flat)
            if at.stored_trunk:
                read = [_up_to_answer(c.student_ids, c.student_start, c) for c in flat]
                trunk += share * (reading(student, read) - reading(student, read, student.lowest))
            if teaching.cached and teaching.layout is not None:
                read = [_up_to_answer(c.teacher_ids, c.teacher_start, c) for c in flat]
                same = at.stored_trunk and start
                same = same and all(c.teacher_ids == c.student_ids for c in flat)
                teacher += share * reading(teaching.layout, read, student.lowest if same else 0)
        look = self.lookup
        if trunk:
            found = Phase("trunk cache", trunk, kept=True)
            yield found.without(look.trunk() if look else None)
        if teacher:
            found = Phase("teacher cache", teacher, kept=True)
            yield found.without(look.teacher() if look else None)

    def _steps(self) -> Phase:
        at, count = self.scenario, max(self.work.steps - self.work.done, 0)
        seen = self.rows.steps(self.module.objectives, at.micro_batch_rows, at.devices)
        batches = [batch for step in seen for own in step.values() for batch in own]
        logits = sum(b.moved_rows * b.repeats for b in batches) * at.student.vocabulary / len(seen)
        moved = 4 * (logits + self._gradients() * at.student.trained)
        one = step_phase(step_flops(at, seen)) + Phase("", moved=moved)
        return replace(one.times(count), name=f"{count:,} steps")

    def _sampled(self) -> Phase:
        """Return the work of sampling the student's own answers during training."""
        made, left = Phase("answers of the student"), max(self.work.steps - self.work.done, 0)
        for name, own in self.rows.data.objectives.items():
            if own.answer == "student":
                rows = self.rows.data.encoded[name]
                prompts = [row[0].student_ids[: row[0].student_start] for row in rows]
                drawn = left * self.rows.per_step()[name]
                once = self.rows.sizes[name] or math.inf
                count = min(once * -(-left // own.refresh_steps), drawn) if left else 0.0
                work = _replied(self.scenario.student, prompts, own.answer_tokens)
                made += work.times(count / len(prompts))
        return made

    def _gradients(self) -> float:
        """Return the number of reads and writes of gradients and optimizer per trained element."""
        objectives, every = len(self.module.objectives), self.module.diagnostics_every
        kept = 1.0 if self.scenario.gradients == "kept" else 1 / every if every else 0.0
        # each gradient is added up and checked, kept ones also multiplied and combined; the sum is
        # clipped
        return objectives * (4 + 4 * kept) + 3 + self.scenario.optimizer_moved

    def _answers(self, when: str, schedules: Sequence[SuiteSchedule]) -> Iterator[Phase]:
        """Yield the phases of the evaluations before or after training."""
        for one in schedules if self.encoder else ():
            often = f", {one.times} times" if one.times > 1 else ""
            for phase in self._suites(one, None, kept=when == "before"):
                yield replace(phase.times(one.times), name=f"{phase.name} {when}{often}")

    def _during(self) -> Iterator[Phase]:
        """Yield the phases of the evaluations between steps."""
        for one in self.work.evaluations if self.encoder else ():
            times = (self.work.steps - self.work.done - 1) // one.every if one.every else 0
            for phase in self._suites(one, one.limit) if times else ():
                yield replace(phase.times(times), name=f"{phase.name}, {times} times")

    def _validation(self) -> Phase:
        """Return the phase of all validations, without replies: own answers, and gold ones."""
        found, teaching = Phase("validation"), self.scenario.teaching
        for name, count in self.work.validated.items():
            rows, prefills = self.rows.data.encoded[name], self.rows.data.objectives[name].prefills
            flat = [c for row in rows for c in (row[: prefills.candidates] if prefills else row)]
            own = [_up_to_answer(c.student_ids, c.student_start, c) for c in flat]
            flops = 2 * reading(self.scenario.student, own, 0, sum(c.predictions for c in flat))
            if teaching.layout is not None and not teaching.cached:
                flops += reading(teaching.layout, [c.teacher_ids for c in flat])
            found += Phase("", count / len(rows) * flops)
        return found

    def _suites(
        self, one: SuiteSchedule, limit: int | None, *, kept: bool = False
    ) -> Iterator[Phase]:
        if self.encoder is None:
            return
        known = self.lookup.answers if self.lookup and kept and one.kept else none_stored
        model = SuiteModel(self.scenario.student, self.encoder, known)
        for phase in suite_phases(model, one.suites, self.rows.data.data_root, limit):
            yield replace(phase, kept=kept and one.kept)

    def sample_work(self) -> SampleWork:
        """Return the part of the run's work on which rates are measured."""
        encoded = self.rows.data.encoded
        rows = [row[0].student_ids for own in encoded.values() for row in own]
        first = self.rows.batches(self.scenario.micro_batch_rows, self.scenario.devices)[0]
        trained = [batch.student for batches in first.values() for batch in batches]
        return SampleWork(rows, trained, self.work.replies)


def _replied(layout: Layout, prompts: Sequence[Ids], length: int) -> Phase:
    """Return the work of replies of ``length`` tokens to prompts."""
    return Phase("", reading(layout, prompts), replying(layout, len(prompts) * length))


def _up_to_answer(ids: Ids, start: int, row: EncodedExample) -> Ids:
    return ids[: start + max(row.predictions, 1) - 1]  # those before the last predicted id
