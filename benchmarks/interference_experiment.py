r"""Test whether one representation turns conflict of objectives into cooperation; run all arms.

    lit-unlearn fetch smollm2-135m-instruct                       # if the hub cannot be reached
    lit-unlearn fit --config configs/tofu_smollm2_target.yaml     # once: TOFU's target
    python benchmarks/interference_experiment.py [--data FOLDER] [--jobs N] \
        [--docs docs/interference.md]

The arms are all combinations of two subjects (TOFU's forget01, and the built-in topic), raw or
unified data, the loss as pull, push or both, gradients summed or combined by PCGrad or MGDA, and
several seeds. --subset selects arms by levels (`--subset france,both,sum`); a factor of which no
level is named keeps all. The configs are in configs/interference; docs/interference.md explains
what is measured and why.

The start model of each subject is evaluated once, and for each of its forms `lit-unlearn
interference` measures cosines, transfer and domain gap without training. Then every arm is trained,
with the cosines of its gradients, and evaluated within the same process. No weights are kept. The
same command resumes a stopped experiment; --plan estimates the remaining work, --finished reports
on finished jobs (also on arms with fewer seeds; the tables have their numbers).

The output folder gets interference.json, interference.md and pictures; --docs writes the same into
the results section of that page, with pictures in its folder `images`.

Cost: see SECONDS.
"""

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from interference_pictures import save_pictures
from interference_report import markdown, write_docs
from interference_rows import prepare
from interference_runs import Arm, Findings, Measurement
from rich.console import Console
from script import run_script

from lit_unlearn.sweeping.jobs import Failure, Job, is_finished, run_jobs
from lit_unlearn.sweeping.sweep import plan_jobs, run_settings

CONFIGS = Path(__file__).resolve().parents[1] / "configs/interference"
FACTORS = {
    "subject": ("france", "tofu"),
    "form": ("raw", "unified"),
    "loss": ("pull", "push", "both"),
    "weighting": ("sum", "pcgrad", "mgda"),
}
SECONDS = {"test": 60, "interference": 200, "fit": 95}
"""CPU seconds of a job on one core of a Xeon with AMX. A run takes 75 (topic) or 115 (TOFU): the
start of the process, 16 steps of 2.5 to 3.5, and an evaluation of 20 or 70. The first run of a form
takes 60 to 180 more for the teacher. The time that is shown while jobs run is measured."""
MEASURED = ("--batch_tokens=[56]", "--batches=5", "--transfer_batches=2", "--ahead=0.3")
"""Options of `lit-unlearn interference`; the tokens are those of a training step."""
MODELS = {"france": "HuggingFaceTB/SmolLM2-135M-Instruct", "tofu": "runs/tofu_smollm2_target/model"}


def configs_of(arm: Arm) -> list[Path]:
    """Return the files that are laid over the base, in this order."""
    names = [arm.subject]
    names += [f"{arm.subject}_raw"] if arm.form == "raw" else []
    names += [arm.loss] if arm.loss != "both" else []
    names += [arm.weighting] if arm.weighting != "sum" else []
    return [CONFIGS / f"{name}.yaml" for name in names]


def chosen_arms(subset: Sequence[str]) -> list[Arm]:
    """Return the combinations of the named levels; a factor without a named level keeps all.

    Raises:
        SystemExit: A word is not a level of any factor.
    """
    known = [level for levels in FACTORS.values() for level in levels]
    unknown = sorted(set(subset) - set(known))
    if unknown:
        raise SystemExit(f"--subset: expected words of {', '.join(known)}, found {unknown[0]}")
    levels = [[x for x in own if x in subset] or list(own) for own in FACTORS.values()]
    return [Arm(*combination) for combination in product(*levels)]


