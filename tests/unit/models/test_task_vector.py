"""Task vectors: the arithmetic, the folder it writes, and what it refuses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_unlearn.__main__ import main as command
from lit_unlearn.errors import InputError
from lit_unlearn.models import task_vector as module
from lit_unlearn.models.task_vector import task_vector
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer


def stored(folder: Path, add: float = 0.0, seed: int = 0, **options: Any) -> str:
    """A tiny model with a number added to its matrices."""
    model: Any = tiny_model(seed=seed, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.add_(add)
    model.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return str(folder)


def matrices(folder: Path | str) -> list[torch.Tensor]:
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    return [p.detach() for p in model.parameters() if p.dim() > 1]


@pytest.fixture
def models(tmp_path: Path) -> tuple[str, str, str]:
    """theta, theta + 0.75 and theta + 0.5."""
    names = {"theta": 0.0, "reinforced": 0.75, "base": 0.5}
    theta, reinforced, base = (stored(tmp_path / n, add) for n, add in names.items())
    return theta, reinforced, base


def test_worked_values(models: tuple[str, str, str], tmp_path: Path) -> None:
    """theta - 2 (0.75 - 0) = theta - 1.5; with a base: theta - 2 (0.75 - 0.5) = theta - 0.5."""
    theta, reinforced, base = models
    task_vector(theta, reinforced, tmp_path / "a", scale=2.0)
    task_vector(theta, reinforced, tmp_path / "b", base=base, scale=2.0)
    for start, own, other in zip(
        matrices(theta), matrices(tmp_path / "a"), matrices(tmp_path / "b"), strict=True
    ):
        torch.testing.assert_close(own, start - 1.5)
        torch.testing.assert_close(other, start - 0.5)


def test_scale_1_without_base_reflects(models: tuple[str, str, str], tmp_path: Path) -> None:
    """theta - (theta_r - theta): twice removed gives theta_r again."""
    theta, reinforced, _ = models
    task_vector(theta, reinforced, tmp_path / "once")
    task_vector(theta, str(tmp_path / "once"), tmp_path / "twice")
    for found, expected in zip(matrices(tmp_path / "twice"), matrices(reinforced), strict=True):
        torch.testing.assert_close(found, expected)


def test_command_writes_a_whole_model_folder(
    models: tuple[str, str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theta, reinforced, base = models
    output = tmp_path / "new" / "model"
    options = ["--reinforced", reinforced, "--base", base, "--scale", "0.5"]
    arguments = ["task-vector", theta, *options, "--dtype", "bfloat16", "--output", str(output)]
    assert command(arguments) == 0
    assert str(output) in capsys.readouterr().out
    model = AutoModelForCausalLM.from_pretrained(output, dtype="auto")
    assert model.dtype == torch.bfloat16
    assert AutoTokenizer.from_pretrained(output).chat_template
    card = (output / "README.md").read_text("utf-8")
    assert f"base_model: {theta}\n" in card
    assert f"| theta_reinforced | {reinforced} |" in card
    assert f"| theta_base | {base} |" in card
    assert "theta - 0.5 (theta_reinforced" in card
    assert [p.name for p in output.parent.iterdir()] == ["model"]


def test_nothing_is_left_of_a_failed_write(
    models: tuple[str, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> str:
        raise OSError("disk full")

    monkeypatch.setattr(module, "model_card", broken)
    with pytest.raises(OSError, match="disk full"):
        task_vector(*models[:2], tmp_path / "out" / "model")
    assert list((tmp_path / "out").iterdir()) == []


def test_models_must_be_alike(models: tuple[str, str, str], tmp_path: Path) -> None:
    theta, reinforced, _ = models
    wide = stored(tmp_path / "wide", hidden_size=64)
    deep = stored(tmp_path / "deep", layers=3)
    with pytest.raises(InputError, match=r"--reinforced should name.*\(259, 64\) instead of \(259"):
        task_vector(theta, wide, tmp_path / "o")
    with pytest.raises(InputError, match=r"--base should .*layers\.2.* instead of missing, and 8"):
        task_vector(theta, reinforced, tmp_path / "o", base=deep)
    assert not (tmp_path / "o").exists()


def test_bad_input(models: tuple[str, str, str], tmp_path: Path) -> None:
    theta, reinforced, base = models
    output = tmp_path / "o"
    with pytest.raises(InputError, match=r"--reinforced .* should differ from --base"):
        task_vector(theta, theta, output)
    with pytest.raises(InputError, match=r"should differ from --base .*reinforced"):
        task_vector(theta, reinforced, output, base=reinforced)
    broken = stored(tmp_path / "nan", float("nan"))
    with pytest.raises(InputError, match=r"finite number. Found a vector of nan times"):
        task_vector(theta, broken, output)
    for scale in (0.0, -1.0, float("inf")):
        with pytest.raises(InputError, match="--scale should be a number above 0"):
            task_vector(theta, reinforced, output, scale=scale)
    with pytest.raises(InputError, match=r"`task-vector --base` = './nowhere'"):
        task_vector(theta, reinforced, output, base="./nowhere")
    with pytest.raises(InputError, match=r"MODEL should be a folder or a hub id. Found 'm.gguf'"):
        task_vector("m.gguf", reinforced, output)
    with pytest.raises(InputError, match="--output should be a new or empty folder"):
        task_vector(theta, reinforced, Path(base))


def test_bad_options(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = f"--output={tmp_path / 'o'}"
    assert command(["task-vector", "theta", output]) == 2
    assert "required: reinforced" in capsys.readouterr().err
    assert command(["task-vector", "theta", output, "--reinforced=x", "--scale", "much"]) == 2
    assert "--scale: expected float, found much" in capsys.readouterr().err
