"""Tune and evaluate all methods of configs/tofu in the same way on one real model; write a table.

    lit-unlearn fit --config configs/tofu_smollm2_target.yaml     # once: trains the target
    lit-unlearn fit --config configs/tofu_smollm2_target.yaml \
        --config configs/tofu_smollm2_retain.yaml                 # once: trains the retain model
    python benchmarks/compare_methods.py --reference runs/tofu_smollm2_retain/model \
        [--data FOLDER] [--jobs N]

For each method and each learning rate that it tries, SmolLM2-135M forgets TOFU's forget01 from the
same target, with the same rows, rows per step and number of steps (configs/tofu/base.yaml,
smollm2.yaml, then the method's file). Bidirectional distillation reads 43 % of its rows with
prefills.

The rule of choice: each method gets the same number of tries (`--tries`), each a learning rate. Two
rates in the middle of the grid come first, then neighbours of the best. The rate with the highest
balance (see `metrics/functional/balance.py`) on configs/evaluate_tofu_validation.yaml is evaluated
with every seed on configs/evaluate_tofu_comparison.yaml, the lowest such rate if several are equal.
A method with SGD tries the grid times 1000. No row of the validation is in the evaluation; the
forget rows of both are training rows, as for every method and in every evaluation. The openers of
validation are used in neither training nor evaluation. `--leaders N` gives further seeds only to
the N methods with the highest balance on the validation rows; existing further seeds of other
methods count too. The table has means over seeds (and the range of the balance), methods.json has
every run.

The same command resumes a stopped comparison. `--earlier methods.json` takes the results of a
comparison whose folder is not here, such as one of another machine: a method in it is not tuned
again, and a seed not run again. Weights of runs that were not chosen are deleted. The output folder
gets methods.json after each method; at the end methods.md, methods_scatter.png (forgetting against
utility) and methods_parts.png (the balance, its parts and further figures). Failures are listed in
the table.

Cost: of each method, `--tries` trainings of 40 steps with as many validations, and of each seed one
evaluation. With SmolLM2 on one thread of an AMD EPYC with bfloat16 instructions, beside another
process, a training took 2 minutes, a validation 0.5 and an evaluation 4.5: half an hour for a
method with three seeds.
"""

import argparse
import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

from methods_report import (
    Figures,
    Method,
    bars,
    best_rate,
    leaders,
    markdown,
    next_rates,
    scatter,
)
from rich.console import Console
from script import run_script

from lit_unlearn.errors import InputError
from lit_unlearn.sweeping.jobs import EVALUATION, STAMP, Failure, Job, is_finished, run_jobs
from lit_unlearn.sweeping.sweep import plan_jobs, run_settings
from lit_unlearn.sweeping.table import BALANCE, METRICS, evaluation_figures
from lit_unlearn.utils.ownership import write_text

PROJECT = Path(__file__).resolve().parents[1]
CONFIGS = PROJECT / "configs"
NOT_COMPARED = ("base", "reinforced", "whp", "undo")
"""The base, and methods that need a previous run or thousands of steps (see their headers)."""
LAID_OVER = {
    "bidirectional_everywhere": "bidirectional",
    "bidirectional_gold": "bidirectional",
    "bidirectional_interpolated": "bidirectional_weighted",
    "bidirectional_keep": "bidirectional",
    "bidirectional_maxent": "bidirectional",
    "bidirectional_maxent_whole": "bidirectional_maxent",
    "bidirectional_npo": "bidirectional",
    "bidirectional_pull": "bidirectional",
    "bidirectional_unprefilled": "bidirectional_interpolated",
    "bidirectional_weighted": "bidirectional_everywhere",
    "bidirectional_wga": "bidirectional",
    "bidirectional_whole": "bidirectional",
}
"""Method -> method whose config it changes; chains are possible."""
METHODS = sorted(
    file.stem
    for file in (CONFIGS / "tofu").glob("*.yaml")
    if file.stem not in NOT_COMPARED and not file.stem.endswith("smollm2")
)
CALLBACKS = {
    "trainer": {
        "callbacks": [{"class_path": "GradientMonitor"}, {"class_path": "HuggingFaceExport"}]
    }
}
"""Callbacks of a run, without an evaluation, which is a separate command. A method's own config may
replace them, such as that of MASC, which stops early by one."""
RATE_FACTORS = {"repselect": 1000.0}
"""Method with SGD -> factor of the rates, whose steps are as long as the gradient."""
GRADIENTS = "gradients.jsonl"
"""File that identifies a run after its weights are deleted."""
VALIDATION = "validation"
SAME = ("rates", "steps", "seed", "tries", "fit", "evaluate")
"""Options that must be those of the results taken by `--earlier`."""
SUITES = {
    VALIDATION: CONFIGS / "evaluate_tofu_validation.yaml",
    EVALUATION: CONFIGS / "evaluate_tofu_comparison.yaml",
}
"""Kind of evaluation -> its config."""


