"""A plan as tables and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table

from lit_unlearn.planning.devices import DEVICES
from lit_unlearn.planning.plan import Plan, Scale
from lit_unlearn.planning.proposals import Proposal
from lit_unlearn.planning.rows import shapes
from lit_unlearn.planning.setting import run_of


def gigabytes(size: float) -> str:
    """Bytes in units of 10^9, as data sheets count."""
    return f"{size / 1e9:.3g}" if size < 1e11 else f"{size / 1e9:.0f}"


def show(plan: Plan, console: Console, remarks: list[str]) -> None:
    """Print all tables, and what a reader has to know."""
    console.print(_heading(plan), highlight=False)
    for table in (_row_table(plan), _memory_table(plan), _flop_table(plan), _scale_table(plan)):
        console.print(table)
    if plan.single:
        console.print(_proposal_table("What would save memory, each by itself", plan.single, plan))
    if plan.together:
        console.print(_proposal_table("Set one after the other until it fits", plan.together, plan))
    for line in [*_sentences(plan), *remarks]:
        console.print(line, highlight=False, markup=False)


def _heading(plan: Plan) -> str:
    run = run_of(plan.setting)
    layout = run.student
    return (
        f"[bold]{plan.setting.source.path}[/bold]: {layout.parameters / 1e6:,.1f} M parameters, "
        f"{layout.trained / 1e6:,.1f} M of them trained; {plan.setting.precision}, "
        f"{run.devices} device{'s' * (run.devices > 1)} ({run.strategy})"
    )


def _table(title: str, *headings: str) -> Table:
    table = Table(title=title, title_justify="left")
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number == 0 else "right")
    return table


def _row_table(plan: Plan) -> Table:
    kind = "assumed" if plan.rows.assumed else "means over a sample, padding not counted"
    table = _table(
        f"Rows ({kind})", "objective", "rows a step", "tokens", "of the teacher", "answer"
    )
    for name, per_step in plan.rows.per_step().items():
        student, teacher, answer = shapes(plan.rows.data.encoded[name])
        table.add_row(name, f"{per_step:g}", f"{student:.0f}", f"{teacher:.0f}", f"{answer:.1f}")
    return table


def _memory_table(plan: Plan) -> Table:
    """The dearest moments side by side."""
    shown = plan.moments[:4]
    table = _table("Memory of a device (GB, 10^9 bytes)", "", *(moment.what for moment in shown))
    for part in dict.fromkeys(part for moment in shown for part in moment.parts):
        sizes = [moment.parts.get(part, 0) for moment in shown]
        if any(sizes):
            table.add_row(part, *map(gigabytes, sizes))
    table.add_row("all", *(gigabytes(moment.total) for moment in shown), style="bold")
    return table


def _flop_table(plan: Plan) -> Table:
    columns = ("forward", "backward", "recomputing", "scoring", "teacher")
    table = _table("TFLOP of a device in a step", "objective", *columns, "all")
    for name, flops in plan.flops.items():
        table.add_row(name, *(f"{part / 1e12:.3g}" for part in (*flops.parts(), flops.total)))
    total = sum(flops.total for flops in plan.flops.values())
    table.add_row("all", *[""] * len(columns), f"{total / 1e12:.3g}", style="bold")
    return table


def _scale_table(plan: Plan) -> Table:
    """Memory, and time where a device is named; else the devices that are large enough."""
    timed = plan.scales[0].seconds is not None
    more = ("seconds a step", "matrices", "memory", "link") if timed else ()
    table = _table("By number of devices", "devices", "strategy", "peak GB", "fits", *more)
    for scale in sorted(plan.scales, key=lambda scale: scale.devices):
        spent = scale.seconds
        times: tuple[float, ...] = ()
        if spent is not None:
            times = (spent.total, spent.matrices, spent.memory, spent.traffic)
        table.add_row(
            str(scale.devices),
            scale.strategy,
            gigabytes(scale.peak.total),
            _fits(plan, scale),
            *(f"{time:.3g}" for time in times),
        )
    return table


def _fits(plan: Plan, scale: Scale) -> str:
    if plan.limit is not None:
        return "yes" if scale.peak.total <= plan.limit else "no"
    names = [n for n, d in DEVICES.items() if d.memory and scale.peak.total <= 1e9 * d.memory]
    return ", ".join(names) or "none of those known"


def _proposal_table(title: str, found: tuple[Proposal, ...], plan: Plan) -> Table:
    table = Table(title=title, title_justify="left")
    for heading in ("option", "peak GB", "fits", "what else it changes"):
        table.add_column(heading)
    for proposal in found:
        fits = "" if plan.limit is None else ("yes" if proposal.peak <= plan.limit else "no")
        table.add_row(proposal.options, gigabytes(proposal.peak), fits, proposal.note)
    return table


def _sentences(plan: Plan) -> Iterator[str]:
    if plan.cache is not None:
        yield (
            f"A teacher cache would take {decimal(plan.cache.bytes)} on disk: "
            f"{plan.cache.answer_tokens:,.0f} answer tokens of {plan.cache.token_bytes} bytes; "
            f"reading them once is {plan.cache.flops / 1e12:.3g} TFLOP."
        )
    if plan.limit is None:
        yield "No device was named (--device), so that there are no times and no verdict."
        return
    verdict = "fits" if plan.fits else "does not fit"
    yield (
        f"It {verdict}: {gigabytes(plan.peak.total)} GB at the worst moment ({plan.peak.what}), "
        f"of {gigabytes(plan.limit)} GB."
    )
    if plan.together and plan.together[-1].peak > plan.limit:
        yield "None of the known switches is enough."


# ------------------------------------------------------------------------------------------- JSON


def as_json(plan: Plan, remarks: list[str]) -> dict[str, Any]:
    """Everything that `show` prints, in bytes, FLOPs and seconds."""
    run = run_of(plan.setting)
    flops = {name: {**vars(own), "total": own.total} for name, own in plan.flops.items()}
    return {
        "model": plan.setting.source.path,
        "parameters": run.student.parameters,
        "trained": run.student.trained,
        "precision": plan.setting.precision,
        "rows_assumed": plan.rows.assumed,
        "fits": plan.fits,
        "limit_bytes": plan.limit,
        "peak_bytes": plan.peak.total,
        "moments": [{"what": m.what, "bytes": m.total, "parts": m.parts} for m in plan.moments],
        "flops": flops,
        "cache": None if plan.cache is None else vars(plan.cache),
        "devices": [_scale_json(scale) for scale in plan.scales],
        "proposals": [_proposal_json(proposal) for proposal in plan.single],
        "together": [_proposal_json(proposal) for proposal in plan.together],
        "remarks": remarks,
    }


def _scale_json(scale: Scale) -> dict[str, Any]:
    spent = scale.seconds
    return {
        "strategy": scale.strategy,
        "devices": scale.devices,
        "peak_bytes": scale.peak.total,
        "seconds": None if spent is None else {**vars(spent), "total": spent.total},
    }


def _proposal_json(proposal: Proposal) -> dict[str, Any]:
    return {"options": proposal.options, "note": proposal.note, "peak_bytes": proposal.peak}
