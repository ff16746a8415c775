"""benchmarks/metric_pools.py: what is trained, evaluated and reported, with a stand-in for both."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lit_unlearn.evaluation.probes import Figure
from lit_unlearn.evaluation.record_files import write_evaluation
from tests.benchmark_scripts import benchmark, stand_in
from tests.unit.report.records import UNIT, evaluation, suite

STAND_IN = """
import json, pathlib, sys
args = sys.argv[1:]
with open("calls", "a") as file:
    file.write(json.dumps(args) + "\\n")
place = [b for a, b in zip(args, args[1:]) if a == "--output"]
place += [a.split("=", 1)[1] + "/model" for a in args if a.startswith("--trainer.default_root_dir")]
if "/npo/" in place[0]:
    sys.exit("lit-unlearn: error: it broke")
pathlib.Path(place[0]).mkdir(parents=True)
for file in (pathlib.Path(place[0], "config.json"), pathlib.Path(place[0]).parent / "config.yaml"):
    file.write_text("{}")
"""


def evaluated(model: Any, suites: Any, *, output: Path, **_: object) -> None:
    """Write an evaluation: extraction strength orders the pools, recall does not."""
    known = 0.9 if output.name.startswith(("knows", "start")) else 0.1
    figures = [
        Figure("forget/extraction_strength", known, UNIT, 6, better="lower"),
        Figure("unattacked/recall", 0.5, UNIT, 6, better="lower"),
    ]
    balance = [Figure("balance", 0.4, UNIT, 6, 0.3, 0.5, "higher")]
    balance = balance if any(each.name == "boundary" for each in suites) else []
    write_evaluation(output, evaluation(suite("tofu", figures), balance=balance))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ModuleType, list[Any]]]:
    """The script after a whole run in the working directory, and its commands."""
    with stand_in(STAND_IN) as patch:
        script = benchmark("metric_pools")
        patch.chdir(tmp_path_factory.mktemp("pools"))
        patch.setattr(script, "evaluate", evaluated)
        patch.setattr(script, "write_rows", lambda *_: None)
        patch.setattr(script, "load_model", lambda path: (path, "tokenizer"))
        patch.setattr(script, "quantised_copy", lambda model, *_, **__: model)
        script.main(["--output=out"])
        lines = Path("calls").read_text("utf-8").splitlines()
        yield script, [json.loads(line) for line in lines]


def test_pools_are_audited_without_a_method_that_fails(
    finished: tuple[ModuleType, list[Any]],
) -> None:
    script, calls = finished
    pairs = 2 * (1 + len(script.KNOWING))
    changed = 2 * len(script.METHODS) - 1  # one fails, so that it is not trained again
    assert len(calls) == pairs + 1 + changed + 1  # the retain model; the model to subtract
    found = json.loads(Path("out/metric_pools.json").read_text("utf-8"))
    strength, recall = found["metrics"]
    assert strength["figure"] == "forget/extraction_strength"
    assert (strength["faithfulness"], recall["faithfulness"]) == (1, 0.5)
    assert "npo" not in found["balances"]
    assert any("it broke" in failure for failure in found["failures"])
    text = Path("out/metric_pools.md").read_text("utf-8")
    assert f"8 knowing, 8 ignorant, {len(script.METHODS) - 1} unlearned models" in text
    assert "| tofu | forget/extraction_strength | 0.90 | 0.10 | 1.00 [1.00, 1.00] |" in text
    assert "| graddiff | 0.40 [0.30, 0.50] |" in text
    assert "0.89, 0.77, 0.97" in text  # published


def test_ignorant_models_differ_from_knowing_ones_by_the_forget_rows(
    finished: tuple[ModuleType, list[Any]],
) -> None:
    _, calls = finished
    by_name = {Path(call[-1]).name: call for call in calls}
    knows, never = by_name["start"], by_name["retain"]
    assert any(part.endswith("tofu_smollm2_retain.yaml") for part in never)
    gone = [part for part in knows if part not in never and "retain" not in part]
    assert all("objectives.forget" in part or "root_dir" in part for part in gone)
    source = next(part for part in knows if "retain.sources" in part)
    assert source in never


def test_only_weights_that_are_needed_are_kept_and_nothing_is_done_again(
    finished: tuple[ModuleType, list[Any]], capsys: pytest.CaptureFixture[str]
) -> None:
    script, calls = finished
    kept = {model.parent.name for model in Path("out").glob("*/model")}
    assert kept == {"start", "retain", "reinforced", *script.METHODS} - {"npo"}
    script.main(["--output=out"])
    again = Path("calls").read_text("utf-8").splitlines()[len(calls) :]
    assert [Path(json.loads(line)[-1]).name for line in again] == ["npo"]
    capsys.readouterr()
    script.main(["--output=out", "--plan"])
    assert "0 x knowing of 65 s, 0 x ignorant of 40 s, 1 x method" in capsys.readouterr().out


def test_rows_are_those_with_the_shortest_answers(tmp_path: Path) -> None:
    models = benchmark("metric_pools_models")
    source = tmp_path / "given/tofu"
    source.mkdir(parents=True)
    lengths = [9, 3, *range(10, 40), 1]
    rows = [{"question": f"q{n}", "answer": "a" * n, "perturbed_answer": ["b"]} for n in lengths]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    for config in (*models.ROWS, *models.ALSO_READ):
        (source / f"{config}.json").write_text(text, "utf-8")
    models.write_rows(tmp_path / "given", tmp_path / "own")
    lines = (tmp_path / "own/tofu/forget01.json").read_text("utf-8").splitlines()
    answers = [len(json.loads(line)["answer"]) for line in lines]
    assert answers == [9, 3, *range(10, 27), 1]
    assert set(json.loads(lines[0])) == {"question", "answer"}
