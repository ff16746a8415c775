"""The command line: dispatch, help, and one line for every mistake; with small stand-in classes."""

import json
import logging
import os
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
import yaml
from lightning.pytorch import LightningDataModule, LightningModule
from lightning.pytorch.cli import OptimizerCallable
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lit_unlearn import __main__ as dispatcher
from lit_unlearn.cli import fit as cli
from lit_unlearn.cli.parsing import make_parser, parse
from lit_unlearn.errors import InputError


class StandInLoss(nn.Module):
    def __init__(self, weight: float = 1.0) -> None:
        super().__init__()
        self.weight = weight


class StandInDistillation(StandInLoss):
    def __init__(
        self, temperature: float = 1.0, mode: Literal["pull", "push"] = "pull", **kwargs: float
    ) -> None:
        super().__init__(**kwargs)
        self.temperature, self.mode = temperature, mode


class StandInPart(ABC):
    @abstractmethod
    def act(self) -> None: ...


class StandInFirst(StandInPart):
    def __init__(self, size: int = 1) -> None:
        if size < 1:
            raise InputError(f"Parameter `size` should be at least 1. Found {size}.")

    def act(self) -> None: ...


@dataclass
class StandInRows:
    source: str
    rows: int = 3


SEEN: dict[str, Any] = {}


class StandInModule(LightningModule):
    def __init__(
        self,
        objectives: dict[str, StandInLoss],
        optimizer: OptimizerCallable = torch.optim.SGD,
        steps: int = 3,
        parts: dict[str, StandInPart] | None = None,
    ) -> None:
        super().__init__()
        SEEN["objectives"], SEEN["steps"], SEEN["parts"] = objectives, steps, parts
        self.layer = nn.Linear(1, 1)
        self.optimizer = optimizer

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        loss: Tensor = self.layer(batch).square().mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return self.optimizer(self.parameters())


class StandInData(LightningDataModule):
    def __init__(self, objectives: dict[str, StandInRows], seed: int = 5) -> None:
        super().__init__()
        SEEN["data"], SEEN["seed"] = objectives, seed

    def train_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(list(torch.ones(4, 1)))


CONFIG = """\
trainer:
  accelerator: cpu
  max_steps: 1
  logger: false
  enable_checkpointing: false
  enable_progress_bar: false
  enable_model_summary: false
model:
  objectives:
    forget:
      class_path: StandInDistillation
      init_args:
        temperature: 2.0
    retain: StandInLoss
  optimizer:
    class_path: SGD
    init_args:
      lr: 1e-2
  parts:
    first: StandInFirst
data:
  objectives:
    forget:
      source: here
"""


@pytest.fixture
def fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Run ``fit`` in an empty folder with the given further config files and arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["lit-unlearn"])
    monkeypatch.setattr(cli, "check_run", lambda *_: None)  # the stand-ins have no objectives
    Path("base.yaml").write_text(CONFIG)
    SEEN.clear()

    def run(*args: str, stage: str = "fit", **files: str) -> None:
        for name, text in files.items():
            Path(f"{name}.yaml").write_text(text)
        configs = [part for name in ["base", *files] for part in ("--config", f"{name}.yaml")]
        cli.run(StandInModule, StandInData, [stage, *configs, *args], cli.UnlearnCLI)

    return run


def refused(fit: Callable[..., None], *args: str, **files: str) -> str:
    """The message of a refused run: one line, no dump."""
    with pytest.raises(InputError) as caught:
        fit(*args, **files)
    message = str(caught.value)
    assert "\n" not in message
    assert "Subtypes" not in message
    return message


# ----------------------------------------------------------------------------------- what is run


