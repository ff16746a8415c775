r"""Does one representation turn the objectives' fight into cooperation? All arms of the experiment.

    lit-unlearn fetch smollm2-135m-instruct                       # where the hub cannot be reached
    lit-unlearn fit --config configs/tofu_smollm2_target.yaml     # once: TOFU's target
    python benchmarks/interference_experiment.py [--data FOLDER] [--jobs N] \
        [--docs docs/interference.md]

Two subjects (TOFU's forget01, and the built-in topic), data raw or unified, the loss as pull, push
or both, gradients added up or combined by PCGrad or MGDA, several seeds: all combinations, of which
--subset takes some (`--subset france,both,sum`: of a factor the levels named, all if none is).
The configs are those of configs/interference; docs/interference.md says what is measured and why.

For each subject the start model is evaluated once, and for each of its forms `lit-unlearn
interference` measures cosines, transfer and domain gap without training. Then every arm is trained,
with the cosines of its gradients, and evaluated within the same process. No weights are kept.
Everything continues where it stopped; --plan says what is left and for how long, --finished reports
on what there is (arms with fewer seeds included: the tables count them).

Writes into the output folder interference.json, interference.md and pictures; --docs puts the same
into the results section of that page, with pictures in its folder `images`.

Cost: see SECONDS.
"""

import argparse
import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path

from interference_pictures import save_pictures
from interference_report import markdown, write_docs
from interference_rows import prepare
from interference_runs import Arm, Findings, Measurement
from rich.console import Console

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
"""CPU seconds of a job on one core of a Xeon with AMX: a run of 75 (topic) or 115 (TOFU) is the
process's start, 16 steps of 2.5 to 3.5, and an evaluation of 20 or 70; the first of a form takes 60
to 180 more for the teacher. The time that is shown while jobs run is measured."""
PREPARATION = "preparation.json"
"""What a run keeps of the teacher's gate: half a minute, the same for all arms of a form."""
MEASURED = ("--batch_tokens=[56]", "--batches=5", "--transfer_batches=2", "--ahead=0.3")
"""Options of `lit-unlearn interference`; the tokens are those of a training step."""
MODELS = {"france": "HuggingFaceTB/SmolLM2-135M-Instruct", "tofu": "runs/tofu_smollm2_target/model"}


def configs_of(arm: Arm) -> list[Path]:
    """The files that are laid over the base, in this order."""
    names = [arm.subject]
    names += [f"{arm.subject}_raw"] if arm.form == "raw" else []
    names += [arm.loss] if arm.loss != "both" else []
    names += [arm.weighting] if arm.weighting != "sum" else []
    return [CONFIGS / f"{name}.yaml" for name in names]


def chosen_arms(subset: Sequence[str]) -> list[Arm]:
    """The combinations of the levels that are named; of a factor without a name all.

    Raises:
        SystemExit: A word is no level of any factor.
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
        """Subject -> evaluation of the start model, with the suites of the arms."""
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
        """Subject and form, with both directions of the loss -> what is measured untrained."""
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
        """Arm and seed -> training with evaluation."""
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
        """What is not finished yet, and for how long it will keep the machine busy."""
        kinds = {"test": self.starts(), "interference": self.measurements(), "fit": self.runs()}
        left = {
            kind: sum(not is_finished(job) for job in jobs.values()) for kind, jobs in kinds.items()
        }
        seconds = sum(SECONDS[kind] * count for kind, count in left.items())
        parts = ", ".join(f"{count} x {kind} of {SECONDS[kind]} s" for kind, count in left.items())
        return f"left: {parts}; {seconds / 3600:.1f} h of one core"

    def run(self) -> Findings:
        """What was found, after everything that is not finished, unless that is left undone."""
        if self.given.finished:
            return self._findings({job.folder for job in self._jobs() if not is_finished(job)}, [])
        prepare(Path(self.given.data) if self.given.data else None, self.given.model)
        self.console.print(self.estimate(), highlight=False)
        starts, measurements, runs = self.starts(), self.measurements(), self.runs()
        first = {(arm.subject, arm.form): job for (arm, _), job in reversed(runs.items())}
        failures = self._do([*starts.values(), *first.values()])
        for (subject, form), job in first.items():
            for (arm, _), other in runs.items():
                if (arm.subject, arm.form) == (subject, form):
                    _share(job.folder / PREPARATION, other.folder / PREPARATION)
            for arm, other in measurements.items():
                if (arm.subject, arm.form) == (subject, form):
                    _share(job.folder / PREPARATION, other.folder / f"preparation_{form}.json")
        tried = [*first.values(), *(failure.job for failure in failures)]
        rest = [job for job in (*measurements.values(), *runs.values()) if job not in tried]
        failures += self._do(rest)
        failed = {failure.job.folder for failure in failures}
        return self._findings(failed, [_said(failure) for failure in failures])

    def _jobs(self) -> list[Job]:
        return [*self.starts().values(), *self.measurements().values(), *self.runs().values()]

    def _findings(self, without: set[Path], failures: list[str]) -> Findings:
        """What all jobs but some have left."""
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


def _share(source: Path, target: Path) -> None:
    """Give a job what the teacher's gate found; used if it fits the job's rows and settings."""
    if source.is_file() and not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


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
    parser.add_argument("--data", help="folder that stands in for the hub")
    parser.add_argument("--jobs", type=int, default=1, help="processes at a time")
    parser.add_argument("--gpus", type=_words, default=[])
    parser.add_argument("--fit", nargs="*", default=[], help="further options of every run, as x=y")
    parser.add_argument("--docs", type=Path, help="page whose results section is written")
    parser.add_argument(
        "--finished", action="store_true", help="start nothing, report on what is finished"
    )
    parser.add_argument("--plan", action="store_true", help="say what is left, and stop")
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
    main()
