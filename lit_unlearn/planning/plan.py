"""A whole plan: the figures of a setting on its rows, on one device and on several."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from lit_unlearn.objectives import Objective
from lit_unlearn.planning.compute import Flops, Seconds, forward_flops, seconds, step_flops
from lit_unlearn.planning.devices import Device
from lit_unlearn.planning.memory import Moment, moments
from lit_unlearn.planning.proposals import Proposal, enough, proposals
from lit_unlearn.planning.rows import Rows
from lit_unlearn.planning.run import Steps, Strategy
from lit_unlearn.planning.setting import Setting, run_of

_ENTRY_BYTES = 32
"""Of a row in a teacher cache beside its hidden states: key and span."""


@dataclass(frozen=True)
class Cache:
    """A teacher cache on disk."""

    answer_tokens: float
    token_bytes: int
    bytes: int
    flops: float
    """Of reading all rows once; beginnings that rows share are counted in each."""


@dataclass(frozen=True)
class Scale:
    """One number of devices under one strategy."""

    strategy: Strategy
    devices: int
    peak: Moment
    seconds: Seconds | None


@dataclass(frozen=True)
class Plan:
    """All figures."""

    setting: Setting
    rows: Rows
    moments: tuple[Moment, ...]
    """The dearest one of each kind."""
    flops: Mapping[str, Flops]
    cache: Cache | None
    scales: tuple[Scale, ...]
    """The first is that of the setting."""
    limit: float | None
    """Bytes of the device; None where none was named."""
    single: tuple[Proposal, ...]
    together: tuple[Proposal, ...]

    @property
    def peak(self) -> Moment:
        """The moment with most in memory."""
        return self.scales[0].peak

    @property
    def fits(self) -> bool | None:
        """Whether the peak fits the device; None where none was named."""
        return None if self.limit is None else self.peak.total <= self.limit


def make_plan(
    setting: Setting,
    objectives: Mapping[str, Objective],
    rows: Rows,
    steps: int,
    device: Device | None,
    *,
    memory: float | None = None,
    utilisation: float | None = None,
) -> Plan:
    """Work everything out.

    Args:
        setting: The run's switches.
        objectives: By name.
        rows: What they read.
        steps: Optimizer steps of the run.
        device: Where it is to run; None gives no times and no verdict.
        memory: Gigabytes of 10^9 bytes, in place of the device's.
        utilisation: In place of the device's.
    """
    read: dict[tuple[int | None, int], Steps] = {}

    def steps_of(at: Setting) -> Steps:
        key = (at.micro_batch_rows, at.devices)
        if key not in read:
            read[key] = rows.steps(objectives, *key)
        return read[key]

    def scale_of(at: Setting) -> Scale:
        run, own = run_of(at), steps_of(at)
        found = max(moments(run, own), key=lambda moment: moment.total)
        time = None if device is None else seconds(run, own, device, utilisation)
        return Scale(run.strategy, run.devices, found, time)

    def peak_of(at: Setting) -> int:
        return scale_of(at).peak.total

    size = memory or (None if device is None else device.memory)
    limit = None if size is None else 1e9 * size
    run, own = run_of(setting), steps_of(setting)
    most = round(max(rows.per_step().values()))
    cacheable = run.teaching.fixed and _logits_alone(own)
    tight = limit is not None and peak_of(setting) > limit
    return Plan(
        setting=setting,
        rows=rows,
        moments=_dearest(moments(run, own)),
        flops=step_flops(run, own),
        cache=_cache(setting, steps_of(replace(setting, devices=1)), rows, steps),
        scales=tuple(_scales(setting, scale_of)),
        limit=limit,
        single=tuple(proposals(setting, peak_of, most, cacheable)),
        together=tuple(enough(setting, peak_of, most, cacheable, limit or 0)) if tight else (),
    )


def _scales(setting: Setting, scale_of: Callable[[Setting], Scale]) -> Iterator[Scale]:
    """The setting itself; then 1, 2, 4, ... devices, at least to 8, under both strategies."""
    yield scale_of(setting)
    own = (setting.strategy, setting.devices)
    if setting.devices > 1:
        yield scale_of(replace(setting, devices=1))
    devices = 2
    while devices <= max(8, setting.devices):
        for strategy in ("ddp", "fsdp2"):
            if (strategy, devices) != own:
                yield scale_of(replace(setting, strategy=strategy, devices=devices))
        devices *= 2


def _dearest(every: Iterator[Moment]) -> tuple[Moment, ...]:
    """The largest moment of each name, the largest first."""
    found: dict[str, Moment] = {}
    for moment in every:
        if moment.what not in found or moment.total > found[moment.what].total:
            found[moment.what] = moment
    return tuple(sorted(found.values(), key=lambda moment: -moment.total))


def _logits_alone(steps: Steps) -> bool:
    """Whether all that is read of the teacher can be asked for beforehand."""
    works = [work for step in steps for own in step.values() for work in own]
    reading = [work for work in works if any(read.who == "teacher" for read in work.reads)]
    return bool(reading) and all(work.asked for work in reading)


def _cache(setting: Setting, own: Steps, rows: Rows, steps: int) -> Cache | None:
    """What a cache of all rows that the run reads would take; None where none can be had."""
    teaching = run_of(setting).teaching
    layout = teaching.layout
    if layout is None or not teaching.fixed or not _logits_alone(own):
        return None
    tokens = flops = entries = 0.0
    for name, per_step in rows.per_step().items():
        works = [work for step in own for work in step.get(name, ())]
        share = rows.distinct(name, steps) / (len(own) * per_step)
        tokens += share * sum(work.asked for work in works)
        reads = [r for work in works for r in work.reads if r.who == "teacher"]
        flops += share * sum(forward_flops(layout, read) for read in reads)
        entries += share * sum(read.rows for read in reads)
    each = layout.width * layout.element_bytes
    return Cache(tokens, each, round(tokens * each + entries * _ENTRY_BYTES), flops)
