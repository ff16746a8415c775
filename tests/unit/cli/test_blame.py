"""A check's message and a library's error name the option, or the file and line, to blame."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_unlearn.cli.blame import blame
from lit_unlearn.cli.config import Config, read_config
from lit_unlearn.errors import InputError
from tests.unit.cli.test_failures import wrapped

TEXT = """\
trainer:
  logger: WandbLogger
  callbacks:
  - class_path: EarlyStopping
    init_args:
      monitor: loss/retian
model:
  objectives:
    forget: GradientAscent
data: {objectives: {forget: {sources: [{path: q.jsonl}]}}}
"""


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Config:
    monkeypatch.chdir(tmp_path)
    Path("a.yaml").write_text(TEXT)
    return read_config(Path("a.yaml"))


@pytest.mark.parametrize(
    ("message", "args", "place"),
    [
        ("`model.objectives.forget` has no data.", [], "a.yaml:9: "),
        ("`model.objectives.forget` is bad.", ["--model.objectives.forget=NPO"], "--model.object"),
        ("Parameter `trainer.callbacks`: monitor. Found 'loss/retian'; no.", [], "a.yaml:6: "),
        ("Parameter `trainer.callbacks` should not have one.", [], "a.yaml:3: "),
        ("Parameter `trainer.max_steps` should be 1.", ["--trainer.max_steps", "0"], "--trainer"),
        ("Parameter `trainer.max_steps` should be set.", [], ""),
        ("Parameter `model.objectives.forget.beta` should be set.", [], "a.yaml:9: "),
        ("a.yaml:2: trainer.logger: unknown.", [], ""),
        ("Source 'q.jsonl[train]' should have a `domain`.", [], "a.yaml:10: "),
        ("Parameter `template.date_string` is bad.", ["--data.template.date_string=x"], "--data."),
        ("Parameter `refusals` is bad. Found 'i.txt'.", ["--data.refusals", "i.txt"], "--data.r"),
        ("Parameter `refusals` is bad. Found 'j.txt'.", ["--data.refusals", "i.txt"], ""),
    ],
)
def test_the_setting_that_a_check_names(
    config: Config, message: str, args: list[str], place: str
) -> None:
    error = InputError(message)
    blame(error, config, args)
    assert str(error).startswith(place)
    assert str(error).endswith(message)
    if not place:
        assert str(error) == message


def test_a_wrapped_message_is_blamed_too(config: Config) -> None:
    inner = InputError("Parameter `model.objectives.forget` is bad.")
    blame(wrapped(inner), config, [])
    assert str(inner).startswith("a.yaml:9: ")


def of_a_class(name: str, cause: Exception) -> Exception:
    error = wrapped(cause)
    error.args = (f"Problem with given class_path 'lightning.pytorch.loggers.{name}':",)
    return error


@pytest.mark.parametrize(("args", "place"), [([], "a.yaml:2: trainer.logger: "), (["--x=1"], "a")])
def test_the_class_that_a_library_refuses(config: Config, args: list[str], place: str) -> None:
    missing = ModuleNotFoundError("Requirement 'wandb>=0.12.10' not met. Run `pip install wandb`")
    with pytest.raises(InputError) as caught:
        blame(of_a_class("WandbLogger", missing), config, args)
    assert str(caught.value).startswith(place)
    assert "pip install wandb" in str(caught.value)


def test_other_errors_stay_as_they_are(config: Config) -> None:
    error = ValueError("a bug")
    blame(error, config, [])
    assert (str(error), error.__cause__, getattr(error, "__notes__", [])) == ("a bug", None, [])