@pytest.mark.parametrize("option", ["--print_config", "--print_config=skip_unset"])
def test_a_printed_config_is_no_run(
    option: str, fit: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the merged one, and nothing is built or written."""
    for _ in range(2):  # the parser is kept between runs of a process
        with pytest.raises(SystemExit) as stopped:
            fit(option, "--model.steps=7", more="trainer: {max_steps: 2}")
        assert stopped.value.code == 0
        printed = yaml.safe_load(capsys.readouterr().out)
        assert printed["trainer"]["max_steps"] == 2
        assert printed["model"]["steps"] == 7
        assert printed["model"]["objectives"]["retain"]["class_path"].endswith("StandInLoss")
    assert not SEEN
    assert not Path("runs").exists()
    fit()
    assert SEEN["steps"] == 3


def test_a_config_runs(fit: Callable[..., None]) -> None:
    fit()
    assert SEEN["objectives"]["forget"].temperature == 2.0
    assert set(SEEN["objectives"]) == {"forget", "retain"}
    assert SEEN["seed"] == 0


def test_a_second_config_is_merged_key_by_key(fit: Callable[..., None]) -> None:
    """The parser alone would have dropped ``retain`` and the class of ``forget``."""
    fit(more="model: {objectives: {forget: {init_args: {mode: push}}}}")
    forget = SEEN["objectives"]["forget"]
    assert (forget.temperature, forget.mode) == (2.0, "push")
    assert set(SEEN["objectives"]) == {"forget", "retain"}


def test_null_removes_an_objective(fit: Callable[..., None]) -> None:
    fit(more="model: {objectives: {forget: null}}")
    assert set(SEEN["objectives"]) == {"retain"}


@pytest.mark.parametrize("arg", [["--model.parts=null"], ["--model.parts", "null"]])
def test_null_on_the_command_line_removes_too(fit: Callable[..., None], arg: list[str]) -> None:
    fit("--model.objectives.forget=null", *arg, "--model.steps=4")
    assert set(SEEN["objectives"]) == {"retain"}
    assert SEEN["parts"] is None
    assert SEEN["steps"] == 4


def test_the_command_line_wins_wherever_it_stands(fit: Callable[..., None]) -> None:
    files = ["--config", "base.yaml"]
    override = ["--model.objectives.forget.temperature=9", "--data.objectives.forget.rows", "7"]
    for args in ([*files, *override], [*override, *files]):
        cli.run(StandInModule, StandInData, ["fit", *args], cli.UnlearnCLI)
        assert SEEN["objectives"]["forget"].temperature == 9.0
        assert SEEN["data"]["forget"] == StandInRows("here", 7)


def test_runs_of_a_process_share_the_parser_and_no_setting(
    fit: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fit("--model.objectives.forget.temperature=9", "--model.steps=4")
    steps = SEEN["steps"]
    monkeypatch.setattr(cli.UnlearnCLI, "init_parser", None)
    fit()
    assert (steps, SEEN["objectives"]["forget"].temperature) == (4, 2.0)
    assert SEEN["steps"] == 3


@pytest.mark.parametrize(("given", "seed"), [("3", 3), ("true", 0)])
def test_the_seed_reaches_the_data(fit: Callable[..., None], given: str, seed: int) -> None:
    fit(f"--seed_everything={given}")
    assert SEEN["seed"] == seed


def test_default_logger_and_saved_config(fit: Callable[..., None]) -> None:
    """Under default_root_dir, without the invented ``hp_metric``, and the config runs again."""
    timer = "--trainer.callbacks+=Timer"  # it has a default that YAML cannot represent
    fit("--trainer.logger=true", "--trainer.default_root_dir=runs/a", "--model.steps=4", timer)
    folder = Path("runs/a/lightning_logs/version_0")
    assert list(folder.glob("events.out.tfevents.*"))
    saved = yaml.safe_load(Path("runs/a/config.yaml").read_text())
    assert saved["model"]["steps"] == 4
    assert "seed" not in saved["data"]
    assert saved["trainer"]["logger"] is True
    cli.run(StandInModule, StandInData, ["fit", "--config", "runs/a/config.yaml"], cli.UnlearnCLI)
    assert SEEN["steps"] == 4
    hparams = folder / "hparams.yaml"
    assert "hp_metric" not in (hparams.read_text() if hparams.exists() else "")


LOGGER = "{class_path: CSVLogger, init_args: {save_dir: mine, name: '', version: ''}}"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("metrics.csv", [f"--trainer.logger={LOGGER}"]),
        ("fit-a*.txt", ["--trainer.profiler={class_path: SimpleProfiler, init_args: {GIVEN}}"]),
        (
            "a.ckpt",
            ["--trainer.callbacks+={class_path: OnExceptionCheckpoint, init_args: {GIVEN}}"],
        ),
        (
            "*.ckpt",
            [
                "--trainer.callbacks+={class_path: ModelCheckpoint, init_args: {GIVEN, "
                "enable_version_counter: false}}"
            ],
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:Experiment logs directory", "ignore:Checkpoint directory")
def test_lightning_replaces_no_file_of_the_user(
    fit: Callable[..., None], name: str, options: list[str]
) -> None:
    """Where names are set, it would replace or delete them, and may do so with its own."""
    file = Path("mine", name.replace("a*", "a").replace("*", "a"))
    file.parent.mkdir()
    file.write_text("mine")
    options = [each.replace("GIVEN", "dirpath: mine, filename: a") for each in options]
    options.append("--trainer.enable_checkpointing=true")
    assert f"mine/{name}, which" in refused(fit, *options, "--trainer.default_root_dir=.")
    assert file.read_text() == "mine"
    file.unlink()
    if name == "metrics.csv":  # one for all: a run may replace the file of the run before
        fit(*options)
        file.write_text("of the first run")
        fit(*options)
        assert not file.exists()


def test_lines_that_nobody_needs(
    fit: Callable[..., None], caplog: pytest.LogCaptureFixture
) -> None:
    """Lightning's advertisements and repetitions of the config are dropped, other lines are not."""
    logger = logging.getLogger("lightning.pytorch")
    logger.addHandler(caplog.handler)
    fit()
    logging.getLogger("lightning.pytorch.utilities.rank_zero").warning("Another line")
    logger.removeHandler(caplog.handler)
    assert "Another line" in caplog.text
    for dropped in ("Tip:", "GPU available", "max_steps=1"):
        assert dropped not in caplog.text


# ------------------------------------------------------------------- mistakes on the command line


@pytest.mark.parametrize(
    ("arg", "words"),
    [
        ("--trainer.max_stepz=3", ("--trainer.max_stepz", "did you mean --trainer.max_steps?")),
        ("--trainer.max_step=3", ("--trainer.max_step:", "did you mean --trainer.max_steps?")),
        ("--modle.steps=3", ("--modle: unknown", "did you mean --model?")),
        ("--model.stepz=3", ("--model.stepz: unknown", "did you mean --model.steps?")),
        (
            "--model.objectives.forget.temprature=3",
            ("--model.objectives.forget.temprature: unknown", "did you mean temperature?"),
        ),
        (
            "--model.objectives.forget.init_args.temprature=3",
            ("--model.objectives.forget.init_args.temprature", "did you mean temperature?"),
        ),
        ("--model.objectives.forget.wieght=3", ("forget.wieght", "did you mean weight?")),
        (
            "--model.objectives.retain.temperature=3",
            ("--model.objectives.retain.temperature: unknown", "known here: weight"),
        ),
        (
            "--model.objectives.extra=StandInDistilation",
            (
                "--model.objectives.extra: unknown class StandInDistilation",
                "did you mean StandInDistillation?",
            ),
        ),
        ("--model.optimizer=AdamWW", ("--model.optimizer: unknown class", "did you mean AdamW?")),
        ("--model.optimizer.lrr=0.1", ("--model.optimizer.lrr: unknown", "did you mean lr?")),
        ("--data.objectives.forget.rowz=3", ("forget.rowz: unknown", "did you mean rows?")),
        (
            "--trainer.callbacks+=EarlyStoppin",
            ("--trainer.callbacks", "unknown class EarlyStoppin", "did you mean EarlyStopping?"),
        ),
        ("--trainer.max_steps=many", ("--trainer.max_steps: expected int, found many",)),
        (
            "--model.objectives.forget.mode=pul",
            ("--model.objectives.forget.mode: expected one of 'pull', 'push', found pul",),
        ),
        ("word", ("unrecognized arguments: word",)),
        ("my.yaml", ("my.yaml; did you mean --config my.yaml?",)),
        (
            "--data.objectives.forgte.rows=3",
            ("--data.objectives.forgte", "required: source", "did you mean forget?"),
        ),
        ("--trainer=3", ("--trainer: expected keys such as accelerator, ", "found 3; see --help")),
        (
            "--model.objectives.more=[]",
            ("objectives.more: expected {class_path: NAME}", "found []"),
        ),
        ("--model=none.yaml", ("--model: no such file none.yaml",)),
        (
            "--trainer.callbacks+={class_path: EarlyStopping, init_args: {patience: a}}",
            ("--trainer.callbacks.0.init_args.patience: expected int, found a",),
        ),
        ("--model=[]", ("--model: expected keys such as objectives, ", "found []")),
        ("--seed_everything=-1", ("`seed_everything` should be at least 0", "Found -1")),
        ("--print_config=all", ("--print_config: expected =skip_default or", "found all")),
        ("skip_default", ("skip_default; did you mean --print_config=skip_default?",)),
        (
            "--data.objectives.more={rows: 3}",
            ("--data.objectives.more: the following arguments are required: source",),
        ),
        (
            "--data.objectives={more: {source: a, rowz: 3}}",
            ("--data.objectives.more.rowz: unknown name", "did you mean rows?"),
        ),
        (
            "--model.parts.frst.size=3",
            ("--model.parts.frst", "class_path is missing", "did you mean first?"),
        ),
    ],
)
def test_mistyped_option(fit: Callable[..., None], arg: str, words: tuple[str, ...]) -> None:
    message = refused(fit, arg)
    assert all(word in message for word in words), message


def test_option_and_value_apart(fit: Callable[..., None]) -> None:
    assert "did you mean --model.steps?" in refused(fit, "--model.stepz", "3")


def test_option_of_the_last_list_item(fit: Callable[..., None]) -> None:
    message = refused(
        fit, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitr=val/loss"
    )
    assert message.startswith("--trainer.callbacks.monitr: unknown")
    assert "did you mean monitor?" in message


def test_wrong_value_of_the_last_list_item(fit: Callable[..., None]) -> None:
    """The base class of callbacks does not have the option at all."""
    message = refused(fit, "--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.patience=abc")
    assert message == "--trainer.callbacks.patience: expected int, found abc"


def test_classes_that_cannot_be_imported(fit: Callable[..., None]) -> None:
    Path("needy.py").write_text("import no_such_package")
    Path("broken.py").write_text("def (:")
    for name, words in {
        "TensorboardLogger": "did you mean TensorBoardLogger?",
        "needy.Logger": "needy.Logger needs a package that is missing, no_such_package",
        "broken.Logger": "invalid syntax (broken.py, line 1)",
    }.items():
        sys.path.insert(0, "")
        message = refused(fit, f"--trainer.logger={name}")
        sys.path.remove("")
        assert message.startswith("--trainer.logger: ")
        assert message.endswith(words)


def test_a_text_in_place_of_keys_and_values() -> None:
    parser = make_parser("fit")
    parser.add_argument("--rows", type=list[StandInRows])
    with pytest.raises(InputError, match=r"^--rows\.0: expected keys and values .*found a\.jsonl$"):
        parse(parser, ["--rows", "[a.jsonl]"])


# ------------------------------------------------------------------------------ mistakes in files


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("modle:\n  steps: 3\n", ("more.yaml:1: modle: unknown key", "did you mean model?")),
        (
            "trainer:\n  callbacks:\n  - {class_path: EarlyStopping}\n  - 3\n",
            ("more.yaml:2: trainer.callbacks.1: expected {class_path: NAME}", "found 3"),
        ),
        ("\ntrainer: 3\n", ("more.yaml:2: trainer: expected keys such as", "found 3")),
        (
            "trainer:\n  max_stepz: 3\n",
            ("more.yaml:2: trainer.max_stepz: unknown key", "did you mean max_steps?"),
        ),
        (
            "model:\n  objectives:\n    forget:\n      init_args:\n        temprature: 3\n",
            (
                "more.yaml:5: model.objectives.forget.init_args.temprature: unknown",
                "did you mean temperature?",
            ),
        ),
        (
            "model:\n  objectives:\n    forget:\n      temperature: 3\n",
            (
                "more.yaml:4: model.objectives.forget.temperature: unknown key",
                "arguments of StandInDistillation belong under init_args",
            ),
        ),
        (
            "model:\n  objectives:\n    retain:\n      init_args:\n        temperature: 3\n",
            ("more.yaml:5: model.objectives.retain.init_args.temperature", "known here: weight"),
        ),
        (
            "model:\n  objectives:\n    more:\n      class_path: StandInDistilation\n",
            (
                "more.yaml:4: model.objectives.more.class_path: unknown class StandInDistilation",
                "did you mean StandInDistillation?",
            ),
        ),
        (
            "model:\n  objectives:\n    more: StandInLos\n",
            ("more.yaml:3: model.objectives.more: unknown class StandInLos", "StandInLoss?"),
        ),
        (
            "model:\n  objectives:\n    more:\n      class_path: nowhere.StandInLoss\n",
            ("more.yaml:4: model.objectives.more.class_path: unknown class nowhere.StandInLoss",),
        ),
        ("data:\n  objectives:\n    forget:\n      rowz: 3\n", ("more.yaml:4:", "mean rows?")),
        (
            "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {monitr: a}\n",
            ("more.yaml:4: trainer.callbacks.0.init_args.monitr", "did you mean monitor?"),
        ),
        ("trainer:\n\n  max_steps: many\n", ("more.yaml:3: trainer.max_steps: expected int",)),
        (
            "model:\n  objectives:\n    forget:\n      init_args:\n        temperature: warm\n",
            ("more.yaml:5: model.objectives.forget.init_args.temperature", "float, found warm"),
        ),
        ("model:\n  steps: 1e-5\n", ("more.yaml:2: model.steps: expected int, found 1e-05",)),
        (
            "data:\n  objectives:\n    new: {rows: 3}\n",
            ("more.yaml:3: data.objectives.new", "required: source"),
        ),
        ("modle: {}\n", ("more.yaml:1: modle: unknown key", "did you mean model?")),
        ("trainer:\n  max_stepz: {}\n", ("more.yaml:2: trainer.max_stepz: unknown key",)),
        ("trainer:\n  max_stepz: null\n", ("more.yaml:2: trainer.max_stepz: unknown key",)),
        (
            "model:\n  parts:\n    frst: {size: 3}\n",
            ("more.yaml:3: model.parts.frst", "class_path is missing", "did you mean first?"),
        ),
        (
            "model:\n  optimizer:\n    init_args:\n      lr: fast\n",
            ("more.yaml:4: model.optimizer.init_args.lr: expected float, found fast",),
        ),
        (
            "model:\n  optimizer: torch.optim.SGDD\n",
            ("more.yaml:2: model.optimizer: unknown class torch.optim.SGDD; did you mean SGD?",),
        ),
        ("seed_everythin: 3\n", ("more.yaml:1: seed_everythin", "did you mean seed_everything?")),
    ],
)
def test_mistyped_key(fit: Callable[..., None], text: str, words: tuple[str, ...]) -> None:
    message = refused(fit, more=text)
    assert all(word in message for word in words), message


