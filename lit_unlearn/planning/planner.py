"""All figures of a plan, computed for a scenario and for changes of its settings."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lit_unlearn.objectives import Objective
from lit_unlearn.planning.flops import Flops, forward_flops, step_flops
from lit_unlearn.planning.forward_passes import Steps
from lit_unlearn.planning.memory import Moment, moments, peak
from lit_unlearn.planning.planned_rows import PlannedRows
from lit_unlearn.planning.savings import Saving, savings, savings_until
from lit_unlearn.planning.scenario import Scenario, Strategy

__all__ = ["CacheSize", "Plan", "Planner", "Scale"]

_ENTRY_BYTES = 32
"""Bytes of a row in a teacher cache besides its hidden states: key and span."""


@dataclass(frozen=True)
class CacheSize:
    """The size of a teacher cache on disk."""

    answer_tokens: float
    token_bytes: int
    bytes: int
    flops: float
    """FLOPs of reading all rows once; a common beginning counts in each row."""


@dataclass(frozen=True)
class Scale:
    """A number of devices under a strategy."""

    strategy: str
    devices: int
    peak: Moment
    """Largest moment of a device."""
    seconds: tuple[float, float]
    """Expected seconds of a step, least and most."""


@dataclass(frozen=True)
class Plan:
    """All figures of a plan."""

    scenario: Scenario
    rows: PlannedRows
    moments: tuple[Moment, ...]
    """Largest moment of each kind, the largest first."""
    flops: Mapping[str, Flops]
    """FLOPs of a device in a step, by objective and kind."""
    cache: CacheSize | None
    """Size of a teacher cache; None if it is not possible."""
    scales: tuple[Scale, ...]
    """Figures by number of devices; the first is that of the scenario."""
    limit: float | None
    """Bytes of a device; None if none was named."""
    single: tuple[Saving, ...]
    """Switches that save memory, each by itself."""
    together: tuple[Saving, ...]
    """Switches to set one after the other until the run fits."""
    remarks: tuple[str, ...]

    @property
    def peak(self) -> Moment:
        """Largest moment."""
        return self.scales[0].peak

    @property
    def fits(self) -> bool | None:
        """Whether the peak fits the device; None if none was named."""
        return None if self.limit is None else self.peak.total <= self.limit


@dataclass
class Planner:
    """Planner of a run's scenarios, which share objectives, rows and device rates."""

    objectives: Mapping[str, Objective]
    rows: PlannedRows
    rates: tuple[float, float]
    limit: float | None

    def plan(self, scenario: Scenario, steps: int, remarks: tuple[str, ...]) -> Plan:
        """Return the plan for a number of optimizer steps."""
        own = self.steps(scenario)
        cacheable = scenario.teaching.fixed and _reads_only_logits(own)
        most = round(max(self.rows.per_step().values()))
        together: list[Saving] = []
        if self.limit is not None and self.peak(scenario) > self.limit:
            together = savings_until(self.limit, scenario, self.peak, most, cacheable)
        return Plan(
            scenario=scenario,
            rows=self.rows,
            moments=_largest_by_name(moments(scenario, own)),
            flops=step_flops(scenario, own),
            cache=self.cache(scenario, steps) if cacheable else None,
            scales=tuple(_scales(scenario, self.scale)),
            limit=self.limit,
            single=tuple(savings(scenario, self.peak, most, cacheable)),
            together=tuple(together),
            remarks=remarks,
        )

    def steps(self, at: Scenario) -> Steps:
        """Return the micro batches of the first steps."""
        return self.rows.steps(self.objectives, at.micro_batch_rows, at.devices)

    def peak(self, at: Scenario) -> int:
        """Return the largest number of bytes of a device."""
        return peak(at, self.steps(at)).total

    def scale(self, at: Scenario) -> Scale:
        """Return memory and time under a scenario."""
        own = self.steps(at)
        total = sum(sum(flops.values()) for flops in step_flops(at, own).values())
        slow, fast = (1e12 * rate for rate in self.rates)
        return Scale(at.sharing, at.devices, peak(at, own), (total / fast, total / slow))

    def cache(self, scenario: Scenario, steps: int) -> CacheSize | None:
        """Return the size of a cache of all rows that the run reads."""
        layout, own = scenario.teaching.layout, self.steps(replace(scenario, devices=1))
        if layout is None:
            return None
        tokens = flops = entries = 0.0
        for name, per_step in self.rows.per_step().items():
            batches = [batch for step in own for batch in step.get(name, ())]
            share = self.rows.distinct(name, steps) / (len(own) * per_step)
            tokens += share * sum(batch.cache_positions for batch in batches)
            passes = [p for batch in batches for p in batch.passes if p.model == "teacher"]
            flops += share * sum(forward_flops(layout, one) for one in passes)
            entries += share * sum(one.rows for one in passes)
        each = layout.width * layout.element_bytes
        return CacheSize(tokens, each, round(tokens * each + entries * _ENTRY_BYTES), flops)


def _scales(scenario: Scenario, scale: Callable[[Scenario], Scale]) -> Iterator[Scale]:
    """Yield the scenario; then 1, 2, 4, ... devices, at least to 8, under both strategies."""
    yield scale(scenario)
    own = (scenario.strategy, scenario.devices)
    if scenario.devices > 1:
        yield scale(replace(scenario, devices=1))
    strategies: tuple[Strategy, ...] = ("ddp", "fsdp2")
    devices = 2
    while devices <= max(8, scenario.devices):
        for strategy in strategies:
            if (strategy, devices) != own:
                yield scale(replace(scenario, strategy=strategy, devices=devices))
        devices *= 2


def _largest_by_name(every: Iterator[Moment]) -> tuple[Moment, ...]:
    """Return the largest moment of each name, the largest first."""
    found: dict[str, Moment] = {}
    for moment in every:
        if moment.what not in found or moment.total > found[moment.what].total:
            found[moment.what] = moment
    return tuple(sorted(found.values(), key=lambda moment: -moment.total))


def _reads_only_logits(steps: Steps) -> bool:
    """Return whether a cache can store all that objectives read from the teacher."""
    batches = [batch for step in steps for own in step.values() for batch in own]
    reading = [b for b in batches if any(one.model == "teacher" for one in b.passes)]
    return bool(reading) and all(batch.cache_positions for batch in reading)
