"""Every config parses, and runs at smoke size on the tiny model, through the command line."""

from __future__ import annotations

import json
import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from transformers import AutoModelForCausalLM

from lit_unlearn.__main__ import main
from lit_unlearn.cli import evaluate as cli_evaluate
from lit_unlearn.cli.config import read_configs
from lit_unlearn.data.benchmarks import find_benchmark
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.selection import Selection
from lit_unlearn.evaluation.suites.tofu import Tofu
from tests.conftest import EXCERPTS, FULL
from tests.pictures import draw_nothing

DATA = FULL if FULL.is_dir() else EXCERPTS
CONFIGS = Path(__file__).resolve().parents[2] / "configs"
ALL = sorted(str(path.relative_to(CONFIGS)) for path in CONFIGS.rglob("*.yaml"))
NAMES = [name for name in ALL if not name.startswith("requests/")]
"""Configs of `fit`, `evaluate` and `rewrite`; requests have tests of their own."""
EVALUATED = [name for name in NAMES if name.startswith("evaluate")]
COMPOSED = [name for name in NAMES if "/" in name]
"""One folder for each benchmark: a base, and a file for each method."""
METHODS = [name for name in COMPOSED if not name.endswith(("/base.yaml", "/smollm2.yaml"))]
ELSEWHERE = ["rewrite.yaml", "erase.yaml"]
"""Configs that other tests run: the recipe of requests is run by `tests/unit/cli/test_erase.py`."""
TRAINED = [name for name in NAMES if name not in [*EVALUATED, *COMPOSED, *ELSEWHERE]]
THIRD_PARTY = [
    "ignore:The 'train_dataloader' does not have many workers",  # the plan is arithmetic
    "ignore:Precision bf16-mixed is not supported by the model summary",
    "ignore:`is_gradient_checkpointing` is deprecated",
    "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
]
pytestmark = [pytest.mark.filterwarnings(text) for text in THIRD_PARTY]


KINDS = ("sources", "evaluation")
FILES = {"config.yaml", "gradients.jsonl", "model", "report.html", "summary.json"} | {
    f"answers_{when}.jsonl" for when in ("before", "after")
}
"""What a run leaves."""


def files_of(name: str) -> list[Path]:
    """The config, behind those over which its header says to lay it."""
    lines = (CONFIGS / name).read_text("utf-8").replace("\\\n#", "").splitlines()
    command = next(line for line in lines if f"--config configs/{name}" in line)
    return [CONFIGS / file for file in re.findall(r"--config configs/(\S+)", command)]


def few_rows(source: dict[str, Any]) -> dict[str, Any]:
    """Nine rows at most, from within the excerpt: some contexts show eight other rows."""
    offset = source.get("offset", 0)
    few = {"limit": min(source.get("limit", 9), 9), "offset": offset % 300}
    return {**source, **few}


def shortened(callback: dict[str, Any]) -> dict[str, Any]:
    """The same callback with fewer tokens and rows; the tiny model never ends a reply itself."""
    given = callback.get("init_args", {})
    least = {key: 2 for key in ("max_new_tokens", "rows") if key in given}
    return {**callback, "init_args": {**given, **least}}