def method_files(name: str) -> list[str]:
    """Return the method's configs, in the order in which they are merged."""
    parts = [name]
    while parts[0] in LAID_OVER:
        parts.insert(0, LAID_OVER[parts[0]])
    return [
        str(file)
        for part in parts
        for ending in ("", "_smollm2")
        if (file := CONFIGS / f"tofu/{part}{ending}.yaml").is_file()
    ]


# ------------------------------------------------------------------------------------------ running


class Comparison:
    """The runs of one comparison, in one folder."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.output: Path = given.output
        self.references: dict[str, str] = {}
        """Kind of evaluation -> folder of the retain model's."""
        self.console = Console(stderr=True)

    def run(self, earlier: Mapping[str, Method]) -> list[Method]:
        """Run everything, method by method, so that few weights are on the disk at a time.

        Methods of an earlier comparison keep their results.
        """
        self.evaluate_start(VALIDATION, EVALUATION)
        methods = []
        for number, name in enumerate(self.given.methods, start=1):
            self.console.rule(f"{name} ({number} of {len(self.given.methods)})")
            methods.append(earlier.get(name) or self._tune(name))
            self.save(methods)
        chosen = leaders(methods, self.given.leaders)
        for method in methods:
            seeds = self.given.further_seeds if method in chosen else self._finished(method)
            if seeds:
                self.console.rule(f"{method.name}, further seeds")
                self._evaluate(method, [seed for seed in seeds if str(seed) not in method.runs])
                self.save(methods)
        return methods

    def evaluate_start(self, *kinds: str) -> None:
        """Evaluate the target, which all figures are relative to, and the retain model."""
        start, folder = self.given.start, self.output / "start"
        failed = self._do([self._evaluation(start, folder, kind) for kind in kinds])
        if failed:
            raise SystemExit(f"The target cannot be evaluated: {failed[0].reason}")
        if self.given.reference is not None:
            place = self.output / "reference"
            jobs = [
                self._evaluation(self.given.reference, place, kind, "--start", str(folder / kind))
                for kind in kinds
            ]
            if failed := self._do(jobs):
                raise SystemExit(f"The retain model cannot be evaluated: {failed[0].reason}")
            self.references = {kind: str(place / kind) for kind in kinds}

    def save(self, methods: Sequence[Method]) -> None:
        """Write methods.json, from which another machine can go on."""
        settings = {name: str(vars(self.given)[name]) for name in SAME}
        content = {"settings": settings, "methods": [asdict(method) for method in methods]}
        write_text(self.output / "methods.json", json.dumps(content, indent=2))

    def _finished(self, method: Method) -> list[int]:
        """Return the further seeds with which the method was already run at its rate."""
        if method.rate is None:
            return []
        runs = self.runs(method.name, [method.rate], self.given.further_seeds)
        checks = {seed: self._of_run(run, EVALUATION) for (_, seed), run in runs.items()}
        return [seed for seed, check in checks.items() if is_finished(check)]

    def _tune(self, name: str) -> Method:
        """Tune one method's rate on the validation rows, and evaluate it at the chosen rate."""
        method = Method(name)
        factor = RATE_FACTORS.get(name, 1.0)
        grid = [f"{factor * rate:g}" for rate in sorted(self.given.rates)]
        runs: dict[tuple[str, int], Job] = {}
        tries = self.given.tries
        while rates := next_rates(grid, [rate for rate, _ in runs], method.validation, tries):
            tried = self.runs(name, rates, [self.given.seed])
            for (rate, _), figures in self.measured(method, tried, VALIDATION).items():
                balance = figures.get(BALANCE)
                method.validation[rate] = 0.0 if balance is None else balance
            runs |= tried
        method.rate = best_rate(method.validation)
        if method.rate is not None:
            self._evaluate(method, [self.given.seed])
        for (rate, _), run in runs.items():
            if rate != method.rate:
                shutil.rmtree(run.folder / "model", ignore_errors=True)
        return method

    def _evaluate(self, method: Method, seeds: Sequence[int]) -> None:
        runs = self.runs(method.name, [str(method.rate)], seeds)
        for (_, seed), figures in self.measured(method, runs, EVALUATION).items():
            method.runs[str(seed)] = figures

    def measured(
        self, method: Method, runs: dict[tuple[str, int], Job], kind: str
    ) -> dict[tuple[str, int], Figures]:
        """Train and evaluate what is not finished; return the figures of successful runs."""
        checks = {key: self._of_run(run, kind) for key, run in runs.items()}
        for key, run in runs.items():
            if not is_finished(checks[key]) and not (run.folder / "model").is_dir():
                (run.folder / STAMP).unlink(missing_ok=True)  # its weights were deleted
        failures = self._do(list(runs.values()))
        failed = {failure.job.folder for failure in failures}
        checks = {
            key: self._of_run(run, kind) for key, run in runs.items() if run.folder not in failed
        }
        failures += self._do(list(checks.values()))
        failed = {failure.job.folder for failure in failures}
        method.failures += [f"{failure.job.name}: {failure.reason}" for failure in failures]
        return {
            key: evaluation_figures(check.folder)
            for key, check in checks.items()
            if check.folder not in failed
        }

    def runs(
        self, name: str, rates: Sequence[str], seeds: Sequence[int], *changes: Path
    ) -> dict[tuple[str, int], Job]:
        """Return the training run of each rate and seed, with changes laid over the method."""
        callbacks = self.output / "callbacks.yaml"
        write_text(callbacks, json.dumps(CALLBACKS))
        files = [CONFIGS / "tofu/base.yaml", CONFIGS / "tofu/smollm2.yaml", callbacks]
        common = [part for file in files for part in ("--config", str(file))]
        common += [f"--model.student.path={self.given.start}"]
        common += [f"--trainer.max_steps={self.given.steps}"]
        common += self.given.fit
        common += [f"--data.data_root={self.given.data}"] if self.given.data else []
        values = {
            "config": [json.dumps([*method_files(name), *map(str, changes)])],
            "model.optimizer.init_args.lr": list(rates),
            "seed_everything": list(map(str, seeds)),
        }
        jobs = plan_jobs(run_settings(values), common, self.output)
        jobs = [replace(job, result=GRADIENTS) for job in jobs]
        keys = [(rate, seed) for rate in rates for seed in seeds]
        return dict(zip(keys, jobs, strict=True))

    def _of_run(self, run: Job, kind: str) -> Job:
        """Return the evaluation of a run's model, with the target as start."""
        start = ["--start", str(self.output / "start" / kind)]
        model = str(run.folder / "model")
        return self._evaluation(model, run.folder, kind, *start, inputs=(run.folder / GRADIENTS,))

    def _evaluation(
        self, model: str, folder: Path, kind: str, *more: str, inputs: tuple[Path, ...] = ()
    ) -> Job:
        arguments = ["evaluate", model, "--config", str(SUITES[kind])]
        arguments += ["--output", str(folder / kind), *more, *self.given.evaluate]
        arguments += ["--data_root", self.given.data] if self.given.data else []
        if kind in self.references:
            arguments += ["--reference", self.references[kind]]
            if kind == EVALUATION:
                arguments += ["--suites.tofu.forget_quality=true"]
        name = f"{folder.name}, {kind}"
        return Job(name, folder / kind, tuple(arguments), METRICS, inputs)

    def _do(self, jobs: list[Job]) -> list[Failure]:
        return run_jobs(jobs, self.given.jobs, self.given.gpus, self.console)


