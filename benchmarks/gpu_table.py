"""The table of gpu_check.py, as markdown for the docs."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

Record = Mapping[str, Any]

COLUMNS = {
    "run": "{title}",
    "model": "{model}, {precision}",
    "tokens a step": "{tokens:.0f}",
    "s a step (diagnosed)": "{step_s:.3f} ({diagnosed_step_s:.3f})",
    "s of the first": "{first_step_s:.1f}",
    "s before it": "{ready_s:.0f}",
    "GB planned": "{planned_GB:.2f}",
    "GB measured (reserved)": "{measured_GB:.2f} ({reserved_GB:.2f})",
    "TFLOP a step": "{planned_TFLOP:.3g}",
    "MFU": "{mfu:.1%}",
    "with all planned FLOPs": "{of_planned_flops:.1%}",
}
"""Heading of a column -> format of its figures."""


def table(records: Sequence[Record]) -> str:
    """Return all records as markdown."""
    return "\n\n".join(part for part in _parts(records) if part) + "\n"


def _parts(records: Sequence[Record]) -> Iterator[str]:
    yield next((_machine(record["machine"]) for record in records if "machine" in record), "")
    runs = [record for record in records if "step_s" in record]
    if runs:
        rows = ([form.format(**run) for form in COLUMNS.values()] for run in runs)
        yield _lined(COLUMNS, rows)
        peaks = {f"{run['peak_TFLOPS']:.4g} TFLOP/s ({run['peak_source']})" for run in runs}
        yield f"Shares are those of {' or '.join(sorted(peaks))}."
    for record in records:
        if "kernels" in record:
            yield _rates(record)
            yield _kernels(record["kernels"])
        if "equal" in record:
            verdict = "equal" if record["equal"] else "**not equal**"
            yield (
                f"fsdp2 on one device by none ({record['model']}, float32): losses differ by "
                f"{record['losses']:.1e}, weights by {record['weights']:.1e} of their change: "
                f"{verdict}."
            )
    failed = [record for record in records if "problem" in record]
    problems = [f"- {record['title']}: {record['problem']}" for record in failed]
    yield "\n".join(["Not measured:", "", *problems]) if problems else ""


def _machine(found: Record) -> str:
    libraries = f"torch {found['torch']}, transformers {found['transformers']}"
    where = f"{found['cpu']}, {found['threads']} threads"
    if found["card"]:
        card = f"{found['card']} ({found['GB']:.0f} GB, capability {found['capability']})"
        where = f"{card}, driver {found['driver']}, CUDA {found['cuda']}"
    tiny = " Tiny models: the figures mean nothing." if found["tiny"] else ""
    return f"{where}, {libraries}, Python {found['python']}.{tiny}"


def _rates(record: Record) -> str:
    rates = (f"{rate:.4g} in {dtype}" for dtype, rate in record["TFLOP/s measured"].items())
    native = "" if record["bfloat16 natively"] else "not "
    return (
        f"TFLOP/s of a large matrix product: {', '.join(rates)}; bfloat16 is {native}multiplied "
        "natively."
    )


def _kernels(kernels: Sequence[Record]) -> str:
    rows = ([_milliseconds(value) for value in kernel.values()] for kernel in kernels)
    return "Causal attention of 8 rows, ms forward and backward:\n\n" + _lined(kernels[0], rows)


def _milliseconds(value: str | float | None) -> str:
    if value is None:
        return "refused"
    return value if isinstance(value, str) else f"{value:.3g}"


def _lined(heads: Iterable[str], rows: Iterable[Sequence[str]]) -> str:
    names = [*heads]
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