def test_the_file_with_the_mistake_is_named(fit: Callable[..., None]) -> None:
    message = refused(fit, wrong="model: {stepz: 3}", right="model: {steps: 3}")
    assert message.startswith("wrong.yaml:1: model.stepz: unknown key")


def test_an_override_in_place_of_a_bad_value(fit: Callable[..., None]) -> None:
    message = refused(fit, "--model.steps=x", more="model: {steps: 3}")
    assert message.startswith("--model.steps: expected int")


def test_missing_part(fit: Callable[..., None]) -> None:
    message = refused(fit, more="data: null")
    assert message == "the following arguments are required: data.objectives"


def test_missing_config(fit: Callable[..., None]) -> None:
    assert "did you mean base.yaml?" in refused(fit, "--config", "bse.yaml")


def test_missing_checkpoint(fit: Callable[..., None]) -> None:
    assert refused(fit, "--ckpt_path=none.ckpt") == "--ckpt_path none.ckpt: no such file or folder"


# ------------------------------------------------------------------ what Lightning itself refuses


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (
            ["--trainer.strategy=ddpp"],
            "--trainer.strategy: unknown strategy ddpp; did you mean ddp?",
        ),
        (["--trainer.strategy=zzz"], "unknown strategy zzz; known: auto, "),
        (["--trainer.precision=17"], "--trainer.precision: expected one of 64, 32, 16; or"),
        (["--trainer.precision=17"], "found 17"),
        (["--trainer.callbacks+=ModelCheckpoint"], "ModelCheckpoint"),
        (["--trainer.callbacks+=LearningRateMonitor"], "LearningRateMonitor"),
        (["--trainer.accelerator=cpuu"], "cpuu"),
    ],
)
def test_trainer_refuses(fit: Callable[..., None], args: list[str], message: str) -> None:
    assert message in refused(fit, *args)


