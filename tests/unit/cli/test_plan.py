"""`lit-unlearn plan` end to end, without weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.__main__ import main
from lit_unlearn.cli.plan import DOES_NOT_FIT
from lit_unlearn.planning import rates
from tests.conftest import PROJECT

SMOKE = ["plan", "--config", str(PROJECT / "configs/smoke.yaml")]
TOFU = ["plan", "--config", str(PROJECT / "configs/tofu.yaml"), "--architecture=Llama-3.2-1B"]


def planned(output: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(output.read_text())
    return found


def test_rows_are_measured_and_the_tiny_model_fits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "plan.json"
    options = ["--device=h100", "--memory=1", f"--output={output}", "--trainer.logger=false"]
    options += ["--trainer.callbacks+=Resumable"]  # of a run, and none of the plan's
    assert main([*SMOKE, *options]) == 0
    found = planned(output)
    assert found["fits"] is True
    assert found["rows_assumed"] is False
    assert set(found["flops"]) == {"forget", "adversarial", "retain", "neighbor"}
    assert found["cache"]["token_bytes"] == 4 * 32
    flops = sum(own["total"] for own in found["flops"].values())  # at 20 to 50 % of 66.9 TFLOP/s
    assert found["devices"][0]["seconds"] == pytest.approx(
        {"least": flops / 33.45e12, "most": flops / 13.38e12}
    )
    assert "It fits" in capsys.readouterr().out


def test_what_does_not_fit_has_its_own_status_and_a_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """At the update: weights, twice that for AdamW, five gradients of exact diagnostics, the update
    and the optimizer's temporaries, 4 bytes each; a teacher and autocast's casts, 2 each: 11 times
    the weights. Sketches in place of the five gradients are enough for 40 GB.
    """
    output = tmp_path / "plan.json"
    options = ["--rows=assumed", "--device=rtx4090", "--memory=40", f"--output={output}"]
    with pytest.raises(SystemExit) as stopped:
        main([*TOFU, *options])
    assert stopped.value.code == DOES_NOT_FIT
    found = planned(output)
    weights = 4 * found["parameters"]
    assert found["parameters"] == 1_235_814_400
    assert found["moments"][0]["what"] == "update"
    assert found["peak_bytes"] == pytest.approx(11 * weights, rel=0.001)
    peaks = [proposal["peak_bytes"] for proposal in found["proposals"]]
    assert peaks == sorted(peaks)
    assert all(each < found["peak_bytes"] for each in peaks)
    assert [each["options"] for each in found["together"]] == ["--model.diagnostics sketch"]
    assert found["together"][-1]["peak_bytes"] <= found["limit_bytes"] == 40e9
    assert "It does not fit" in capsys.readouterr().out


def test_two_devices_and_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a name there is no verdict, and times are those of this machine."""
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    output = tmp_path / "plan.json"
    assert main([*SMOKE, "--rows=assumed", "--devices=2", f"--output={output}"]) == 0
    found = planned(output)
    assert found["fits"] is None
    scales = [(each["strategy"], each["devices"]) for each in found["devices"]]
    assert scales[:3] == [("ddp", 2), ("single", 1), ("fsdp2", 2)]
    assert len(set(scales)) == len(scales) == 7
    least, most = found["devices"][0]["seconds"].values()
    assert least == most > 0


def test_rows_that_are_not_there_yet(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Another command writes them; a callback that asks them at the end has no questions yet."""
    monkeypatch.setattr(rates, "_SECONDS", 0.01)
    absent = '--data.objectives.forget.sources=[{"path":"none.jsonl","domain":"question_answer"}]'
    assert main([*SMOKE, absent, "--trainer.callbacks+=WeightInterpolation"]) == 0
    assert "Lengths are assumed" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--device=h10"], "did you mean h100"),
        (["--trainer.precison=32"], "precision"),
        (["--trainer.precision=16-mixed"], "`trainer.precision` should not be 16-mixed"),
        (["--trainer.accumulate_grad_batches=2"], "`trainer.accumulate_grad_batches` should be 1"),
        (["--trainer.gradient_clip_val=1"], "`trainer.gradient_clip_val` should not be set"),
        (["--data.objectives.retain=null"], "`model.objectives.retain` has no"),
        (["--trainer.logger=WandbLogger"], "pip install -U 'wandb"),
        (["--ckpt_path=none.ckpt"], "none.ckpt: no such file"),
        (
            ["--trainer.callbacks+=EarlyStopping", "--trainer.callbacks.monitor=loss/retian"],
            "did you mean loss/retain?",
        ),
        (["--lengths.answer=200", "--rows=assumed"], "--lengths.answer"),
        (["--lengths.student=-3"], "`lengths.student` should be at least 1"),
        (["--tokenizer=nosuch/none"], "nosuch/none"),
        (["--utilisation=2"], "`utilisation` should be"),
        (["--model.student=some-model"], "found some-model; write {path: some-model}"),
        (["--model.student.path="], "Found an empty text"),
    ],
)
def test_bad_options(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*SMOKE, *options]) == 2
    assert message in capsys.readouterr().err


def test_unreachable_model_and_formulas(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["plan", "--config", str(PROJECT / "configs/tofu.yaml")]) == 2
    assert "--architecture Llama-3.2-1B" in capsys.readouterr().err
    assert main(["plan", "--formulas"]) == 0
    assert "8 n D" in capsys.readouterr().out
