"""``lit-unlearn sweep``: the runs of a grid, their names, the table; with a stand-in for fit."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.cli.sweep import values_of
from lit_unlearn.errors import InputError
from lit_unlearn.sweeping import jobs
from lit_unlearn.sweeping.sweep import _renamed, plan_jobs, run_name, run_settings, short_keys
from lit_unlearn.sweeping.table import figures
from lit_unlearn.utils.ownership import write_text

STAND_IN = """
import json, pathlib, sys
from lit_unlearn.utils.ownership import write_text
options = dict(arg.removeprefix("--").split("=", 1) for arg in sys.argv[1:] if "=" in arg)
folder = pathlib.Path(options["trainer.default_root_dir"])
if options.get("lr") == "9":
    sys.exit("lit-unlearn: error: too high")
after = {"rows": 4, "rouge_l": float(options["lr"]), "refusal_rate": None}
objectives = [
    {"objective": "forget", "prefilled": prefilled, "before": None, "after": after}
    for prefilled in (False, True)
]
text = json.dumps({"run": {"seconds": 1.5}, "objectives": objectives, "argv": sys.argv[1:]})
write_text(folder / "config.yaml", "")
if options.get("lr") != "7":
    write_text(folder / "summary.json", text)
"""


@pytest.fixture(autouse=True)
def _stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(jobs, "COMMAND", (sys.executable, "-c", STAND_IN))
    monkeypatch.setattr(jobs, "CHECK", (sys.executable, "-c", ""))


def test_every_combination_is_a_run() -> None:
    values = {"model.optimizer.init_args.lr": ["1e-5", "2e-5"], "seed_everything": ["0", "1"]}
    settings = run_settings(values)
    common = ("--config", "a.yaml", "--trainer.max_steps", "-1")
    found = plan_jobs(settings, common, Path("out"))
    assert [job.name for job in found] == [
        "lr=1e-5,seed_everything=0",
        "lr=1e-5,seed_everything=1",
        "lr=2e-5,seed_everything=0",
        "lr=2e-5,seed_everything=1",
    ]
    assert found[2].arguments == (
        *("fit", *common),
        *("--model.optimizer.init_args.lr=2e-5", "--seed_everything=0"),
        "--trainer.default_root_dir=out/lr=2e-5,seed_everything=0",
    )
    assert settings["lr=2e-5,seed_everything=1"] == {
        "model.optimizer.init_args.lr": "2e-5",
        "seed_everything": "1",
    }


def test_configs_are_laid_over_the_common_ones() -> None:
    settings = run_settings({"config": ["x/npo.yaml", "[b.yaml, c.yaml]"]})
    first, second = plan_jobs(settings, ["--config=a.yaml"], Path("o"))
    assert (first.name, second.name) == ("npo", "b+c")
    assert first.arguments[1:4] == ("--config=a.yaml", "--config", "x/npo.yaml")
    assert second.arguments[2:6] == ("--config", "b.yaml", "--config", "c.yaml")


def test_options_are_told_apart(capsys: pytest.CaptureFixture[str]) -> None:
    """Those of the sweep from those of its runs, whatever their order and form."""
    text = "--x a --sweep.lr 0.25,0.5 --output=out --sweep.seed=[0] --y -1 --jobs 2"
    assert main(["sweep", *text.split()]) == 0
    content = json.loads(Path("out/lr=0.5,seed=0/summary.json").read_text("utf-8"))
    folder = "--trainer.default_root_dir=out/lr=0.5,seed=0"
    assert content["argv"] == ["fit", "--x", "a", "--y", "-1", "--lr=0.5", "--seed=0", folder]


def test_values_stay_as_they_are_written() -> None:
    text = "[1e-5, null, 'a b', {class_path: X, init_args: {n: 1e-3}}, [1, 2]]"
    written = ("1e-5", "null", "a b", "{class_path: X, init_args: {n: 1e-3}}", "[1, 2]")
    assert values_of("key", text) == written
    assert values_of("key", "[true, 1, '', null]") == ("true", "1", "", "null")
    name = run_name(["model.teacher"], ["{class_path: X, init_args: {n: 1e-3}}"])
    assert name == "teacher=class_path-X-init_args-n-1e-3"


def test_long_values_with_one_beginning_have_folders_of_their_own() -> None:
    """In sweeps of their own too, where nothing compares them: the later one would replace the
    earlier.
    """
    short, long = (f"[{'a' * 50}.yaml, {'b' * 20}.yaml{more}]" for more in ("", ", c.yaml"))
    names = {run_name(["config"], [value]) for value in (short, long)}
    assert len(names) == 2
    assert all(len(name) == 60 and name.startswith("a" * 50 + "+") for name in names)
    assert run_name(["config"], [short]) in names


def test_keys_are_as_short_as_they_can_be() -> None:
    keys = ["model.a.weight", "model.b.weight", "seed_everything"]
    assert short_keys(keys) == ["a.weight", "b.weight", "seed_everything"]
    assert short_keys(["weight", "model.weight"]) == ["weight", "model.weight"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--sweep.lr=1,2"], "required: output"),
        (["--output=o"], "expected --sweep.KEY VALUES"),
        (["--output=o", "--sweep.lr"], "--sweep.lr: expected a value"),
        (["--output=o", "--sweep.lr", "--jobs"], "--sweep.lr: expected a value"),
        (["--output=o", "--sweep.lr=[1"], "expected a list such as [1e-5, 2e-5], found [1"),
        (["--output=o", "--sweep.lr=1,1"], "found 1 and again 1"),
        (["--output=o", "--sweep.lr=1e-3,2,0.001"], "found 1e-3 and again 0.001"),
        (["--output=o", "--sweep.x=[[1, 2], [1,2]]"], "found [1, 2] and again [1,2]"),
        (["--output=o", "--sweep.lr=1,2", "--jobs=0"], "--jobs: expected at least 1, found 0"),
        (["--output=o", "--sweep.lr=1,2", "--jobs=x"], "--jobs: expected int, found x"),
        (["--output=o", "--sweep.lr=1,2", "--gpus=0,1", "--jobs=3"], "expected 1 to 2, one for"),
        (["--output=o", "--sweep.lr=1", "--trainer.default_root_dir=x"], "give --output"),
        (["--output=o", "--sweep.config=[a/x.yaml, b/x.yaml]"], "found x 2 times"),
    ],
)
def test_mistakes(args: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sweep", *args]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o").exists()


def test_a_hint_names_the_option_of_the_sweep() -> None:
    text = "--model.clip_normm: unknown option; did you mean --model.clip_norm?"
    swept = "--sweep.model.clip_normm: unknown option; did you mean --sweep.model.clip_norm?"
    assert _renamed(text, {"model.clip_normm": ["1"]}) == swept
    assert _renamed(text, {"seed_everything": ["1"]}) == text


def test_the_table_has_settings_and_figures(capsys: pytest.CaptureFixture[str]) -> None:
    command = ["sweep", "--sweep.lr=0.25,9,0.5", "--output=out"]
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    shown = capsys.readouterr()
    assert "failed: lr=9: too high (out/lr=9/output.log)" in shown.err
    assert "0.250" in shown.out
    content = json.loads(Path("out/sweep.json").read_text("utf-8"))
    first, failed, last = content["runs"]
    assert (first["settings"], first["error"]) == ({"lr": "0.25"}, None)
    assert first["figures"]["forget/rouge_l"] == 0.25
    assert last["figures"]["forget/prefilled/rouge_l"] == 0.5
    assert last["figures"]["seconds"] == 1.5
    assert last["figures"]["forget/refusal_rate"] is None
    assert (failed["error"], failed["figures"]) == ("too high", {})
    lines = list(csv.DictReader(Path("out/sweep.csv").read_text("utf-8").splitlines()))
    assert [line["lr"] for line in lines] == ["0.25", "9", "0.5"]
    assert [line["forget/rouge_l"] for line in lines] == ["0.25", "", "0.5"]


def test_a_run_without_a_summary_is_finished_too(capsys: pytest.CaptureFixture[str]) -> None:
    """As without AnswerEvaluation; one of other settings does not leave its figures behind."""
    assert main(["sweep", "--sweep.lr=7", "--output=out"]) == 0
    (run,) = json.loads(Path("out/sweep.json").read_text("utf-8"))["runs"]
    assert (run["error"], run["figures"]) == (None, {})
    write_text(Path("out/lr=7/summary.json"), "of other settings")
    assert main(["sweep", "--sweep.lr=7", "--x=1", "--output=out"]) == 0
    assert not Path("out/lr=7/summary.json").exists()
    assert main(["sweep", "--sweep.lr=7", "--x=1", "--output=out"]) == 0
    assert "1 of 1 runs were finished before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("--seed_everythin: unknown option", "error: --sweep.seed_everythin: unknown option"),
        ("--modle: unknown option", "error: --sweep.modle: unknown option"),
        ("--trainer.max_steps: expected int", "error: --trainer.max_steps: expected int"),
        ("a.yaml:3: unknown key", "error: a.yaml:3: unknown key"),
    ],
)
def test_what_fit_would_refuse_is_refused_before_the_first_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], line: str, message: str
) -> None:
    check = f"import sys; sys.stdin.read(); sys.exit('Seed\\nlit-unlearn: error: {line}')"
    monkeypatch.setattr(jobs, "CHECK", (sys.executable, "-c", check))
    keys = ["--sweep.seed_everythin=0,1", "--sweep.modle.lr=1", "--sweep.seed_everything=1"]
    assert main(["sweep", *keys, "--output=o"]) == 2
    assert message in capsys.readouterr().err
    assert not Path("o").exists()


def test_what_all_runs_take_is_said_before_and_after_each(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ten minutes, and four for each of two that find results in the cache."""
    check = "print('a line of a library'); print([600.0, 240.0])"
    monkeypatch.setattr(jobs, "CHECK", (sys.executable, "-c", check))
    main(["sweep", "--sweep.lr=0.25,0.5,0.75", "--output=out"])
    told = capsys.readouterr().err
    assert "3 runs: the first takes about 10 min, the others 4 min each, as the" in told
    assert "18 min in all" in told
    assert re.search(r"Run 2 of 3: lr=0.5 took \d+ s; \d+ s left", told)
    assert re.search(r"Run 3 of 3: lr=0.75 took \d+ s; all done", told)


