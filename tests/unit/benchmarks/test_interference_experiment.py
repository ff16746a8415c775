"""benchmarks/interference_experiment.py: which arms, what is done once, effects by hand, the page.

A stand-in takes the place of `lit-unlearn`: its figures follow from the arm, so that every effect
is known. Raw data leave 0.2 more of the recall, one direction alone 0.08, PCGrad changes nothing.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
from jsonargparse import ArgumentParser

from lit_unlearn.cli.config import read_configs
from lit_unlearn.cli.suite_names import known_suites
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.evaluation.probes import Figure, Row, Suite
from lit_unlearn.evaluation.record_files import write_evaluation
from lit_unlearn.evaluation.records import EvaluationRecord, SuiteRecord
from lit_unlearn.interference_study.estimates import WHOLE, Estimate
from lit_unlearn.interference_study.interference_page import write_figures
from lit_unlearn.metrics.functional.balance import PARTS
from tests.benchmark_scripts import benchmark, stand_in
from tests.conftest import PROJECT

STAND_IN = """
import json, math, pathlib, shutil, sys
args = sys.argv[1:]
def option(name):
    return next(a.split("=", 1)[1] for a in args if a.startswith(name + "="))
configs = [pathlib.Path(b).stem for a, b in zip(args, args[1:]) if a == "--config"]
with open("calls", "a") as file:
    file.write(json.dumps([args[0], *configs]) + "\\n")
if args[0] == "interference":
    folder = pathlib.Path(option("--output"))
    form = option("--representations").strip("[]")
    text = pathlib.Path("template/interference.json").read_text().replace("FORM", form)
    (folder / "interference.json").write_text(text)
    sys.exit()
folder = pathlib.Path(option("--trainer.default_root_dir"))
recall = 0.8
if args[0] == "fit":
    if "push" in configs and "mgda" in configs:
        sys.exit("lit-unlearn: error: it broke")
    seed = int(option("--seed_everything"))
    raw, one_way = "france_raw" in configs, bool({"pull", "push"} & set(configs))
    recall = 0.2 + 0.2 * raw + 0.08 * one_way + 0.02 * seed
    cosine = 0.5 - 0.6 * raw
    row = json.loads(pathlib.Path("template/gradients.jsonl").read_text())
    rows = [{**row, "step": 0}, {**row, "step": 2, "cosines": [[1, cosine], [cosine, 1]]}]
    rows[1]["conflict_rate"] = float(cosine < 0)
    (folder / "gradients.jsonl").write_text("".join(json.dumps(r) + "\\n" for r in rows))
    settled = [{"objective": "forget", "duty": "declines", "share": 1.0, "first_token_mean": 0.9}]
    gate = folder / "preparation.json"
    gate.write_text(json.dumps({"content": {"settled": settled}}))
where = folder / "evaluation" / ("test" if args[0] == "test" else "step_16")
shutil.copytree("template/evaluation", where, dirs_exist_ok=True)
for name in ("metrics.json", "rows.jsonl"):
    text = (where / name).read_text().replace("0.123", str(recall))
    (where / name).write_text(text.replace("2.095", str(-math.log(recall))))