def options(description: str, output: Path) -> argparse.ArgumentParser:
    """Return a parser with the options of all runs and evaluations."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--output", type=Path, default=output)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--start", default="runs/tofu_smollm2_target/model", help="the target")
    parser.add_argument("--reference", help="retain model, which never knew the forgotten")
    parser.add_argument("--data", help="folder that replaces the hub")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--gpus", type=lambda text: tuple(text.split(",")), default=())
    parser.add_argument(
        "--fit", nargs="*", type=_option, default=[], help="further options of every run, as x=y"
    )
    parser.add_argument(
        "--evaluate",
        nargs="*",
        type=_option,
        default=["--dtype=auto"],
        help="options of every evaluation, as x=y",
    )
    return parser


def main(args: Sequence[str] | None = None) -> None:
    """Run what is not finished, and write the results."""
    parser = options(__doc__.splitlines()[0], Path("runs/methods"))
    parser.add_argument("--methods", type=lambda text: text.split(","), default=METHODS)
    parser.add_argument("--rates", type=_floats, default=[2.5e-4, 6e-4, 1.5e-3, 4e-3])
    parser.add_argument("--further_seeds", type=_integers, default=[1, 2])
    parser.add_argument("--tries", type=int, default=3, help="learning rates that a method tries")
    parser.add_argument(
        "--leaders", type=int, default=len(METHODS), help="methods that get further seeds"
    )
    parser.add_argument("--earlier", type=Path, help="methods.json of another machine")
    given = parser.parse_args(args)
    methods = Comparison(given).run(_earlier(given))
    (given.output / "methods.md").write_text(markdown(methods))
    scatter(methods, given.output / "methods_scatter.png")
    bars(methods, given.output / "methods_parts.png")
    print(markdown(methods))


def _earlier(given: argparse.Namespace) -> dict[str, Method]:
    """Return the methods of `--earlier` with their results, by name.

    Raises:
        InputError: They were made with other settings.
    """
    if given.earlier is None:
        return {}
    found = json.loads(given.earlier.read_text("utf-8"))
    for name in SAME:
        mine, theirs = str(vars(given)[name]), found["settings"][name]
        if mine != theirs:
            raise InputError(
                f"--{name}: expected {theirs}, as in {given.earlier}, whose results would not be "
                f"comparable. Found {mine}; give the same, or leave --earlier out."
            )
    entries = (Method(**entry) for entry in found["methods"])
    return {method.name: method for method in entries if method.rate}


def _option(text: str) -> str:
    return f"--{text}"


def _floats(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def _integers(text: str) -> list[int]:
    return [int(part) for part in text.split(",") if part]


if __name__ == "__main__":
    run_script(main)
