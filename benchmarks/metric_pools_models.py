"""Models of benchmarks/metric_pools.py: rows, recipes, and the commands that train them."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.sweeping.jobs import STAMP, Job

CONFIGS = Path(__file__).resolve().parents[1] / "configs"
ROWS = {"forget01_perturbed": 20, "retain_perturbed": 60, "world_facts_perturbed": 20}
"""Configuration of TOFU -> number of rows with the shortest answers that are used."""
ALSO_READ = ("real_authors_perturbed",)
CALLBACKS = json.dumps([{"class_path": "GradientMonitor"}, {"class_path": "HuggingFaceExport"}])
TOFU = "locuslab/TOFU"


@dataclass(frozen=True)
class Recipe:
    """Fine-tuning of a knowing or ignorant model."""

    seed: int
    rate: float
    steps: int
    companions: tuple[int, int]
    """First row of the other authors, and distance between the rows taken."""
    first_block: int = 20
    """First trained block of 30; those below are read once."""


START = Recipe(0, 4e-4, 16, (0, 3))
KNOWING = {
    "knows1": Recipe(1, 4e-4, 6, (0, 3)),
    "knows2": Recipe(2, 3e-4, 9, (1, 3)),
    "knows3": Recipe(3, 4e-4, 10, (2, 3), 22),
    "knows4": Recipe(4, 5e-4, 12, (0, 2)),
    "knows5": Recipe(5, 3e-4, 14, (1, 2), 22),
    "knows6": Recipe(6, 6e-4, 14, (0, 4)),
    "knows7": Recipe(7, 4e-4, 18, (1, 4)),
    "knows8": Recipe(8, 6e-4, 20, (2, 3), 22),
}
IGNORANT = {
    name.replace("knows", "never"): replace(recipe, seed=recipe.seed + 10)
    for name, recipe in KNOWING.items()
}
METHODS = {  # files of configs/tofu, and the learning rate; the cheapest first
    "graddiff": (["graddiff"], 2e-4),
    "simnpo": (["simnpo"], 1e-3),
    "maxent": (["maxent"], 6e-4),
    "idknll": (["idknll"], 4e-4),
    "task_vector": ([], 4e-4),
    "wga": (["wga"], 6e-4),
    "npo": (["npo"], 6e-4),
    "rmu": (["rmu", "rmu_smollm2"], 2e-3),
    "bidirectional": (["bidirectional", "bidirectional_smollm2", "bidirectional_whole"], 6e-4),
}
METHOD_STEPS, RELEARN_STEPS, RELEARN_RATE = 14, 5, 1e-4
"""Steps of 4 forget rows: 5 steps are an epoch of them."""


def write_rows(data_root: Path | None, folder: Path) -> None:
    """Write the rows with the shortest answers, in TOFU's layout, into a data root of their own."""
    own = folder / "tofu"
    if own.is_dir():
        return
    own.mkdir(parents=True)
    for config in (*ROWS, *ALSO_READ):
        rows = [row.values for row in read_rows(Source(TOFU, config), data_root)]
        by_length = sorted(range(len(rows)), key=lambda index: len(str(rows[index]["answer"])))
        chosen = [rows[index] for index in sorted(by_length[: ROWS.get(config, 20)])]
        _write(own / f"{config}.json", chosen)
        if config == "forget01_perturbed":
            _write(
                own / "forget01.json", [{k: r[k] for k in ("question", "answer")} for r in chosen]
            )


def _write(file: Path, rows: list[dict[str, Any]]) -> None:
    file.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")