# ----------------------------------------------------------------------------------- dispatching


def outcome(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lit_unlearn", *args],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[3],
    )


def test_help_names_every_command() -> None:
    result = outcome("--help")
    assert result.returncode == 0
    assert all(name in result.stdout for name in dispatcher.COMMANDS)


def test_nothing_heavy_is_imported_before_a_command_is_known() -> None:
    code = (
        "import sys, lit_unlearn.__main__ as m; m.main(['--help']); m.main(['fitt']);"
        "print([n for n in ('torch', 'lightning', 'jsonargparse', 'yaml') if n in sys.modules])"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.splitlines()[-1] == "[]"


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatcher.main(["--version"]) == 0
    assert capsys.readouterr().out.startswith("lit-unlearn 0.")


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["fitt"], "unknown command fitt; did you mean fit?"),
        (["zzzz"], "unknown command zzzz; the commands are fit, "),
        (["--config", "x"], "unknown option --config; the commands are"),
    ],
)
def test_unknown_command(capsys: pytest.CaptureFixture[str], args: list[str], message: str) -> None:
    assert dispatcher.main(args) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"lit-unlearn: error: {message}")
    assert error.count("\n") == 1


def test_without_a_command_the_help_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert dispatcher.main([]) == 2
    assert "usage:" in capsys.readouterr().out


