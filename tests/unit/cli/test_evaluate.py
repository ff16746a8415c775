"""``lit-unlearn evaluate``: real runs on the tiny model, and one line for every mistake."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.cli import evaluate as cli_evaluate
from lit_unlearn.cli import suite_names as cli_suites
from lit_unlearn.evaluation import subjects
from lit_unlearn.evaluation.probes import Subject
from lit_unlearn.evaluation.record_files import METRICS, ROWS, read_evaluation
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.utils.chat_template import Template
from tests.pictures import draw_nothing

SMALL = ["--suites.boundary.max_new_tokens=1", "--limit=2", "--device=cpu"]
BOUNDARY = ["evaluate", "random-tiny", "--suite=boundary", *SMALL]
PREFILL = {
    "class_path": "Prefill",
    "init_args": {"openers": ["Sure,"], "answer_words": [1], "max_new_tokens": 1},
}


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Runs a command that must fail with status 2 and one line; gives the line."""

    def run(*args: str) -> str:
        assert main(list(args)) == 2
        error = capsys.readouterr().err
        assert error.startswith("lit-unlearn: error: ")
        assert error.count("\n") == 1
        return error

    return run


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an evaluation; tests copy it."""
    folder = tmp_path_factory.mktemp("evaluated") / "old"
    assert main([*BOUNDARY, f"--output={folder}"]) == 0
    return folder


@pytest.fixture
def earlier(evaluated: Path) -> str:
    """The folder of an evaluation."""
    shutil.copytree(evaluated, "old")
    return "old"


def config(**values: object) -> str:
    Path("suites.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return "--config=suites.yaml"


# ------------------------------------------------------------------------------------ what is run


def test_one_suite(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(BOUNDARY) == 0
    folder = Path("runs/evaluate/random-tiny")
    record = read_evaluation(folder)
    assert record.model == "random-tiny"
    assert record.settings == {
        "dtype": "float32",
        "attention": "sdpa",
        "max_length": None,
        "plain_chat": False,
        "hide_pad": False,
        "template": asdict(Template()),
        "limit": 2,
    }
    suite = record.suites["boundary"]
    assert [row.group for row in suite.rows] == ["neighbor"] * 2 + ["general"] * 2
    assert suite.settings["max_new_tokens"] == 1
    assert [figure.name for figure in suite.figures][:1] == ["neighbor/refused"]
    out = capsys.readouterr().out
    for part in ("neighbor/refused", f"{folder}/metrics.json", f"{folder}/evaluation.html"):
        assert part in out
    assert "<html" in (folder / "evaluation.html").read_text("utf-8")
    assert (folder / "pictures" / "boundary.png").exists()
    assert not (folder / "start").exists()


def test_stored_outcomes_are_used_again(monkeypatch: pytest.MonkeyPatch, earlier: str) -> None:
    first = read_evaluation(Path(earlier))
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)  # nothing may be asked again
    assert main([*BOUNDARY, "--batch_size=1", "--output", earlier]) == 0
    again = read_evaluation(Path(earlier))
    assert again.suites["boundary"].rows == first.suites["boundary"].rows


def test_a_config_with_start_and_reference(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """All parts of the balance are measured, and undefined on a model that knows nothing."""
    draw_nothing(monkeypatch)
    suites = {"boundary": "Boundary", "attack": PREFILL, "depth": "Depth"}
    given = config(suites=suites, data_root=None)
    others = ["--start=random-tiny", "--reference=random-tiny", "--output=out"]
    assert main(["evaluate", "random-tiny", given, *SMALL, *others]) == 0
    assert "attack" in capsys.readouterr().out
    records = [read_evaluation(Path("out") / part) for part in ("", "start", "reference")]
    assert records[0].suites["attack"].rows == records[1].suites["attack"].rows
    assert records[0].suites["boundary"].rows == records[2].suites["boundary"].rows
    assert records[0].balance[0].name == "balance"
    html = Path("out/evaluation.html").read_text("utf-8")
    assert all(f"<h3>{name}</h3>" in html for name in ("start", "model", "reference"))


def test_earlier_evaluations_stand_for_models(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], earlier: str
) -> None:
    loaded: list[str] = []
    load = subjects.load_subject

    def recorded(path: str, *rest: Any, **named: Any) -> Subject:
        loaded.append(path)
        return load(path, *rest, **named)

    monkeypatch.setattr("lit_unlearn.evaluation.given_models.load_subject", recorded)
    assert main([*BOUNDARY, "--output=out", "--start", earlier, "--reference", earlier]) == 0
    assert loaded == ["random-tiny"]
    assert "No balanced score: there is no unattacked/recall" in capsys.readouterr().out


def tofu(folder: str, rows: int) -> str:
    """A data set of TOFU's layout, and a config for it."""
    for name in ("forget10", "retain", "real_authors", "world_facts"):
        lines = [
            json.dumps({"question": f"{name} {n}?", "answer": "A", "perturbed_answer": ["B", "C"]})
            for n in range(rows)
        ]
        Path(folder).mkdir(exist_ok=True)
        Path(folder, f"{name}_perturbed.json").write_text("\n".join(lines), "utf-8")
    settings = {"path": str(Path(folder).absolute()), "max_new_tokens": 1}
    return config(suites={"tofu": {"class_path": "Tofu", "init_args": settings}})