"""


def template(folder: Path) -> None:
    """What the stand-in copies: a whole evaluation, a diagnosed step at rest, a measurement."""
    figures = {
        "boundary": {"neighbor/refused": 0.0, "neighbor/correct": 0.5, "general/correct": 0.5},
        "prefill": {
            "unattacked/recall": 0.123,
            "unattacked/answer_nll": 2.095,  # as likely as it is recalled
            "opener/recall": 0.1,
        },
    }
    suites = {
        suite: SuiteRecord(
            suite,
            {},
            0.0,
            0.0,
            [Row(n, n.split("/")[0], {n.split("/")[1]: v}, reply="Yes.") for n, v in own.items()],
            [Figure(n, v, "", 10, better="lower") for n, v in own.items()],
        )
        for suite, own in figures.items()
    }
    write_evaluation(folder / "evaluation", EvaluationRecord("m", "f", suites))
    nothing = [[None, None], [None, None]]
    row = {"objectives": ["forget", "retain"], "norms": [1, 0], "cosines": nothing, "weights": [1]}
    row |= {"losses": [1], "conflict_rate": 0.0, "update_cosines": [1], "groups": []}
    row |= {"group_cosines": [], "answer_tokens": [56, 35]}
    (folder / "gradients.jsonl").write_text(json.dumps(row))
    lines = [
        Estimate("FORM", "cosine", "forget", "retain", WHOLE, 56, -0.5),
        Estimate("FORM", "shared gain", "forget", "retain", "", 56, -0.25),
        Estimate("FORM", "shared gain", "retain", "forget", "", 56, -0.75),
        Estimate("FORM", "MMD^2", "forget", "retain", "block.00", 56, 0.2),
        Estimate("FORM", "MMD^2", "forget", "retain", "block.01", 56, 0.4),
    ]
    write_figures(folder, lines, {})


class Found(NamedTuple):
    folder: Path
    calls: list[list[str]]
    table: str


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with stand_in(STAND_IN) as patch:
        found = benchmark("interference_experiment")
        patch.setattr(found, "prepare", lambda data_root, model: None)
        yield found


def run(script: ModuleType, *more: str) -> Found:
    """In the working directory."""
    Path("calls").unlink(missing_ok=True)
    script.main(["--output=out", "--subset=france", "--seeds=0,1", *more])
    calls = Path("calls").read_text("utf-8").splitlines() if Path("calls").exists() else []
    table = Path("out/interference.md").read_text("utf-8")
    return Found(Path.cwd(), [json.loads(call) for call in calls], table)


@pytest.fixture
def continued(
    script: ModuleType, finished: Found, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A copy of it as the working directory, and no pictures, which are not looked at again."""
    shutil.copytree(finished.folder, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setattr(script, "save_pictures", lambda findings, folder: {})
    return tmp_path / "copy"


@pytest.fixture(scope="module")
def finished(script: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Found]:
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        template(folder / "template")
        shutil.copyfile(PROJECT / "docs/interference.md", "page.md")
        yield run(script, "--docs=page.md")


def cells(table: str, *beginning: str) -> list[str]:
    """The other cells of the line that begins so."""
    (line,) = [x for x in table.splitlines() if x.startswith(f"| {' | '.join(beginning)} |")]
    return line.strip("| ").split(" | ")[len(beginning) :]


def test_every_arm_is_trained_once_for_each_seed(finished: Found) -> None:
    kinds = [call[0] for call in finished.calls]
    assert {kind: kinds.count(kind) for kind in kinds} == {"test": 1, "fit": 36, "interference": 2}
    trained = {tuple(call[1:]) for call in finished.calls if call[0] == "fit"}
    assert len(trained) == 18
    assert ("base", "france", "france_raw", "pull", "mgda") in trained
    assert ("base", "france") in trained


def test_effects_by_hand(finished: Found) -> None:
    """Recall .8 before. Unified, both, seed 0 leave .2: forgetting .75. Raw costs .2 / .8 = .25,
    one direction .08 / .8 = .1. Cosines: .5 and -.1; the step at rest counts for nothing.
    """
    outcomes = ["balance", *PARTS, "cosine", "conflict"]
    arms, *changes = cells(finished.table, "data", "unified - raw")
    assert arms == "8", "nine, and one has failed"
    data = dict(zip(outcomes, changes, strict=True))
    assert data["forgetting"] == "+0.25 [+0.25, +0.25]"
    assert data["utility"] == "+0.00 [+0.00, +0.00]"
    assert data["cosine"] == "+0.60 [+0.60, +0.60]"
    assert data["conflict"] == "-1.00 [-1.00, -1.00]"
    assert cells(finished.table, "loss", "both - pull")[2] == "+0.10 [+0.10, +0.10]"
    assert cells(finished.table, "weighting", "pcgrad - sum")[2] == "+0.00 [+0.00, +0.00]"
    arm = cells(finished.table, "unified", "both", "sum")
    assert arm[0] == "2", "seeds"
    assert arm[2] == "0.74 [0.73, 0.75]", "forgetting: 1 - .2 / .8 and 1 - .22 / .8"


def test_what_was_measured_before_training(finished: Found) -> None:
    section = finished.table.split("before training")[1].split("###")[0]
    for form in ("raw", "unified"):
        assert cells(section, form)[:3] == ["-0.50", "-0.50", "0.30"]
    assert cells(finished.table, "raw", "forget") == ["56", "declines 100%", "0.90"]
    assert cells(finished.table, "raw", "retain") == ["35", "-", "-"]


def test_failures_are_listed_and_leave_the_rest(finished: Found) -> None:
    assert finished.table.count("it broke") == 4
    assert not [x for x in finished.table.splitlines() if x.startswith("| raw | push | mgda")]


def test_page_and_pictures(finished: Found) -> None:
    page = (finished.folder / "page.md").read_text("utf-8")
    assert "Not run yet" not in page
    assert "## What is compared" in page
    assert "| data | unified - raw |" in page
    names = ("cosines", "pairs", "parts", "effects", "gap", "transfer")
    for name in names:
        assert f"(images/interference_france_{name}.png)" in page
        picture = finished.folder / f"images/interference_france_{name}.png"
        assert picture.read_bytes() == (finished.folder / f"out/france_{name}.png").read_bytes()
        assert picture.stat().st_size > 1000


def test_it_continues_with_what_failed(
    script: ModuleType, finished: Found, continued: Path
) -> None:
    again = run(script)
    assert again.table == finished.table
    assert len(again.calls) == 4
    assert all({"push", "mgda"} <= set(call) for call in again.calls)


def test_a_report_on_what_is_finished_starts_nothing(script: ModuleType, continued: Path) -> None:
    """Of the first arm one seed is missing, and of one form what was measured."""
    (Path("out/france,seed_everything=1") / "gradients.jsonl").unlink()
    shutil.rmtree("out/france,seed_everything=1/evaluation")
    shutil.rmtree("out/france_raw_measured")
    found = run(script, "--finished")
    assert found.calls == []
    assert cells(found.table, "unified", "both", "sum")[:3:2] == ["1", "0.75"]
    assert cells(found.table, "unified", "pull", "sum")[0] == "2"
    assert cells(found.table, "data", "unified - raw")[0] == "7", "an arm without all seeds is out"
    assert "it broke" not in found.table
    section = found.table.split("before training")[1].split("###")[0]
    assert "| unified |" in section
    assert "| raw |" not in section


def test_the_plan(
    script: ModuleType,
    finished: Found,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(finished.folder)
    script.main(["--output=out", "--subset=france,push,mgda", "--seeds=0,1,2", "--plan"])
    said = capsys.readouterr().out
    assert "0 x test" in said
    assert "6 x fit" in said
    assert f"{6 * script.SECONDS['fit'] / 3600:.1f} h" in said


def test_subsets(script: ModuleType) -> None:
    assert len(script.chosen_arms([])) == 2 * 2 * 3 * 3
    (arm,) = script.chosen_arms(["tofu", "raw", "both", "mgda"])
    assert [file.name for file in script.configs_of(arm)] == [
        "tofu.yaml",
        "tofu_raw.yaml",
        "mgda.yaml",
    ]
    assert all(file.is_file() for a in script.chosen_arms([]) for file in script.configs_of(a))
    with pytest.raises(SystemExit, match="found other"):
        script.chosen_arms(["raw", "other"])


def test_a_page_without_marks(script: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text("nothing")
    with pytest.raises(SystemExit, match="results: begin"):
        script.write_docs(tmp_path / "page.md", "table", {})


@pytest.mark.parametrize("subject", ["france", "tofu"])
def test_kept_rows_are_evaluated_unseen(
    subject: str, benchmark_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No question that must be answered in training is asked by the config's suites."""
    monkeypatch.chdir(tmp_path)
    rows = tmp_path / "runs/interference_rows"
    rows.mkdir(parents=True)
    (rows / "wikitext.jsonl").write_text('{"text": "One two three four five six seven eight."}')
    (rows / "xstest.jsonl").write_text('{"question": "Unlike any other?", "answer": "Yes."}')
    files = [PROJECT / f"configs/interference/{n}.yaml" for n in ("base", subject)]
    config = read_configs(files).values
    known_suites()
    parser = ArgumentParser(exit_on_error=False)
    parser.add_argument("--suites", type=dict[str, Suite])
    given = config["trainer"]["callbacks"][-1]["init_args"]
    suites = parser.instantiate_classes(parser.parse_object(given)).suites
    probes = [probe for suite in suites.values() for probe in suite.probes(benchmark_data)]
    asked = {probe.turns[-1].content for probe in probes}
    assert len(asked) > 40
    kept = [config["data"]["objectives"][name]["sources"] for name in ("neighbor", "retain")]
    sources = [Source(**source) for own in kept for source in own]
    assert not asked & {e.question for e in load_examples(sources, benchmark_data)}


# -------------------------------------------------------------------------------------- the rows


def test_wikitext_is_joined_again(script: ModuleType) -> None:
    rows = sys.modules["interference_rows"]
    line = " He wrote well @-@ known songs ( 1 @,@ 000 of them ) , but didn 't sing ; \n"
    assert rows.running_text(line) == "He wrote well-known songs (1,000 of them), but didn't sing;"


def test_short_passages(script: ModuleType) -> None:
    """Two whole sentences; no heading, nothing unknown, nothing on the topic, nothing long."""
    rows = sys.modules["interference_rows"]
    twelve = "The bridge over the river was built of stone in May ."
    kept = f" {twelve} {twelve.replace('bridge', 'house')} A third one follows ."
    lines = [
        " = Heading with some more words in it than that = ",
        kept,
        kept.replace("bridge", "<unk>"),
        kept.replace("stone", "French stone"),
        " Too short . ",
        f" The {'very ' * 40}long one ends . ",
    ]
    (found,) = rows.short_passages(lines, 5)
    assert found.endswith("of stone in May. The house over the river was built of stone in May.")
    assert rows.short_passages(lines * 3, 2) == [found] * 2
