r"""Carry out five requests one after the other, all at once, and each alone; compare the models.

    lit-unlearn fit --config configs/tofu_smollm2_target.yaml     # once: TOFU's target
    python benchmarks/request_sequence.py [--target MODEL] [--plan] [--docs docs/requests.md]

The target knows 22 fictitious authors of TOFU. Five requests of four authors each are carried out
with the parts of `erase`: `write_rows`, `run_config` and `fit`. Authors that will be requested
later are neighbours until then, as nobody knows the future; from their request on they are in no
row to keep. Arms:

- *plain*: the recipe erase.yaml, scaled down, each request from the model of the one before;
- *joined*: the same, and rows of all earlier requests join (`earlier_share` 0.25, the default);
- *interpolated*: as *joined*, and a share of each update is kept (`WeightInterpolation`, as in
  erase.yaml: the middle of those that forget and that the rows to keep allow);
- *first teacher*: as *interpolated*, and the teacher is the model from before the first request, as
  `erase` does it;
- *npo*: NPO, a method without a teacher (configs/tofu/npo.yaml), with the same joining;
- *at once*: all five requests as one, from the target, with the recipe of interpolated and with
  NPO, in as many steps as the five requests of a sequence have together;
- *alone*: each request from the target, with the recipe of interpolated and with NPO.

Questions, and the rule of comparison, both written down before the first run:

1. Do earlier requests come back? `forgotten` of request j after request t, on two questions of each
   author, of which one is never trained: 1 minus the larger of two ratios to the target (recall of
   the reply by ROUGE-L, probability of the gold answer per token), 0 to 1. An arm lets requests
   come back if `forgotten` falls by more than 0.1 from t = j to t = 5, on the mean over j = 1 to
   4. Extraction strength is reported only: on the questions for choosing settings it stayed at .2
   when recall fell from .47 to .13.
2. Is utility eroded? `kept` after request t: the smallest ratio to the target, at most 1, of the
   recall of the two authors that nobody asks to forget, real authors, world facts and general
   questions. An arm erodes if `kept` after request 5 is more than 0.1 below that after request 1.
3. Do new and earlier requests conflict? The mean cosine of `earlier` with `forget` and with the
   rows to keep, over the logged steps.
4. Is a sequence worse than all at once, or than each alone? Difference of `forgotten` (mean over
   requests) and of `kept`, with 0.1 as the smallest difference that counts.

Intervals are 95 %, by bootstrap over rows. One seed: the differences between arms have no spread
over seeds, so smaller ones are not reported as effects. Steps, rates and weights of the scaled
recipe were chosen on request 1 and on other questions (`--validation`). The rate of NPO is the one
of 5e-4, 1e-3 and 2e-3 whose smaller value of `forgotten` and `kept` is the largest there: 1e-3,
with .68 and .65 (the others: .43 and .60; .70 and .40).

The same command resumes a stopped experiment; finished runs and evaluations are not repeated. The
output folder gets sequence.json, sequence.md and pictures; --docs writes the same into that page.
Cost on one core of an AMD EPYC: see SECONDS.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml
from request_sequence_pictures import save_pictures
from request_sequence_report import Measured, Results, markdown, write_docs, write_json
from request_sequence_rows import REQUESTS, Rows, battery, neighbours, read_all, recipe
from rich.console import Console
from script import run_script

from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.record_files import METRICS, read_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.models.finding import fingerprint
from lit_unlearn.requests.battery import Battery
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.request import Forget, Request
from lit_unlearn.requests.rows import RequestRows, write_rows
from lit_unlearn.requests.run_config import run_config
from lit_unlearn.sweeping.jobs import Job, is_finished, run_jobs

SECONDS = {"fit": 180, "evaluation": 75}
"""CPU seconds of one run and of one evaluation in float32; bfloat16 instructions halve them."""
ALL = tuple(range(1, REQUESTS + 1))


@dataclass(frozen=True)
class Run:
    """One training."""

    name: str
    """Name of the folder."""
    recipe: str
    new: tuple[int, ...]
    """Requests that it carries out."""
    before: tuple[int, ...] = ()
    """Requests that were carried out before it."""
    joins: bool = False
    """Whether their rows join."""
    start: str | None = None
    """Run from whose model it starts; None for the target."""

    def steps(self, of_one: Mapping[str, int]) -> dict[str, int]:
        """Return the steps by recipe: several requests get as many as they have one by one."""
        return {kind: count * len(self.new) for kind, count in of_one.items()}


def sequence(arm: str, kind: str, joins: bool, first: str | None = None) -> list[Run]:
    """Return the runs of a sequence; `first` is a run of the first request that is made anyway."""
    runs = [] if first else [Run(f"{arm}_1", kind, (1,))]
    for number in ALL[1:]:
        start = first if first and number == 2 else f"{arm}_{number - 1}"
        runs.append(Run(f"{arm}_{number}", kind, (number,), ALL[: number - 1], joins, start))
    return runs


def all_runs() -> list[Run]:
    """Return all runs, the most important first; runs that are equal between arms are made once."""
    runs = sequence("interpolated", "interpolated", joins=True)
    runs += sequence("first_teacher", "first_teacher", joins=True, first="interpolated_1")
    runs.sort(key=lambda run: run.new)  # both arms step by step, to be compared early
    runs += sequence("npo", "npo", joins=True)
    runs += [Run(f"{kind}_at_once", kind, ALL) for kind in ("interpolated", "npo")]
    for kind in ("interpolated", "npo"):
        runs += [Run(f"{kind}_alone_{number}", kind, (number,)) for number in ALL[1:]]
    plain = sequence("plain", "default", joins=False)
    plain += sequence("joined", "default", joins=True, first="plain_1")
    return runs + sorted(plain, key=lambda run: run.new)


class Experiment:
    """The runs of one output folder."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.rows: Rows = read_all(given.validation)
        self.suite = battery(self.rows, given.output / "battery")
        self.console = Console(stderr=True)

    def folder(self, name: str) -> RequestFolder:
        """Return the folder of a run."""
        return RequestFolder(self.given.output / name)

    def job(self, run: Run) -> Job:
        """Write the rows and the config of a run, and return its training."""
        folder, rows = self.folder(run.name), self.rows
        forget = [row for number in run.new for row in rows.trained[number - 1]]
        earlier = [r for number in run.before * run.joins for r in rows.trained[number - 1]]
        near = neighbours(rows, (*run.new, *run.before))
        nothing = Battery([], [], [], [], [], [])
        write_rows(folder.rows, RequestRows(forget, near, rows.general, nothing, (), earlier))
        start = str(self.folder(run.start).model) if run.start else self.given.target
        request = Request(id=run.name, model=start, forget=Forget(questions=forget))
        steps = run.steps(self.given.steps)
        values = recipe(run.recipe, steps, self.given.rates, self.given.changes, self.given.target)
        config = run_config(values, request, folder)
        folder.config.write_text(yaml.safe_dump(config, sort_keys=False), "utf-8")
        inputs = tuple(sorted(folder.rows.glob("*.jsonl")))
        arguments = ("fit", "--config", str(folder.config))
        return Job(run.name, folder.run, arguments, "model/config.json", inputs)

    def evaluation(self, model: str, folder: Path) -> EvaluationRecord:
        """Return the evaluation of a model, which is made if there is none."""
        if (folder / METRICS).is_file():
            found = read_evaluation(folder)
            if found.fingerprint.startswith(fingerprint(model)):
                return found
        made = evaluate(model, self.suite, output=folder, loading=Loading(dtype="auto"))
        return made.records["model"]

    def run(self, runs: Sequence[Run]) -> list[Measured]:
        """Do all that is not finished; runs that cannot start are left out."""
        output = self.given.output
        start = self.evaluation(self.given.target, output / "target")
        found = [Measured("target", (), (), start, None)]
        for number, run in enumerate(runs, start=1):
            if run.start and not self.folder(run.start).model.is_dir():
                continue
            self.console.print(f"Run {number} of {len(runs)}: {run.name}")
            job = self.job(run)
            if self.given.finished and not is_finished(job):
                continue
            for failure in run_jobs([job], console=self.console):
                self.console.print(f"{failure.job.name} failed: {failure.reason}")
            if is_finished(job):
                folder = self.folder(run.name)
                record = self.evaluation(str(folder.model), folder.after)
                found.append(Measured(run.name, run.new, run.before, record, folder.run))
        return found

    def plan(self, runs: Sequence[Run]) -> str:
        """Return a line for each run, and the time of those that are left."""
        left = [run for run in runs if not (self.folder(run.name).after / METRICS).is_file()]
        lines = [
            f"{run.name}: requests {run.new} from {run.start or 'the target'}"
            + (f", with rows of {run.before}" if run.joins else "")
            + ("" if run in left else " (finished)")
            for run in runs
        ]
        minutes = len(left) * sum(SECONDS.values()) / 60
        return "\n".join([*lines, f"left: {len(left)} runs, {minutes:.0f} minutes of one core"])