@pytest.fixture(scope="module")
def with_reference(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with rows, a config for them, and in `a` an evaluation beside a retain model."""
    folder = tmp_path_factory.mktemp("with_reference")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        draw_nothing(patch)
        given = ["evaluate", "random-tiny", tofu("data", 3), "--device=cpu"]
        assert main([*given, "--reference=random-tiny", "--output=a"]) == 0
    return folder


def test_forget_quality_against_a_model_and_against_its_folder(
    with_reference: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The retain model is compared with none; of one model with itself p is 1."""
    draw_nothing(monkeypatch)
    first = with_reference / "a"
    given = ["random-tiny", f"--config={with_reference / 'suites.yaml'}", "--device=cpu"]
    again = [f"--reference={first / 'reference'}", "--limit=2", "--output=b"]
    assert main(["evaluate", *given, *again]) == 0
    for folder, rows in ((first, 3), (Path("b"), 2)):
        figures = {f.name: f for f in read_evaluation(folder).suites["tofu"].figures}
        assert (figures["forget_quality"].value, figures["forget_quality"].count) == (1.0, rows)
    retain = read_evaluation(first / "reference").suites["tofu"]
    assert not [figure for figure in retain.figures if figure.name.startswith("forget_")]


def test_a_reference_is_refused_before_a_model_is_loaded(
    monkeypatch: pytest.MonkeyPatch, refused: Callable[..., str], with_reference: Path
) -> None:
    given = ["evaluate", "random-tiny", tofu("data", 4), "--device=cpu", "--output=b"]
    monkeypatch.setattr("lit_unlearn.evaluation.given_models.load_subject", None)
    assert "give `--reference RETAIN_MODEL`" in refused(*given)
    message = refused(*given, f"--reference={with_reference / 'a' / 'reference'}")
    assert "same 4 forget rows" in message
    assert "Found 3" in message


def test_an_earlier_start_of_other_settings_is_told(
    capsys: pytest.CaptureFixture[str], earlier: str
) -> None:
    args = [*BOUNDARY, "--output=out", "--start", earlier, "--suites.boundary.max_new_tokens=2"]
    assert main(args) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "Suite boundary has other settings in start than in model." in out


def test_suite_takes_the_settings_of_the_config() -> None:
    given = config(
        suites={"near": {"class_path": "Boundary", "init_args": {"general": []}}, "attack": PREFILL}
    )
    assert main(["evaluate", "random-tiny", given, "--suite", "near", "--limit=1"]) == 0
    (suite,) = read_evaluation(Path("runs/evaluate/random-tiny")).suites.values()
    assert (suite.suite, len(suite.rows)) == ("near", 1)


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("owner/name", "owner--name"),
        ("runs/tofu/model", "tofu--model"),
        ("/a/b/c", "b--c"),
        ("../x", "x"),
        ("random-tiny", "random-tiny"),
        ("..", "model"),
    ],
)
def test_folder_name(model: str, name: str) -> None:
    assert cli_evaluate.folder_name(model) == name


# ----------------------------------------------------------------------------------------- the help


def test_help_names_every_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    known = cli_suites.known_suites()
    assert known["boundary"] is Boundary
    for name, cls in known.items():
        assert f"\n  {name} " in text
        assert str(cls.__doc__).split("\n")[0] in text
    assert "--reference" in text


def test_help_of_one_suite(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["evaluate", "--suites.help", "Boundary"])
    assert stopped.value.code == 0
    assert "max_new_tokens" in capsys.readouterr().out


