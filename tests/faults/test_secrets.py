"""Keys are in no file and no output; names in a config lead to no file outside of the run."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.errors import InputError
from lit_unlearn.training.setup.checks import check_objectives
from tests.faults.runs import small


@pytest.mark.filterwarnings("ignore::UserWarning")  # of loggers, about the name
def test_a_run_keeps_to_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    secret = "hf_0123456789abcdef"
    for name in ("HF_TOKEN", "OPENAI_API_KEY", "WANDB_API_KEY"):
        monkeypatch.setenv(name, secret)
    home = tmp_path / "deep" / "down"
    home.mkdir(parents=True)
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(home / "cache"))
    arguments = small(home)
    file = Path(arguments[2])
    config = yaml.safe_load(file.read_text("utf-8"))
    for part in ("model", "data"):
        objectives = config[part]["objectives"]
        objectives[str(tmp_path / "escaped")] = objectives.pop("forget")
    file.write_text(yaml.safe_dump(config), "utf-8")
    assert main(arguments) == 0
    assert [found.name for found in tmp_path.iterdir()] == ["deep"]
    assert [found.name for found in home.parent.iterdir()] == ["down"]
    said = capfd.readouterr()
    assert secret not in said.out + said.err
    written = [found for found in home.rglob("*") if found.is_file()]
    assert len(written) > 8
    assert not [found for found in written if secret.encode() in found.read_bytes()]


@pytest.mark.parametrize("name", ["../x", "a.b", ""])
def test_names_that_no_objective_can_have(name: str) -> None:
    with pytest.raises(InputError, match="give the objective another name"):
        check_objectives(["forget", name])
