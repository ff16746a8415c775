"""Measure how time and memory of a step grow with objectives, K, context, vocabulary, parameters.

    OMP_NUM_THREADS=1 python benchmarks/growth.py [--repeats 3] [--out FILE.json]

Models are random Llamas of four blocks in float32. A step has 16 rows of random tokens for any
number of objectives: 24 tokens of question, 16 of answer. It is bidirectional distillation at all
answer positions with torch.optim.AdamW, by the functions that `UnlearnModule` calls, without
Lightning. One setting at a time is changed (`BASE` has the others), each in a separate process. CPU
seconds of a step are given as median, minimum and maximum, without the first step. Memory is the
peak during these steps minus the memory of the process before the model was loaded.
"""

import argparse
import contextlib
import io
import multiprocessing
import tempfile
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from cost import peak_gib, report, reset_peak, spread
from script import run_script
from torch import nn

from lit_unlearn.data.collation import collate
from lit_unlearn.gradients.accumulator import Accumulator, Mode
from lit_unlearn.gradients.collect import layer_groups, write_gradient
from lit_unlearn.gradients.weighting import Fixed
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import tiny_model
from lit_unlearn.objectives import BidirectionalDistillation
from lit_unlearn.teachers import FrozenTeacher, Teacher
from lit_unlearn.training.step import (
    Models,
    ObjectiveStep,
    accumulate,
    combined,
    empty_record,
)
from lit_unlearn.types import EncodedExample, TokenBatch

ROWS, QUESTION, ANSWER, LAYERS = 16, 24, 16, 4


@dataclass(frozen=True)
class Setting:
    """Settings of a step."""

    objectives: int = 4
    exact: bool = False
    """Whether the exact Gramian of all pairs is computed."""
    top_k: int = 20
    """K of the pull and of the push."""
    cached: bool = True
    context: int = 0
    """Number of tokens before each row that only the teacher sees."""
    shared: bool = True
    """Whether all rows have the same context."""
    vocabulary: int = 8192
    width: int = 256


BASE = Setting()
UNCACHED = replace(BASE, cached=False)
SERIES: dict[str, dict[str, Setting]] = {
    "objectives": {str(n): replace(BASE, objectives=n) for n in (1, 2, 4, 8)},
    "objectives, exact Gramian": {
        str(n): replace(BASE, objectives=n, exact=True) for n in (2, 4, 8)
    },
    "K": {str(k): replace(BASE, top_k=k) for k in (10, 100, 1000)},
    "context, not cached": {
        **{str(c): replace(UNCACHED, context=c) for c in (0, 64, 256, 1024)},
        "256, each row its own": replace(UNCACHED, context=256, shared=False),
    },
    "vocabulary": {str(v): replace(BASE, vocabulary=v) for v in (2048, 8192, 32768, 65536)},
    "width": {str(d): replace(BASE, width=d) for d in (128, 256, 384, 512)},
}


def batches(setting: Setting) -> list[TokenBatch]:
    """Return one batch for each objective."""
    random = torch.Generator().manual_seed(0)

    def ids(count: int) -> tuple[int, ...]:
        return tuple(torch.randint(3, 2048, (count,), generator=random).tolist())

    context = ids(setting.context)
    rows = []
    for number in range(ROWS):
        row = ids(QUESTION + ANSWER)
        seen = (context if setting.shared else ids(setting.context)) + row
        start = setting.context + QUESTION
        rows.append([EncodedExample(str(number), row, QUESTION, seen, start, ANSWER)])
    each = ROWS // setting.objectives
    return [collate(rows[i : i + each], pad_id=0) for i in range(0, ROWS, each)]


def step(
    setting: Setting, given: list[TokenBatch], student: nn.Module, teacher: Teacher, optimizer: Any
) -> None:
    """Take one step; each batch is an objective."""
    named = list(student.named_parameters())
    parameters = [parameter for _, parameter in named]
    objective = BidirectionalDistillation(top_k=setting.top_k, push_top_k=setting.top_k)
    weighting = Fixed()
    weighting.bind([str(number) for number in range(len(given))])
    ones = torch.ones(len(given), dtype=torch.float64)
    mode: Mode = "keep" if setting.exact else "sum"
    accumulator = Accumulator(parameters, ones, layer_groups(named), mode)
    models = Models(ModelReader(student), teacher)
    for number, batch in enumerate(given):
        accumulate(ObjectiveStep(str(number), objective, [batch]), models, accumulator)
    record = empty_record(0, "exact")
    update = combined(accumulator, weighting, None, record, diagnose=setting.exact)
    write_gradient(parameters, update)
    optimizer.step()
    optimizer.zero_grad()


def measure(setting: Setting, repeats: int) -> dict[str, Any]:
    """Return the CPU seconds of steps, and the peak of memory in MiB."""
    reset_peak()
    before = peak_gib()
    given = batches(setting)
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stderr(io.StringIO()):
        tiny_model(
            hidden_size=setting.width, layers=LAYERS, vocabulary=setting.vocabulary
        ).save_pretrained(folder)
        source = ModelSource(folder)
        student = load_student(source)
        teacher = FrozenTeacher(cache=f"{folder}/cache" if setting.cached else False)
        teacher.attach(student, source)
        teacher.foresee([batch.teacher for batch in given])
        optimizer = torch.optim.AdamW(student.parameters(), lr=1e-5)
        seconds = []
        reset_peak()
        for _ in range(repeats + 1):
            start = time.process_time()
            step(setting, given, student, teacher, optimizer)
            seconds.append(time.process_time() - start)
    return {
        "parameters": sum(parameter.numel() for parameter in student.parameters()),
        "seconds": seconds[1:],
        "peak MiB": (peak_gib() - before) * 1024,
    }


def alone(setting: Setting, repeats: int) -> dict[str, Any]:
    """Call `measure` in a separate process."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.apply(measure, (setting, repeats))


def main() -> None:
    """Measure all settings and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/growth/result.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    measure(replace(BASE, width=32), 0)  # imports, for all processes
    settings = dict.fromkeys(s for series in SERIES.values() for s in series.values())
    known = {setting: alone(setting, args.repeats) for setting in settings}
    rows, record = [], []
    for series, values in SERIES.items():
        for value, setting in values.items():
            found = known[setting]
            taken = spread(found["seconds"])
            rows.append(
                {
                    "grows": series,
                    "to": value,
                    "parameters": f"{found['parameters'] / 1e6:.1f} M",
                    "CPU s": taken["median"],
                    "least": taken["least"],
                    "greatest": taken["greatest"],
                    "peak MiB": round(found["peak MiB"]),
                }
            )
            record.append({"series": series, "to": value, **asdict(setting), **found})
    report(f"A step of {ROWS} rows", rows, {"settings": record}, args.out)


if __name__ == "__main__":
    run_script(main)
