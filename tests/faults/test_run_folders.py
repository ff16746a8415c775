"""Files of the user stay as they are, whatever a run, a kill, an option or a flag does."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.callbacks.saved import STATE, UNFINISHED, read_saved, seal
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from tests.faults.owned_runs import config, fit, same, snapshot, written

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You requested to overfit",
    "ignore:Checkpoint directory",
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a config, and what its finished run left; tests copy it."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        assert fit(written(Path("mini.yaml"), config())) == 0
    return folder


@pytest.fixture
def here(finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of that folder, which is the working folder."""
    shutil.copytree(finished, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def error_of(capsys: pytest.CaptureFixture[str]) -> str:
    lines = [line for line in capsys.readouterr().err.splitlines() if "Seed set" not in line]
    found = [line for line in lines if "error:" in line]
    assert len(found) == 1, lines
    return found[0]


# ----------------------------------------------------------------------------------- whose is what


def test_a_run_has_a_folder_of_its_own(here: Path) -> None:
    assert sorted(path.name for path in here.iterdir()) == ["mini.yaml", "runs"]
    names = {path.name for path in (here / "runs" / "mini").iterdir()}
    assert names == {".lit_unlearn.json", ".lock", "config.yaml", "model", "preparation.json"}
    saved = yaml.safe_load((here / "runs/mini/config.yaml").read_text("utf-8"))
    assert saved["trainer"]["default_root_dir"] == "runs/mini"


def slow(*values: object) -> list[object]:
    """Return further cases of one kind, for which there is no time on every change."""
    return [
        pytest.param(*(v if isinstance(v, tuple) else (v,)), marks=pytest.mark.slow) for v in values
    ]


@pytest.mark.parametrize("folder", [".", *slow("model", "model/run/", "link/run", "$PWD_OF_TEST")])
def test_the_start_model_is_safe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], folder: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PWD_OF_TEST", str(tmp_path))
    Path("model").mkdir()
    save_folder(tiny_model(), tiny_tokenizer(), Path("model"))
    Path("model/NOTES.txt").write_text("mine", "utf-8")
    Path("link").symlink_to("model")
    file = written(Path("mini.yaml"), config())
    before = snapshot(tmp_path)
    options = ("--model.student.path=model", f"--trainer.default_root_dir={folder}")
    assert fit(file, *options) == 2
    said = error_of(capsys)
    assert "should hold nothing" in said
    assert "--trainer.default_root_dir" in said
    assert snapshot(tmp_path) == before


def test_files_of_the_user_are_named(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = here / "mine"
    run.mkdir()
    (run / "model").mkdir()
    for name in ("model/net.py", "config.yaml", "report.html", "summary.json"):
        (run / name).write_text("mine", "utf-8")
    before = snapshot(here)
    answers = ("--trainer.callbacks+=AnswerEvaluation", "--trainer.default_root_dir=mine")
    assert fit(Path("mini.yaml"), *answers) == 2
    assert "Found model, summary.json, report.html and 1 more, which lit-un" in error_of(capsys)
    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("name", "changed"),
    [("model/NOTES.txt", "mine"), *slow(("config.yaml", "lr: 1"), ("model", "mine"))],
)
def test_what_was_changed_since_is_not_replaced(
    here: Path, capsys: pytest.CaptureFixture[str], name: str, changed: str
) -> None:
    run = here / "runs" / "mini"
    if name == "model":
        shutil.rmtree(run / "model")
    (run / name).write_text(changed, "utf-8")
    before = snapshot(here)
    assert fit(Path("mini.yaml")) == 2
    assert f"Found {name.split('/')[0]}, which" in error_of(capsys) or name == "model"
    assert snapshot(here) == before