def test_what_a_class_refuses_is_said_in_its_own_words(
    fit: Callable[..., None], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The parser wraps it, where the parameter may also be null."""
    monkeypatch.setattr(cli, "main", lambda args: fit("--model.parts.first.size=0"))
    assert dispatcher.main(["fit"]) == 2
    message = "lit-unlearn: error: Parameter `size` should be at least 1. Found 0.\n"
    assert capsys.readouterr().err.endswith(message)


def interrupted_like_lightning(args: list[str]) -> None:
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt:
        sys.exit(1)


@pytest.mark.parametrize(
    ("raised", "status"), [(InputError("this: that"), 2), (KeyboardInterrupt(), 130)]
)
def test_exit_status(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    raised: BaseException,
    status: int,
) -> None:
    def fail(args: list[str]) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", fail)
    assert dispatcher.main(["fit"]) == status
    expected = "error: this: that\n" if status == 2 else "interrupted\n"
    assert capsys.readouterr().err.lstrip("\n") == f"lit-unlearn: {expected}"


def test_interrupted_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", interrupted_like_lightning)
    assert dispatcher.main(["fit"]) == 130


def test_an_exit_status_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda args: sys.exit(3))
    with pytest.raises(SystemExit):
        dispatcher.main(["fit"])


def test_every_command_takes_its_name_first(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[str] = []
    monkeypatch.setattr(cli, "main", seen.extend)
    dispatcher.main(["fit", "--config", "a.yaml"])
    assert json.dumps(seen) == '["fit", "--config", "a.yaml"]'


def test_ones_own_classes_are_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the working directory, as under ``python -m``; a console script has its own folder."""
    (tmp_path / "mine_alone.py").write_text("def run(args): print('found', *args)\n")
    command = dispatcher.Command("", "mine_alone:run")
    monkeypatch.setitem(dispatcher.COMMANDS, "mine", command)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p not in ("", str(Path.cwd()))])
    monkeypatch.setattr(sys, "argv", ["lit-unlearn", "mine"])
    monkeypatch.chdir(tmp_path)
    assert dispatcher.main() == 0
    assert capsys.readouterr().out == "found mine\n"


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_has_gone(unbuffered: str) -> None:
    """As behind ``| head -1``: no traceback, wherever it is noticed."""
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "lit_unlearn", "--help"]
    result = subprocess.run(
        command,
        stdout=writing,
        stderr=subprocess.PIPE,
        text=True,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writing)
    assert (result.returncode, result.stderr) == (1, "")


def test_other_broken_pipes_are_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(args: list[str]) -> None:
        raise BrokenPipeError

    monkeypatch.setattr(cli, "main", fail)
    with pytest.raises(BrokenPipeError):
        dispatcher.main(["fit"])