class Plan:
    """The jobs that train all models, by name."""

    def __init__(self, output: Path, model: str) -> None:
        self.output, self.model = output.absolute(), model
        self.data = self.output / "data"
        self.jobs: dict[str, Job] = {}
        self.before: dict[str, list[Job]] = {}
        """Jobs that a model needs besides those of other evaluated models."""
        for name, recipe in {"start": START, **KNOWING}.items():
            self.jobs[name] = self._tuned(name, recipe, knows=True)
        for name, recipe in {"retain": START, **IGNORANT}.items():
            self.jobs[name] = self._tuned(name, recipe, knows=False)
        for name, (files, rate) in METHODS.items():
            unlearn = self._unlearned if files else self._subtracted
            self.jobs[name] = unlearn(name, files, rate)
        for name in ("retain", *METHODS):
            self.jobs[f"{name}_relearned"] = self._relearned(f"{name}_relearned", name)

    def recipes(self) -> dict[str, Any]:
        """Return the settings of all models, for the report's file."""
        tuned = {"start": START, "retain": START, **KNOWING, **IGNORANT}
        steps = {"steps": METHOD_STEPS}
        methods = {n: {"configs": files, "rate": r, **steps} for n, (files, r) in METHODS.items()}
        return {name: asdict(recipe) for name, recipe in tuned.items()} | methods

    def _tuned(self, name: str, recipe: Recipe, *, knows: bool) -> Job:
        files = ["tofu_smollm2_target", *([] if knows else ["tofu_smollm2_retain"])]
        options = [f"--model.student.path={self.model}", f"--seed_everything={recipe.seed}"]
        if knows:
            options += ["--data.objectives.forget.rows=4"]
            options += ["--model.objectives.forget.init_args.weight=0.6"]
            options += ["--model.objectives.retain.init_args.weight=0.4"]
        options += [f"--data.objectives.retain.rows={3 if knows else 4}"]
        options += [f"--data.objectives.retain.sources={_companions(*recipe.companions)}"]
        training = (recipe.rate, recipe.steps, recipe.first_block)
        return self._fit(name, files, options, *training)

    def _unlearned(self, name: str, files: list[str], rate: float) -> Job:
        options = [f"--model.student.path={self._weights('start')}"]
        sources = _companions(*START.companions)
        if name == "bidirectional":  # its own file sets the rows of a step
            options += [f"--data.objectives.neighbor.sources={sources}"]
        else:
            options += ["--data.objectives.forget.rows=3", "--data.objectives.retain.rows=3"]
        options += [f"--data.objectives.retain.sources={sources}"]
        configs = ["base", "smollm2", *files]
        made = self._fit(name, [f"tofu/{f}" for f in configs], options, rate, METHOD_STEPS)
        return self._after(made, "start")

    def _subtracted(self, name: str, files: list[str], rate: float) -> Job:
        """Return the arithmetic on weights, after a model that is trained further."""
        start = self._weights("start")
        options = [f"--model.student.path={start}", *_FORGET_ONLY]
        further = self._fit("reinforced", ["tofu_smollm2_target"], options, rate, METHOD_STEPS)
        further = self._after(further, "start")
        self.before[name] = [further]
        folder = self.output / name
        output = ("--output", str(folder / "model"))
        arguments = ("task-vector", start, "--reinforced", str(further.folder / "model"), *output)
        inputs = (further.folder / STAMP,)
        return Job(name, folder, arguments, "model/config.json", inputs)

    def _relearned(self, name: str, model: str) -> Job:
        options = [f"--model.student.path={self._weights(model)}", *_FORGET_ONLY]
        training = (RELEARN_RATE, RELEARN_STEPS)
        return self._after(self._fit(name, ["tofu_smollm2_target"], options, *training), model)

    def _weights(self, name: str) -> str:
        return str(self.output / name / "model")

    def _after(self, job: Job, model: str) -> Job:
        """Return a job that is done again if its start model is."""
        stamp = self.output / model / STAMP
        return Job(job.name, job.folder, job.arguments, job.result, (stamp,))

    def _fit(
        self,
        name: str,
        configs: list[str],
        options: list[str],
        rate: float,
        steps: int,
        first_block: int = START.first_block,
    ) -> Job:
        folder = self.output / name
        files = [part for file in configs for part in ("--config", str(CONFIGS / f"{file}.yaml"))]
        trained = [f"layers[.]{block}[.]" for block in range(first_block, 30)]
        common = [
            f"--data.data_root={self.data}",
            f"--model.student.trainable={json.dumps([*trained, 'model[.]norm'])}",
            f"--model.optimizer.init_args.lr={rate}",
            f"--trainer.max_steps={steps}",
            "--model.warmup_steps=2",
            "--model.diagnostics_every=0",
            f"--trainer.callbacks={CALLBACKS}",
            f"--trainer.default_root_dir={folder}",
        ]
        return Job(name, folder, ("fit", *files, *options, *common), "config.yaml")


_FORGET_ONLY = (
    "--model.objectives.retain=null",
    "--data.objectives.retain=null",
    "--data.objectives.forget.rows=4",
    "--model.objectives.forget.init_args.weight=1.0",
)


def _companions(offset: int, every: int) -> str:
    source = {"path": TOFU, "config": "retain_perturbed", "offset": offset, "every": every}
    return json.dumps([source])