def test_the_config_that_a_run_reads_is_not_replaced(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = Path("runs/mini/config.yaml")
    before = snapshot(here)
    assert fit(saved, "--trainer.max_steps=2") == 2
    assert "Found runs/mini/config.yaml, which it reads" in error_of(capsys)
    assert snapshot(here) == before


@pytest.mark.slow
def test_the_config_of_a_run_runs_again(here: Path) -> None:
    saved = Path("runs/mini/config.yaml")
    before = snapshot(here)
    shutil.copy("mini.yaml", "config.yaml")
    assert fit(Path("config.yaml"), "--trainer.default_root_dir=.") == 2
    Path("config.yaml").unlink()
    assert snapshot(here) == before
    assert fit(saved) == 0
    assert snapshot(here) == before


@pytest.mark.parametrize(
    ("option", "words"),
    slow(
        ("runs/mini/config.yaml", "Found a file in its place"),
        ("$NOT_SET_HERE/x", "Found $NOT_SET_HERE without a value"),
        ("s3://bucket/x", "Found an address"),
    ),
)
def test_folders_that_cannot_be(
    here: Path, capsys: pytest.CaptureFixture[str], option: str, words: str
) -> None:
    before = snapshot(here)
    assert fit(Path("mini.yaml"), f"--trainer.default_root_dir={option}") == 2
    assert words in error_of(capsys)
    assert snapshot(here) == before


FOREIGN = {
    "evaluate": ("metrics.json", ["random-tiny", "--suite=boundary", "--output=out"]),
    "evaluate page": ("evaluation.html", ["random-tiny", "--suite=boundary", "--output=out"]),
    "compare": ("compare.json", ["a", "b", "--output=out"]),
    "compare page": ("compare.html", ["a", "b", "--output=out"]),
    "rewrite": (
        "forget.jsonl",
        ["--backend=Rules", "--forget=[{path: builtin:passages, domain: passage}]", "--output=out"],
    ),
    "sweep": ("sweep.csv", ["--config=mini.yaml", "--sweep.seed_everything=0,1", "--output=out"]),
    "sweep run": (
        "seed_everything=1/summary.json",
        ["--config=mini.yaml", "--sweep.seed_everything=0,1", "--output=out"],
    ),
    "interference": ("interference.json", ["--config=mini.yaml", "--output=out"]),
    "task-vector": ("model.safetensors", ["random-tiny", "--reinforced=a/b", "--output=out"]),
    "consolidate": ("whole.ckpt", ["slices", "out/whole.ckpt"]),
    "plan": ("plan.json", ["--config=mini.yaml", "--output=out/plan.json"]),
}


@pytest.mark.parametrize("case", FOREIGN)
def test_no_command_replaces_a_file_of_the_user(
    here: Path, capsys: pytest.CaptureFixture[str], case: str
) -> None:
    name, arguments = FOREIGN[case]
    file = here / "out" / name
    file.parent.mkdir(parents=True)
    file.write_text("mine", "utf-8")
    (here / "slices").mkdir()
    (here / "slices" / "meta.pt").touch()
    before = snapshot(here)
    assert main([case.split()[0], *arguments]) == 2
    said = error_of(capsys)
    assert "out" in said
    assert "lit-unlearn did not write" in said or "new or empty folder" in said
    assert snapshot(here) == before


def test_an_evaluation_does_not_write_into_its_model(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(here)
    command = ["evaluate", "runs/mini/model", "--suite=boundary", "--output=runs/mini/model/found"]
    assert main(command) == 2
    assert "Found runs/mini/model, which it reads" in error_of(capsys)
    assert snapshot(here) == before


# ----------------------------------------------------------------------------------- kills, flags


def test_a_killed_run_goes_on(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the home, with `last`, in a moved folder, and with settings that change no result."""
    monkeypatch.setenv("HOME", str(here / "home"))
    there = "--trainer.default_root_dir=~/x"
    assert fit(Path("mini.yaml"), there, dies=2) is None
    kept = here / "home" / "x" / UNFINISHED / "step_1"
    assert read_saved(kept) is not None
    assert not (here / "~").exists()
    shutil.copytree(here / "home" / "x", here / "moved")
    capsys.readouterr()
    options = ["--trainer.default_root_dir=moved/", "--ckpt_path=last"]
    assert fit(Path("mini.yaml"), *options, "--data.micro_batch_rows=4") == 0
    assert same(here / "moved", here / "runs" / "mini")
    assert not (here / "moved" / UNFINISHED).exists()
    assert "--ckpt_path last is moved/unfinished/step_1/state.ckpt" in capsys.readouterr().err


# behind other tests, typing can give `int | float` in another order, and 1 is then read as 1.0: all
@pytest.mark.parametrize("flag", ["fast_dev_run=true", *slow("limit_train_batches=1")])
def test_a_debug_flag_replaces_and_deletes_nothing(
    here: Path, capsys: pytest.CaptureFixture[str], flag: str
) -> None:
    """Neither the results of a finished run nor the checkpoints of an unfinished one."""
    unmatched(here / "runs" / "mini")
    before = snapshot(here)
    assert fit(Path("mini.yaml"), f"--trainer.{flag}") == 0
    assert f"Debug run (trainer.{flag.split('=')[0]}): nothing" in capsys.readouterr().err
    assert snapshot(here) == before


def unmatched(root: Path) -> Path:
    """Write a checkpoint of other settings."""
    part = root / UNFINISHED / ".part_1"
    part.mkdir(parents=True)
    (part / STATE).write_text("weights", "utf-8")
    return seal(part, 1, "other settings", None).folder


def test_a_checkpoint_of_other_settings_is_moved_aside(
    here: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run = here / "runs" / "mini"
    unmatched(run)
    (run / f"{UNFINISHED}.1").mkdir()
    assert fit(Path("mini.yaml"), dies=1) is None
    assert (run / f"{UNFINISHED}.2" / "step_1" / STATE).read_text("utf-8") == "weights"
    assert "were moved to runs/mini/unfinished.2; to go on from them" in caplog.text


@pytest.mark.slow
def test_the_command_to_which_a_checkpoint_belongs_finds_it(
    here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = here / "runs" / "mini"
    shutil.copytree(run, here / "whole")
    assert fit(Path("mini.yaml"), dies=2) is None
    assert fit(Path("mini.yaml"), "--seed_everything=1", dies=2) is None
    capsys.readouterr()
    assert fit(Path("mini.yaml")) == 0
    assert "Resuming after step 1 of 3, from runs/mini/unfinished.1" in capsys.readouterr().err
    assert same(run, here / "whole")
    assert not (run / f"{UNFINISHED}.1").exists()
    (left,) = run.glob(f"{UNFINISHED}*")
    assert [place.name for place in left.iterdir()] == ["step_1"]


@pytest.mark.parametrize("ways", [["last"], *slow(["last.ckpt", "best", "runs/mini"])])
def test_a_finished_run_is_extended(
    here: Path, capsys: pytest.CaptureFixture[str], ways: list[str]
) -> None:
    """The result is that of a run that had the larger number of steps from the start."""
    saving = [
        "--trainer.callbacks+=ModelCheckpoint",
        "--trainer.callbacks.save_last=true",
        "--trainer.enable_checkpointing=true",
    ]
    file = Path("mini.yaml")
    assert fit(file, *saving) == 0
    for steps, way in enumerate(ways, start=4):
        given = f"runs/mini/checkpoints/{way}" if way == "last.ckpt" else way
        assert fit(file, *saving, f"--ckpt_path={given}", f"--trainer.max_steps={steps}") == 0
        assert "max_epochs" not in capsys.readouterr().err
    whole = "--trainer.default_root_dir=runs/whole"
    assert fit(file, f"--trainer.max_steps={3 + len(ways)}", whole) == 0
    assert same(here / "runs" / "mini", here / "runs" / "whole")
    saved = yaml.safe_load(Path("runs/mini/config.yaml").read_text("utf-8"))
    assert saved["ckpt_path"] is None


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("runs/mini/model", "Found none in this folder"),
        *slow(("best", "Found none in runs/mini"), ("none.ckpt", "no such file or folder")),
    ],
)
def test_checkpoints_that_are_not_there(
    here: Path, capsys: pytest.CaptureFixture[str], given: str, words: str
) -> None:
    assert fit(Path("mini.yaml"), f"--ckpt_path={given}") == 2
    assert words in error_of(capsys)
