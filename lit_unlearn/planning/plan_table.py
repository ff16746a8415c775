"""A plan as tables and as JSON."""

from collections.abc import Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.filesize import decimal
from rich.table import Table
from rich.text import Text

from lit_unlearn.planning.devices import DEVICES
from lit_unlearn.planning.flops import KINDS
from lit_unlearn.planning.planned_rows import mean_lengths
from lit_unlearn.planning.planner import Plan, Scale
from lit_unlearn.planning.savings import Saving
from lit_unlearn.utils.tables import add_row, table

__all__ = ["as_json", "show"]


def show(plan: Plan, console: Console) -> None:
    """Print all tables and remarks."""
    console.print(_heading(plan))
    for made in (_row_table(plan), _memory_table(plan), _flop_table(plan), _scale_table(plan)):
        console.print(made)
    if plan.single:
        console.print(_saving_table("Switches that save memory, each by itself", plan.single, plan))
    if plan.together:
        title = "Switches to set one after the other until it fits"
        console.print(_saving_table(title, plan.together, plan))
    for line in [*_sentences(plan), *plan.remarks]:
        console.print(line)


def _gigabytes(size: float) -> str:
    """Return bytes in units of 10^9, as in data sheets."""
    return f"{size / 1e9:.3g}" if size < 1e11 else f"{size / 1e9:.0f}"


def _heading(plan: Plan) -> Text:
    scenario = plan.scenario
    layout, devices = scenario.student, scenario.devices
    return Text.assemble(
        (scenario.source.path, "bold"),
        f": {layout.parameters / 1e6:,.1f} M parameters, "
        f"{layout.trained / 1e6:,.1f} M of them trained; {scenario.precision}, "
        f"{devices} device{'s' * (devices > 1)} ({scenario.sharing})",
    )


def _row_table(plan: Plan) -> Table:
    kind = "assumed" if plan.rows.assumed else "means over a sample, without padding"
    headings = ("objective", "rows a step", "tokens", "of the teacher", "answer")
    made = table(f"Rows ({kind})", headings)
    for name, per_step in plan.rows.per_step().items():
        student, teacher, answer = mean_lengths(plan.rows.data.encoded[name])
        lengths = f"{student:.0f}", f"{teacher:.0f}", f"{answer:.1f}"
        add_row(made, [name, f"{per_step:g}", *lengths])
    return made


def _memory_table(plan: Plan) -> Table:
    shown = plan.moments[:4]
    title = "Memory of a device at the largest moments (GB, 10^9 bytes)"
    made = table(title, ["", *(moment.what for moment in shown)])
    for part in dict.fromkeys(part for moment in shown for part in moment.parts):
        sizes = [moment.parts.get(part, 0) for moment in shown]
        if any(sizes):
            add_row(made, [part, *map(_gigabytes, sizes)])
    add_row(made, ["all", *(_gigabytes(moment.total) for moment in shown)], "bold")
    return made


def _flop_table(plan: Plan) -> Table:
    rows = [
        (name, *(f"{x / 1e12:.3g}" for x in (*flops.values(), sum(flops.values()))))
        for name, flops in plan.flops.items()
    ]
    made = table("TFLOP of a device in a step", ["objective", *KINDS, "all"], rows)
    total = sum(sum(flops.values()) for flops in plan.flops.values())
    add_row(made, ["all", *[""] * len(KINDS), f"{total / 1e12:.3g}"], "bold")
    return made


def _scale_table(plan: Plan) -> Table:
    headings = ("devices", "strategy", "peak GB", "fits", "seconds a step")
    rows = [
        (
            str(scale.devices),
            scale.strategy,
            _gigabytes(scale.peak.total),
            _fits(plan, scale),
            _seconds(scale),
        )
        for scale in sorted(plan.scales, key=lambda scale: scale.devices)
    ]
    return table("By number of devices", headings, rows)


def _seconds(scale: Scale) -> str:
    least, most = (f"{seconds:.3g}" for seconds in scale.seconds)
    return least if least == most else f"{least} to {most}"


def _fits(plan: Plan, scale: Scale) -> str:
    """Return the verdict, or the names of devices that are large enough if none was named."""
    if plan.limit is not None:
        return "yes" if scale.peak.total <= plan.limit else "no"
    names = [name for name, d in DEVICES.items() if scale.peak.total <= 1e9 * d.memory]
    return ", ".join(names) or "no known device"


def _saving_table(title: str, found: Iterable[Saving], plan: Plan) -> Table:
    made = table(title, ("option", "peak GB", "fits", "other effects"), left=4)
    for saving in found:
        fits = "" if plan.limit is None else ("yes" if saving.peak <= plan.limit else "no")
        add_row(made, [saving.options, _gigabytes(saving.peak), fits, saving.note])
    return made


def _sentences(plan: Plan) -> Iterator[str]:
    if plan.cache is not None:
        yield (
            f"A teacher cache would take {decimal(plan.cache.bytes)} on disk: "
            f"{plan.cache.answer_tokens:,.0f} answer tokens of {plan.cache.token_bytes} bytes; "
            f"reading them once is {plan.cache.flops / 1e12:.3g} TFLOP."
        )
    if plan.limit is None:
        yield "No device was named (--device), so there is no verdict."
        return
    verdict = "fits" if plan.fits else "does not fit"
    yield (
        f"It {verdict}: {_gigabytes(plan.peak.total)} GB at the largest moment ({plan.peak.what}), "
        f"of {_gigabytes(plan.limit)} GB."
    )
    if plan.together and plan.together[-1].peak > plan.limit:
        yield "None of the known switches is enough."


def as_json(plan: Plan) -> dict[str, Any]:
    """Return everything that `show` prints, in bytes, FLOPs and seconds."""
    layout = plan.scenario.student
    return {
        "model": plan.scenario.source.path,
        "parameters": layout.parameters,
        "trained": layout.trained,
        "precision": plan.scenario.precision,
        "rows_assumed": plan.rows.assumed,
        "fits": plan.fits,
        "limit_bytes": plan.limit,
        "peak_bytes": plan.peak.total,
        "moments": [{"what": m.what, "bytes": m.total, "parts": m.parts} for m in plan.moments],
        "flops": {name: {**own, "total": sum(own.values())} for name, own in plan.flops.items()},
        "cache": None if plan.cache is None else vars(plan.cache),
        "devices": [_scale_json(scale) for scale in plan.scales],
        "proposals": [_saving_json(saving) for saving in plan.single],
        "together": [_saving_json(saving) for saving in plan.together],
        "remarks": plan.remarks,
    }


def _scale_json(scale: Scale) -> dict[str, Any]:
    return {
        "strategy": scale.strategy,
        "devices": scale.devices,
        "peak_bytes": scale.peak.total,
        "seconds": dict(zip(("least", "most"), scale.seconds, strict=True)),
    }


def _saving_json(saving: Saving) -> dict[str, Any]:
    return {"options": saving.options, "note": saving.note, "peak_bytes": saving.peak}