# ----------------------------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--suite", "boundry"], "--suite boundry: unknown suite; did you mean boundary?"),
        (["--suite=zzz"], "--suite zzz: unknown suite; the suites are "),
        (["--suite"], "--suite: expected a value after it"),
        (["--suite", "--limit=2"], "--suite: expected a value after it"),
        ([], "--suite: expected at least one suite, found none"),
        (["--config=none.yaml"], "--config none.yaml: no such file"),
        (
            ["--suite=membership"],
            "arguments are required: members, nonmembers",
        ),
        (["--suite=paraphrase"], "`column` and `rewritten` of the suite paraphrase"),
        (
            ["--suite=boundary", "--output=file/in/it"],
            "should be a folder. Found a file in its",
        ),
        (["--suite=boundary", "--suites.boundary.judge.path=./no"], "`judge.path` = './no'"),
        (["--suite=boundary", "--limit=0"], "`limit` should be at least 1. Found 0"),
        (["--suite=boundary", "--batch_size=0"], "`batch_size` should be at least 1. Found 0"),
        (["--suite=boundary", "--limitt=2"], "--limitt: unknown option; did you mean --limit?"),
        (["--suite=boundary", "--dtype=int8"], "--dtype: expected one of 'auto', 'float32'"),
        (
            ["--suite=boundary", "--suites.boundary.max_new_token=2"],
            "--suites.boundary.max_new_token: unknown",
        ),
        (["--suite=tofu", "--data_root=nowhere"], "nowhere"),
        (["--suite=boundary", "--device=abacus"], "device"),
        (["--suite=boundary", "--start=./nowhere"], "./nowhere"),
        (["--suite=boundary", "--reference=./nowhere"], "./nowhere"),
    ],
)
def test_mistakes(refused: Callable[..., str], args: list[str], message: str) -> None:
    Path("file").touch()
    assert message in refused("evaluate", "random-tiny", *args)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (
            {"suites": {"a": "Boundry"}},
            "suites.yaml:2: suites.a: unknown class Boundry; did you",
        ),
        ({"suites": {"a": "Boundary"}, "limt": 3}, "limt: unknown key; did you mean limit?"),
        (
            {"suites": {"a": {"class_path": "Boundary", "init_args": {"max_new_token": 2}}}},
            "suites.a.init_args.max_new_token: unknown name; did you mean max_new_tokens?",
        ),
        ({"suites": {}}, "expected at least one suite"),
    ],
)
def test_mistakes_in_a_config(
    refused: Callable[..., str], values: dict[str, object], message: str
) -> None:
    assert message in refused("evaluate", "random-tiny", config(**values))


def test_no_model(refused: Callable[..., str]) -> None:
    assert "model" in refused("evaluate", "--suite=boundary")


def test_a_model_that_is_not_there(refused: Callable[..., str], earlier: str) -> None:
    for model in ("./nowhere", earlier):
        message = refused("evaluate", model, "--suite=boundary")
        assert f"Parameter `model` = '{model}'" in message


def test_a_reference_without_the_rows(refused: Callable[..., str], earlier: str) -> None:
    given = config(suites={"attack": PREFILL})
    message = refused("evaluate", "random-tiny", given, "--reference", earlier, "--output=out")
    assert "`reference` = 'old' should hold rows of attack" in message


def test_a_reference_of_another_version(refused: Callable[..., str], earlier: str) -> None:
    content = json.loads(Path(earlier, METRICS).read_text("utf-8"))
    Path(earlier, METRICS).write_text(json.dumps({**content, "schema_version": 0}), "utf-8")
    message = refused(*BOUNDARY, "--reference", earlier, "--output=out")
    assert "expected schema_version 1, found 0" in message


def test_another_models_folder_is_not_overwritten(
    refused: Callable[..., str], earlier: str
) -> None:
    file = Path(earlier, METRICS)
    file.write_text(file.read_text("utf-8").replace('"random-tiny"', '"another"'), "utf-8")
    assert "Found an evaluation of another" in refused(*BOUNDARY, "--output", earlier)


@pytest.mark.parametrize("damaged", [METRICS, ROWS])
def test_files_that_are_gone_are_made_again_by_the_same_command(
    refused: Callable[..., str], earlier: str, damaged: str
) -> None:
    """Changed ones are refused, since the change may be the user's."""
    before = read_evaluation(Path(earlier))
    Path(earlier, damaged).write_text("{", "utf-8")
    message = refused(*BOUNDARY, "--output", earlier)
    assert f"Found {damaged}, which lit-unlearn did not write, or which was changed" in message
    Path(earlier, damaged).unlink()
    assert main([*BOUNDARY, "--output", earlier]) == 0
    after = read_evaluation(Path(earlier))
    assert after.suites["boundary"].rows == before.suites["boundary"].rows