def main(args: Sequence[str] | None = None) -> None:
    """Run what is not finished, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/request_sequence"))
    parser.add_argument("--target", default="runs/tofu_smollm2_target/model")
    parser.add_argument("--only", type=lambda t: t.split(","), help="names of runs, as a,b")
    parser.add_argument(
        "--steps", type=yaml.safe_load, default={"default": 26, "npo": 30}, help="steps by recipe"
    )
    parser.add_argument(
        "--rates", type=yaml.safe_load, default={"default": 5.0e-4, "npo": 1.0e-3}, help="by recipe"
    )
    parser.add_argument(
        "--changes", type=Path, nargs="*", default=[], help="configs laid over both recipes"
    )
    parser.add_argument("--docs", type=Path, help="page whose results section is written")
    parser.add_argument("--finished", action="store_true", help="start nothing, only report")
    parser.add_argument("--validation", action="store_true", help="ask other rows, for settings")
    parser.add_argument("--plan", action="store_true", help="print the remaining work, and stop")
    given = parser.parse_args(args)
    runs = [run for run in all_runs() if not given.only or run.name in given.only]
    experiment = Experiment(given)
    if given.plan:
        print(experiment.plan(runs))
        return
    found = Results(experiment.run(runs))
    text = markdown(found)
    write_json(found, given.output / "sequence.json")
    (given.output / "sequence.md").write_text(text, "utf-8")
    pictures = save_pictures(found, given.output)
    if given.docs:
        write_docs(given.docs, text, pictures)
    print(text)


if __name__ == "__main__":
    run_script(main)