class Experiment:
    """The jobs of one output folder."""

    def __init__(self, given: argparse.Namespace) -> None:
        self.given = given
        self.output: Path = given.output
        self.arms = chosen_arms(given.subset)
        self.console = Console(stderr=True)

    def starts(self) -> dict[str, Job]:
        """Return, by subject, the evaluation of the start model with the suites of the arms."""
        jobs = {}
        for subject in dict.fromkeys(arm.subject for arm in self.arms):
            folder = self.output / f"{subject}_start"
            arguments = [
                "test",
                *self._common(subject),
                "--config",
                str(CONFIGS / f"{subject}.yaml"),
            ]
            arguments += [f"--trainer.default_root_dir={folder}"]
            result = "evaluation/test/metrics.json"
            jobs[subject] = Job(folder.name, folder, tuple(arguments), result)
        return jobs

    def measurements(self) -> dict[Arm, Job]:
        """Return the measurements without training, by an arm of each subject and form."""
        jobs = {}
        for arm in dict.fromkeys(replace(a, loss="both", weighting="sum") for a in self.arms):
            folder = self.output / f"{arm.subject}_{arm.form}_measured"
            files = [part for file in configs_of(arm) for part in ("--config", str(file))]
            arguments = ["interference", *self._common(arm.subject), *files]
            arguments += [f"--output={folder}", f"--representations=[{arm.form}]"]
            arguments += MEASURED
            jobs[arm] = Job(folder.name, folder, tuple(arguments), "interference.json")
        return jobs

    def runs(self) -> dict[tuple[Arm, int], Job]:
        """Return, by arm and seed, the training with its evaluation."""
        jobs: dict[tuple[Arm, int], Job] = {}
        result = f"{self._after()}/metrics.json"
        for arm in self.arms:
            common = (*self._common(arm.subject), f"--trainer.max_steps={self.given.steps}")
            values = {
                "config": [json.dumps(list(map(str, configs_of(arm))))],
                "seed_everything": list(map(str, self.given.seeds)),
            }
            planned = plan_jobs(run_settings(values), (*common, *self.given.fit), self.output)
            for seed, job in zip(self.given.seeds, planned, strict=True):
                jobs[arm, seed] = replace(job, result=result)
        return jobs

    def _after(self) -> str:
        return f"evaluation/step_{self.given.steps}"

    def _common(self, subject: str) -> list[str]:
        model = self.given.target if subject == "tofu" else self.given.model
        arguments = ["--config", str(CONFIGS / "base.yaml"), f"--model.student.path={model}"]
        return arguments + ([f"--data.data_root={self.given.data}"] if self.given.data else [])

    def estimate(self) -> str:
        """Return a line about the unfinished jobs and their time."""
        kinds = {"test": self.starts(), "interference": self.measurements(), "fit": self.runs()}
        left = {
            kind: sum(not is_finished(job) for job in jobs.values()) for kind, jobs in kinds.items()
        }
        seconds = sum(SECONDS[kind] * count for kind, count in left.items())
        parts = ", ".join(f"{count} x {kind} of {SECONDS[kind]} s" for kind, count in left.items())
        return f"left: {parts}; {seconds / 3600:.1f} h of one core"

    def run(self) -> Findings:
        """Run unfinished jobs (not with --finished), and return the findings."""
        if self.given.finished:
            return self._findings({job.folder for job in self._jobs() if not is_finished(job)}, [])
        prepare(Path(self.given.data) if self.given.data else None, self.given.model)
        self.console.print(self.estimate(), highlight=False)
        failures = self._do(self._jobs())
        failed = {failure.job.folder for failure in failures}
        return self._findings(failed, [_said(failure) for failure in failures])

    def _jobs(self) -> list[Job]:
        return [*self.starts().values(), *self.measurements().values(), *self.runs().values()]

    def _findings(self, without: set[Path], failures: list[str]) -> Findings:
        """Return the findings of all jobs, without those of some folders."""
        measured = {arm: job.folder for arm, job in self.measurements().items()}
        folders = {key: job.folder for key, job in self.runs().items()}
        return Findings(
            {subject: job.folder / "evaluation/test" for subject, job in self.starts().items()},
            [Measurement(*found) for found in measured.items() if found[1] not in without],
            {key: folder for key, folder in folders.items() if folder not in without},
            self._after(),
            failures,
        )

    def _do(self, jobs: list[Job]) -> list[Failure]:
        return run_jobs(jobs, self.given.jobs, self.given.gpus, self.console)


def _said(failure: Failure) -> str:
    return f"{failure.job.name}: {failure.reason}"


def main(args: Sequence[str] | None = None) -> None:
    """Run what is not finished, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("runs/interference_experiment"))
    parser.add_argument("--subset", type=_words, default=[], help="levels of the factors, as a,b")
    parser.add_argument("--seeds", type=lambda t: [int(x) for x in t.split(",")], default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=16)
    parser.add_argument("--model", default=MODELS["france"], help="start model of the topic")
    parser.add_argument("--target", default=MODELS["tofu"], help="start model of TOFU")
    parser.add_argument("--data", help="folder that replaces the hub")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--gpus", type=_words, default=[])
    parser.add_argument("--fit", nargs="*", default=[], help="further options of every run, as x=y")
    parser.add_argument("--docs", type=Path, help="page whose results section is written")
    parser.add_argument(
        "--finished", action="store_true", help="start nothing, report on finished jobs"
    )
    parser.add_argument("--plan", action="store_true", help="print the remaining work, and stop")
    given = parser.parse_args(args)
    given.fit = [f"--{option}" for option in given.fit]
    experiment = Experiment(given)
    if given.plan:
        print(experiment.estimate())
        return
    findings = experiment.run()
    text = markdown(findings)
    settings = {key: str(value) for key, value in vars(given).items()}
    runs = [{**asdict(run.arm), **run.figures()} for run in findings.runs]
    content = json.dumps({"settings": settings, "runs": runs}, indent=1)
    (given.output / "interference.json").write_text(content + "\n", "utf-8")
    (given.output / "interference.md").write_text(text, "utf-8")
    pictures = save_pictures(findings, given.output)
    if given.docs:
        write_docs(given.docs, text, pictures)
    print(text)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


if __name__ == "__main__":
    run_script(main)