def small(name: str, folder: Path) -> dict[str, Any]:
    """Return what makes a config small: tiny model, few rows, two steps."""
    config = read_configs(files_of(name)).values
    trainer = {"default_root_dir": str(folder), "max_steps": 2, "accelerator": "cpu"}
    trainer |= {"enable_progress_bar": False, "enable_checkpointing": False}
    model: dict[str, Any] = {"student": {"path": "random-tiny"}, "diagnostics_every": 1}
    if "teacher" in config["model"]:
        model["gate"] = {"action": "warn", "sample": 1, "max_new_tokens": 2}
        if "path" in config["model"]["teacher"].get("init_args", {}):
            model["teacher"] = {"init_args": {"path": "random-tiny"}}
    if "trainable" in config["model"]["student"]:
        model["student"]["trainable"] = None  # blocks that a tiny model lacks
    trainer["callbacks"] = [*map(shortened, config["trainer"]["callbacks"])]
    objectives: dict[str, Any] = {}
    for objective, data in config["data"]["objectives"].items():
        few = {kind: list(map(few_rows, data[kind])) for kind in KINDS if kind in data}
        objectives[objective] = {"evaluation_rows": 2, "rows": 1, **few}
        if data.get("context", {}).get("init_args", {}).get("reasoning_tokens"):
            objectives[objective]["context"] = {"init_args": {"reasoning_tokens": 2}}
        if "prefills" in data:  # each row is encoded with each of them
            objectives[objective]["prefills"] = {"openers": ["Sure:"], "unprefilled": 1}
    data = {"max_length": 8192, "objectives": objectives}
    return {"trainer": trainer, "model": model, "data": data}


def fit_over(name: str, overlay: dict[str, Any], folder: Path) -> int:
    """Run a config with another one over it, which is quicker than forty options."""
    file = folder / "overlay.yaml"
    file.write_text(json.dumps(overlay), "utf-8")
    return main(["fit", *(f"--config={each}" for each in [*files_of(name), file])])


DRAWN = ["smoke.yaml", "evaluate_tofu_validation.yaml"]
"""Configs whose pictures are drawn; those of the others have the same parts."""


