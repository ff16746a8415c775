"""Train pools of models that know, never knew and unlearned; audit the figures of forgetting.

    python benchmarks/metric_pools.py --data FOLDER [--output runs/metric_pools] [--plan]

SmolLM2-135M-Instruct is trained on TOFU: `start` and the *knowing* models on the 20 shortest rows
of forget01 and on other authors (companions), `retain` and the *ignorant* models on other authors
alone. Seed, rate, steps, trained blocks and companions differ, so that knowledge goes from weak to
strong. `start` then forgets by several methods of configs/tofu and by a task vector. Each unlearned
model is also evaluated with weights of 4 bits, and after one epoch on the forget rows (the same for
`retain`). `start` and `retain` are in no pool: the Unlearning Depth Score of all models is computed
between these two.

All are evaluated by the same suites on 6 forget rows (`suites`), and `audit_metrics` says which
figures tell knowing from ignorant models (faithfulness) and which stay as they should (robustness).
The output folder gets audit_metrics.json, metric_pools.json and metric_pools.md with the published
values beside ours, and the balance of the unlearned models, which no part of it was tuned on.

The same command resumes a stopped run; --finished reports on finished models. Weights of `start`,
`retain` and the unlearned models are kept (0.54 GB each).

Cost: see SECONDS; about 60 CPU minutes of an AMD EPYC core without bfloat16 instructions.

The rule, written before the first run: which figures of what is known make the balance's forgetting
part (`_KNOWN` in evaluation/balancing.py).

1. A figure is *trusted* if its faithfulness is at least 0.8 with an interval above 0.5, and its
   robustness is at least 0.5.
2. A figure in the part that is not trusted leaves it.
3. `paraphrase_probability`, `exact_memorisation` and `truth_ratio` join it if they are trusted, and
   are overall no worse than the worst figure that stays.
4. What is said stays in the part whatever the table says, because users read it; it never makes
   the part alone.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import ClassVar

from metric_pools_models import IGNORANT, KNOWING, METHODS, Plan, write_rows
from metric_pools_report import markdown
from rich.console import Console
from script import run_script

from lit_unlearn.attacks.quantisation import quantised_copy
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.audit_metrics import Pools, audit_metrics
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.probes import Probe, Suite
from lit_unlearn.evaluation.record_files import is_evaluation, read_evaluation
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.evaluation.suites.input_attacks import Paraphrase, Prefill
from lit_unlearn.evaluation.suites.sampled_leakage import SampledLeakage
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.evaluation.suites.tofu import Tofu
from lit_unlearn.models.loading import load_model
from lit_unlearn.sweeping.jobs import STAMP, Job, is_finished, run_jobs

SECONDS = {"knowing": 65, "ignorant": 40, "method": 70, "relearned": 25, "evaluation": 40}
"""Expected CPU seconds of a training and of an evaluation on one such core."""
TOFU, TOKENS = "locuslab/TOFU", 24
START, RETAIN, BESIDE = "start", "retain", "retain_beside_itself"
KEPT_WEIGHTS = (START, RETAIN)
CHANGED = ("_int4", "_relearned")
"""Ends of the names of models that were changed after unlearning."""


class ForgetRows(Tofu):
    """The suite tofu with the forget rows alone."""

    group: ClassVar[str] = "forget"

    def probes(self, data_root: Path | None) -> list[Probe]:
        return [probe for probe in super().probes(data_root) if probe.group == self.group]


class RetainRows(ForgetRows):
    """The suite tofu with the retain rows alone."""

    name: ClassVar[str] = "kept"
    group: ClassVar[str] = "retain"


def suites(*, changed: bool, balance: bool) -> list[Suite]:
    """Return the suites of a model.

    Args:
        changed: The model was rounded or relearned: without the attacks that cost most.
        balance: Also ask what only the balance needs.
    """

    def rows(config: str, limit: int = 6) -> list[Source]:
        return [Source(TOFU, config, limit=limit, every=18 // limit)]

    perturbed = "forget01_perturbed"
    tofu = ForgetRows(
        forget_split="forget01",
        forget_quality=False,
        truth_ratio="prob_mean",
        max_new_tokens=TOKENS,
        forget=Selection(limit=6, every=3),
    )
    found: list[Suite] = [
        tofu,
        Prefill(rows("forget01"), TOKENS, openers=[], answer_words=[3]),
        Depth(rows(perturbed), blocks=8, wrong_answers=1),
    ]
    if not changed:
        found += [
            Paraphrase(rows(perturbed), TOKENS, column="paraphrased_question"),
            SampledLeakage(rows("forget01", 3), samples=4, max_new_tokens=TOKENS),
        ]
    if not balance:
        return found
    near = [Source(TOFU, "retain_perturbed", limit=8, every=6)]
    general = [Source("builtin:general", split="eval", limit=8)]
    kept = RetainRows("forget01", forget_quality=False, max_new_tokens=TOKENS)
    kept.retain = Selection(limit=4, every=15)
    return [*found, kept, Boundary(near, general, max_new_tokens=TOKENS)]


class Experiment:
    """The models of one output folder and their evaluations."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.output: Path = given.output
        self.plan = Plan(self.output, given.model)
        self.console = Console(stderr=True)
        self.failures: list[str] = []

    def estimate(self) -> str:
        """Return a line about the unfinished models and their time."""
        fits = {
            "knowing": [START, *KNOWING],
            "ignorant": [RETAIN, *IGNORANT],
            "method": [*METHODS],
            "relearned": [f"{name}_relearned" for name in (RETAIN, *METHODS)],
        }
        left = {k: sum(not self._done(name) for name in names) for k, names in fits.items()}
        rounded = sum(not self._done(f"{name}_int4") for name in METHODS)
        left["evaluation"] = sum(left.values()) + rounded
        seconds = sum(SECONDS[kind] * count for kind, count in left.items())
        parts = ", ".join(f"{count} x {kind} of {SECONDS[kind]} s" for kind, count in left.items())
        return f"left: {parts}; {seconds / 60:.0f} minutes of one core"

    def run(self) -> None:
        """Train and evaluate what is not finished, the models that decide most first."""
        write_rows(Path(self.given.data) if self.given.data else None, self.plan.data)
        self.console.print(self.estimate(), highlight=False)
        for name in (START, RETAIN):
            self._model(name)
        self._beside_itself()
        for pair in zip(KNOWING, IGNORANT, strict=True):
            for name in pair:
                self._model(name)
        self._model(f"{RETAIN}_relearned")
        for name in METHODS:
            self._model(name)
            if self._done(name):
                self._rounded(name)
                self._model(f"{name}_relearned")

    def _model(self, name: str) -> None:
        """Train a model and evaluate it; delete its weights if nothing needs them any more."""
        job = self.plan.jobs[name]
        if self._done(name) or not self._train(name, job):
            return
        self._evaluate(name, str(job.folder / "model"))
        if name not in KEPT_WEIGHTS and name not in METHODS:
            shutil.rmtree(job.folder / "model")

    def _train(self, name: str, job: Job) -> bool:
        if is_finished(job) and not (job.folder / "model").is_dir():
            (job.folder / STAMP).unlink()  # its weights were deleted before the evaluation ended
        if not is_finished(job):
            shutil.rmtree(self._folder(name), ignore_errors=True)
        needed = self.plan.before.get(name, [])
        failures = run_jobs([*needed, job], 1, (), self.console)
        self.failures += [f"{failure.job.name}: {failure.reason}" for failure in failures]
        return not failures

    def _beside_itself(self) -> None:
        """Score the retain model's outcomes once more, relative to itself: its depth score is 1."""
        if self._done(RETAIN) and not self._done(BESIDE):
            shutil.copytree(self._folder(RETAIN), self._folder(BESIDE), dirs_exist_ok=True)
            (self._folder(BESIDE) / "metrics.json").unlink()
            self._evaluate(BESIDE, str(self.plan.jobs[RETAIN].folder / "model"))

    def _rounded(self, name: str) -> None:
        """Evaluate an unlearned model with weights of 4 bits, which are stored nowhere."""
        folder = self.plan.jobs[name].folder / "model"
        if folder.is_dir() and not self._done(f"{name}_int4"):
            model, tokenizer = load_model(str(folder))
            rounded = quantised_copy(model, 4, group_size=64)
            self._evaluate(f"{name}_int4", (rounded, tokenizer))

    def _evaluate(self, name: str, model: object) -> None:
        balanced, changed = name in (START, *METHODS), name.endswith(CHANGED)
        start = None if name == START else self._folder(START)
        reference = None if name in (START, RETAIN) else self._folder(RETAIN)
        self.console.print(f"evaluating {name}", highlight=False)
        try:
            evaluate(
                model,  # type: ignore[arg-type]  # a path, or a loaded model with its tokenizer
                suites(changed=changed, balance=balanced),
                start=start,
                reference=reference,
                output=self._folder(name),
                data_root=self.plan.data,
                batch_size=64,
            )
        except InputError as error:
            self.failures.append(f"{name}: {error}")

    def _folder(self, name: str) -> Path:
        return self.output / "evaluations" / name

    def _done(self, name: str) -> bool:
        job = self.plan.jobs.get(name)
        return is_evaluation(self._folder(name)) and (job is None or is_finished(job))

    def pools(self) -> Pools:
        """Return the evaluated models; those unlearned ones whose changed copies are, too."""
        ends = ("", *CHANGED)
        whole = [name for name in METHODS if all(self._done(name + end) for end in ends)]
        folders = [[str(self._folder(name + end)) for name in whole] for end in ends]
        after = f"{RETAIN}_relearned"
        return Pools(
            [str(self._folder(name)) for name in KNOWING if self._done(name)],
            [str(self._folder(name)) for name in IGNORANT if self._done(name)],
            folders[0],
            folders[2],
            folders[1],
            str(self._folder(BESIDE)) if self._done(after) else None,
            str(self._folder(after)) if self._done(after) else None,
        )

    def report(self) -> str:
        """Audit the finished models, write the files, and return the tables."""
        pools = self.pools()
        found = audit_metrics(pools, self.output)
        records = {
            name: read_evaluation(self._folder(name))
            for name in (START, RETAIN, *KNOWING, *IGNORANT, *METHODS)
            if self._done(name)
        }
        balances = {name: records[name].balance for name in METHODS if name in records}
        text = markdown(pools, found, records, balances, self.failures)
        content = {
            "models": self.plan.recipes(),
            "metrics": [asdict(each) for each in found],
            "balances": {name: [asdict(f) for f in b] for name, b in balances.items()},
            "failures": self.failures,
        }
        (self.output / "metric_pools.json").write_text(json.dumps(content, indent=1) + "\n")
        (self.output / "metric_pools.md").write_text(text)
        return text


def main(args: Sequence[str] | None = None) -> None:
    """Run what is not finished, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/metric_pools"))
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--data", help="folder that replaces the hub")
    parser.add_argument("--plan", action="store_true", help="print the remaining work, and stop")
    parser.add_argument("--finished", action="store_true", help="report on finished models")
    given = parser.parse_args(args)
    experiment = Experiment(given)
    if given.plan:
        print(experiment.estimate())
        return
    if not given.finished:
        experiment.run()
    print(experiment.report())


if __name__ == "__main__":
    run_script(main)