def test_a_sweep_continues(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sweep", "--sweep.lr=0.25", "--output=out"])
    first = Path("out/lr=0.25/summary.json").stat().st_mtime_ns
    main(["sweep", "--sweep.lr=0.25,0.5", "--output=out"])
    assert Path("out/lr=0.25/summary.json").stat().st_mtime_ns == first
    assert "1 of 2 runs were finished before" in capsys.readouterr().err
    assert len(json.loads(Path("out/sweep.json").read_text("utf-8"))["runs"]) == 2


def test_an_evaluation_is_in_the_table() -> None:
    folder = Path("run/evaluation")
    folder.mkdir(parents=True)
    figure = {"name": "forget/recall", "value": 0.5}
    content = {
        "balance": [{"name": "balance", "value": 0.75}],
        "suites": [{"suite": "tofu", "figures": [figure]}],
    }
    (folder / "metrics.json").write_text(json.dumps(content), "utf-8")
    assert figures(Path("run")) == {
        "evaluation/balance": 0.75,
        "evaluation/tofu/forget/recall": 0.5,
    }


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ("{", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "KeyError: 'balance'"),
        ('{"balance": [{"name": "b", "value": "x"}], "suites": []}', "evaluation/b is 'x'"),
    ],
)
def test_a_damaged_evaluation_is_named(tmp_path: Path, content: str, found: str) -> None:
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/metrics.json").write_text(content, "utf-8")
    with pytest.raises(InputError, match=rf"evaluation/metrics.json: expected the JSON.*{found}"):
        figures(tmp_path)


def test_a_file_in_the_output_s_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").write_text("mine", "utf-8")
    assert main(["sweep", "--sweep.lr=1", f"--output={tmp_path / 'file'}"]) == 2
    assert "should be a folder. Found a file in its place" in capsys.readouterr().err


def test_the_parent_does_not_import_torch() -> None:
    code = (
        "import sys; import lit_unlearn.sweeping.table;"
        "from lit_unlearn.cli import sweep; sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