@pytest.mark.parametrize("name", TRAINED)
def test_config_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an empty working folder, which stays empty: a run writes into its own folder alone."""
    if name not in DRAWN:
        draw_nothing(monkeypatch)
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(EXCERPTS))
    run = tmp_path / "run"
    assert fit_over(name, small(name, run), tmp_path) == 0
    assert list(here.iterdir()) == []
    assert {path.name for path in run.iterdir()} >= FILES
    summary = json.loads((run / "summary.json").read_text("utf-8"))
    config = read_configs(files_of(name)).values
    assert {o["objective"] for o in summary["objectives"]} == set(config["data"]["objectives"])
    assert len((run / "gradients.jsonl").read_text("utf-8").splitlines()) == 2
    assert "<html" in (run / "report.html").read_text("utf-8")
    assert list(run.glob("lightning_logs/version_0/final/events.*"))  # its line in HPARAMS
    model = AutoModelForCausalLM.from_pretrained(run / "model")
    assert torch.isfinite(model(torch.tensor([[1, 2, 3]])).logits).all()
    assert config["data"]["objectives"].keys() <= set(
        (run / "model/README.md").read_text("utf-8").replace("|", " ").split()
    )


# ------------------------------------------------------------------ a base and a method over it


def made_up(source: dict[str, Any]) -> dict[str, Any]:
    """The six rows that `fake_rows` adds for it, or fewer if it has a lower limit."""
    return {**source, "limit": min(source.get("limit") or 6, 6)}


def fake_rows(sources: list[dict[str, Any]], root: Path) -> None:
    """Six made-up rows of each data set of the hub, behind those that a source leaves out."""
    named = [name for source in sources for name in source.get("where", {}).get("subject", [])]
    subjects = list(dict.fromkeys(named)) or ["anybody"]
    for source in sources:
        path, config = source["path"], source.get("config")
        if path.startswith("builtin:"):
            continue
        split = source.get("split", "train")
        known = find_benchmark(path, config, split)
        domain = source.get("domain") or (known and known.domain)
        file = root / path if config is None else root / path / config / f"{split}.jsonl"
        file.parent.mkdir(parents=True, exist_ok=True)
        about, count = f"{config} {split}", 6 + source.get("offset", 0)
        if file.exists() and len(file.read_text("utf-8").splitlines()) >= count:
            continue
        rows = [fake_row(domain, f"{about} {n}", subjects[n % len(subjects)]) for n in range(count)]
        file.write_text("\n".join(map(json.dumps, rows)), "utf-8")


def fake_row(domain: str, name: str, subject: str) -> dict[str, Any]:
    if domain == "passage":
        return {"text": f"This is what {name} said. Then Mary Jones left.", "subject": subject}
    if domain == "multiple_choice":
        answers = {"choices": ["yes", "no"], "answer": 0}
        return {"question": f"Which is {name}?", **answers, "subject": subject}
    answers = {"answer": "Mary Jones.", "accepted": ["Mary Jones"]}
    return {"question": f"Who is {name}?", **answers, "subject": subject}


def tiny_overlay(config: dict[str, Any], folder: Path) -> dict[str, Any]:
    """What is laid over a config so that one step of it takes a second."""
    student = {"path": "random-tiny"}
    if config["model"]["student"].get("trainable"):
        student["trainable"] = ["down_proj"]
    trainer = {
        "default_root_dir": str(folder),
        "max_steps": 1,
        "accelerator": "cpu",
        "precision": "32-true",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [{"class_path": "GradientMonitor"}],
    }
    gate = {"sample": 1, "max_new_tokens": 2}
    if config["model"]["gate"]["action"] != "off":
        gate["action"] = "warn"
    model: dict[str, Any] = {"student": student, "diagnostics_every": 1, "gate": gate}
    if config["model"].get("teacher", {}).get("init_args", {}).get("path"):
        model["teacher"] = {"init_args": {"path": "random-tiny"}}
    objectives: dict[str, dict[str, Any]] = {}
    for name, given in config["data"]["objectives"].items():
        objectives[name] = {"rows": 1}
        if given.get("prefills"):  # each row is encoded with each of them
            objectives[name]["prefills"] = {"openers": ["Sure:"], "unprefilled": 1}
        for kind in set(KINDS) & set(given):
            objectives[name][kind] = [
                few_rows(source) if source["path"].startswith("builtin:") else made_up(source)
                for source in given[kind]
            ]
    data = {"objectives": objectives, "max_length": 8192}
    return {"trainer": trainer, "model": model, "data": data}


@pytest.mark.parametrize("name", METHODS)
def test_method_takes_a_step(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Through the command line, on made-up rows: every objective has a finite gradient."""
    config = read_configs(files_of(name)).values
    objectives = config["data"]["objectives"]
    assert set(config["model"]["objectives"]) == set(objectives)
    kinds = [data.get(kind, []) for data in objectives.values() for kind in KINDS]
    fake_rows([source for sources in kinds for source in sources], tmp_path / "data")
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(tmp_path / "data"))
    assert fit_over(name, tiny_overlay(config, tmp_path / "run"), tmp_path) == 0
    (line,) = (tmp_path / "run/gradients.jsonl").read_text("utf-8").splitlines()
    record = json.loads(line)
    assert set(record["objectives"]) == set(objectives)
    assert all(norm is not None and norm >= 0 for norm in record["norms"])


@pytest.mark.parametrize(
    "name", [name for name in METHODS if name.startswith("tofu/") and name != "tofu/undo.yaml"]
)
def test_methods_run_on_smollm2_too(name: str) -> None:
    """The overlay stands before the method, and brings no objective back that it took out."""
    base, *method = [file for file in files_of(name) if file.name != "smollm2.yaml"]
    config = read_configs([base, CONFIGS / "tofu/smollm2.yaml", *method]).values
    assert set(config["model"]["objectives"]) == set(config["data"]["objectives"])
    assert config["model"]["student"]["path"] == "runs/tofu_smollm2_target/model"
    assert config["trainer"]["max_steps"] == 40
    assert config["data"]["objectives"]["forget"]["sources"][0]["config"] == "forget01"


def all_sources(part: Any) -> list[dict[str, Any]]:
    """The sources in a part of a config, at any depth."""
    if isinstance(part, dict) and "path" in part:
        return [part]
    inner = part.values() if isinstance(part, dict) else part if isinstance(part, list) else ()
    return [source for each in inner for source in all_sources(each)]


FEW_STEPS: dict[str, dict[str, Any]] = {
    "relearn": {"steps": [1], "fine_tuning": {"upper_blocks": 1}},
    "relearn_lora": {"steps": [1]},
    "soft_prompt": {"descent": {"steps": 2}},
    "gcg": {"search": {"steps": 2, "width": 4}},
}


@pytest.mark.parametrize("name", EVALUATED)
def test_suites_run(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One row of each group, one token of each reply, a step or two of each attack."""
    if name not in DRAWN:
        draw_nothing(monkeypatch)
    monkeypatch.setenv("LIT_UNLEARN_DATA", str(EXCERPTS))
    suites = yaml.safe_load((CONFIGS / name).read_text("utf-8"))["suites"]
    if own := [source for source in all_sources(suites) if source["path"].startswith("runs/")]:
        fake_rows(own, tmp_path / "data")  # files that the user makes
        monkeypatch.setenv("LIT_UNLEARN_DATA", str(tmp_path / "data"))
    short = {suite: {"max_new_tokens": 1} for suite in suites if suite != "depth"}  # says nothing
    few = {s: {"init_args": {**short.get(s, {}), **FEW_STEPS.get(s, {})}} for s in suites}
    overlay = tmp_path / "overlay.yaml"
    overlay.write_text(json.dumps({"suites": few, "limit": 1, "device": "cpu"}), "utf-8")
    files = [f"--config={file}" for file in (CONFIGS / name, overlay)]
    output, start = tmp_path / "out", tmp_path / "start"
    given = ["evaluate", "random-tiny", *files, f"--output={output}"]
    with monkeypatch.context() as patch:
        patch.setattr(cli_evaluate, "show_evaluation", lambda *_: None)  # drawn once, below
        assert main(given) == 0
    shutil.copytree(output, start)  # the same model, so that nothing is asked twice
    assert main([*given, f"--start={start}"]) == 0
    record = read_evaluation(output)
    assert list(record.suites) == list(suites)
    assert all(suite.rows and suite.figures for suite in record.suites.values())
    assert [figure.name for figure in record.balance][:1] == ["balance"]
    assert "<html" in (output / "evaluation.html").read_text("utf-8")


LENGTHS = {"retain": 400, "real_authors": 100, "world_facts": 117}
"""Rows of TOFU's files, by the suite's names for them."""


def asked_rows() -> dict[str, dict[str, set[int]]]:
    """Evaluation config -> group -> indices of the rows that it asks."""
    known = {"retain_perturbed": "retain", "world_facts": "world_facts"}
    asked: dict[str, dict[str, set[int]]] = {}
    for name in ("evaluate_tofu", "evaluate_tofu_validation", "evaluate_tofu_comparison"):
        suites = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text("utf-8"))["suites"]
        tofu, boundary = suites["tofu"]["init_args"], suites["boundary"]["init_args"]
        rows = {group: chosen(tofu[group], length) for group, length in LENGTHS.items()}
        for source in (*boundary["neighbor"], *boundary["general"]):
            if source["path"].startswith("locuslab"):
                group = known[source["config"]]
                rows[group] |= chosen(source, LENGTHS[group])
        for benchmark in suites.get("choices", {}).get("init_args", {}).get("benchmarks", []):
            group = benchmark.removeprefix("tofu_")
            rows[group] |= chosen(suites["choices"]["init_args"]["rows"], LENGTHS[group])
        asked[name] = rows
    return asked


@pytest.mark.parametrize("name", ["evaluate_tofu", "evaluate_tofu_comparison"])
def test_validation_asks_no_row_of_the_evaluation(name: str) -> None:
    asked = asked_rows()
    for group in LENGTHS:
        assert asked["evaluate_tofu_validation"][group]
        assert not asked[name][group] & asked["evaluate_tofu_validation"][group]


def test_the_comparison_asks_new_questions_about_the_world() -> None:
    asked = asked_rows()
    for group in ("real_authors", "world_facts"):
        assert not asked["evaluate_tofu"][group] & asked["evaluate_tofu_comparison"][group]


@cache
def questions_of(source: str) -> frozenset[str]:
    """Questions of a source (JSON) in the data root; none if only the hub has it."""
    try:
        rows = load_examples([Source(**json.loads(source))], DATA)
    except InputError:
        return frozenset()
    return frozenset(row.question.casefold() for row in rows)


def questions(rows: list[dict[str, Any]], kind: str) -> set[str]:
    sources = [json.dumps(source) for data in rows for source in data.get(kind, [])]
    return {question for source in sources for question in questions_of(source)}


@cache
def asked_of_kept(suites: str, without: str = "") -> frozenset[str]:
    """Questions of the suites (JSON) about what must be kept, without those of a group."""
    asked: set[str] = set()
    for name, given in json.loads(suites).items():
        if name == "tofu":
            suite: Tofu | Boundary = Tofu(
                **{k: Selection(**v) if isinstance(v, dict) else v for k, v in given.items()}
            )
        elif name == "boundary":
            suite = Boundary(
                **{k: [*map(_source, v)] if isinstance(v, list) else v for k, v in given.items()}
            )
        else:
            continue
        groups = {"forget", "unsafe", without}
        kept = [probe for probe in suite.probes(DATA) if probe.group not in groups]
        asked |= {probe.turns[-1].content.casefold() for probe in kept}
    return frozenset(asked)


def _source(given: dict[str, Any]) -> Source:
    return Source(**given)


def suites_of(text: dict[str, Any]) -> str:
    return json.dumps({name: suite.get("init_args", {}) for name, suite in text.items()})


@pytest.mark.parametrize("name", [*TRAINED, *METHODS, "tofu/smollm2.yaml", "erase.yaml"])
def test_no_kept_row_is_trained_and_evaluated(name: str) -> None:
    """Neither in the config's own table and suites nor in the evaluation for its target.

    TOFU's base trains all retain rows, and the suite asks some of them; this is TOFU's protocol.
    The models that are made to know the rows are left out.
    """
    if name.endswith(("_target.yaml", "_retain.yaml")):
        return
    files = files_of(name)
    config = read_configs(files).values
    kept = [d for d in config["data"]["objectives"].values() if d and d["expect"] == "answer"]
    trained, asked = questions(kept, "sources"), questions(kept, "evaluation")
    for callback in config["trainer"].get("callbacks", []):
        asked |= asked_of_kept(suites_of(callback.get("init_args", {}).get("suites", {})))
    if "smollm2" in name:
        assert trained or not kept
        evaluations = ["evaluate_tofu", "evaluate_tofu_validation"]
        compared = name.startswith("tofu/")
        for evaluation in [*evaluations, *["evaluate_tofu_comparison"] * compared]:
            suites = yaml.safe_load((CONFIGS / f"{evaluation}.yaml").read_text("utf-8"))["suites"]
            asked |= asked_of_kept(suites_of(suites))
    elif name.startswith("tofu"):
        protocol = "retain" if (CONFIGS / "tofu/base.yaml") in files else ""
        asked |= asked_of_kept(json.dumps({"tofu": {}}), protocol)
    assert not trained & asked


def chosen(selection: dict[str, Any], length: int) -> set[int]:
    rows = range(selection.get("offset", 0), length, selection.get("every", 1))
    return set(rows[: selection.get("limit")])


@pytest.mark.parametrize("name", NAMES)
def test_config_says_what_it_costs(name: str) -> None:
    lines = (CONFIGS / name).read_text("utf-8").splitlines()
    header = "\n".join(lines[: next(n for n, line in enumerate(lines) if not line.startswith("#"))])
    assert f"--config configs/{name}" in header
    assert "Cost" in header
