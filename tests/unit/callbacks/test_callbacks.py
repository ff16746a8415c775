"""Callbacks: the gradient table, the answers before and after, the export."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from transformers import AutoModelForCausalLM, AutoTokenizer

from lit_unlearn.callbacks import (
    AnswerEvaluation,
    GradientMonitor,
    HuggingFaceExport,
    Resumable,
    Throughput,
)
from lit_unlearn.callbacks.gradient_monitor import gradient_row
from lit_unlearn.errors import ResultError
from lit_unlearn.gradients.gramian import GroupedGramian
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.loading import LoRA
from lit_unlearn.report import read_gradients
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.utils.ownership import MARKER, write_text
from tests.small_runs import data_module, module, trainer

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings(
        "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
        "ignore:`is_gradient_checkpointing` is deprecated",  # peft with transformers 5
        "ignore:You're using the WeightAveraging callback with a model that overrides",
    ),
]


def fit(
    folder: Path,
    model: UnlearnModule,
    callbacks: list[Any],
    steps: int = 4,
    log_every_n_steps: int = 1,
    enable_checkpointing: bool = False,
) -> Trainer:
    run = trainer(
        folder,
        *callbacks,
        max_steps=steps,
        log_every_n_steps=log_every_n_steps,
        logger=TensorBoardLogger(str(folder), default_hp_metric=False),
        enable_checkpointing=enable_checkpointing,
    )
    data = data_module()
    for spec in data.objectives.values():
        spec.evaluation_rows = 2
    data.objectives["forget"].evaluation_prefills = ["Well,"]
    run.fit(model, datamodule=data)
    return run


def scalars(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(next(folder.glob("lightning_logs/*")))).Reload()


def test_a_run_with_everything(tmp_path: Path) -> None:
    answers = AnswerEvaluation(max_new_tokens=2, samples_every=2, samples=1)
    export = HuggingFaceExport()
    model = module()
    tmp_path.joinpath("config.yaml").write_text("seed_everything: 7\n", "utf-8")
    fit(tmp_path, model, [GradientMonitor(1), Throughput(), answers, export])

    rows = read_gradients(tmp_path / "gradients.jsonl")
    assert [row["step"] for row in rows] == [0, 2]
    assert all(count > 0 for row in rows for count in row["answer_tokens"])
    assert rows[0]["groups"] == ["embedding", "block.00", "block.01", "head"]
    assert rows[0]["objectives"] == ["forget", "adversarial", "retain", "neighbor"]

    board = scalars(tmp_path)
    names = set(board.Tags()["scalars"])
    assert names >= {
        "grad_cos/forget~retain",
        "grad_norm/forget",
        "grad_cos_update/retain",
        "conflict/rate",
        "loss/forget",
        "weight/adversarial",
        "outside_mass/forget",
        "time/step_s",
        "memory/peak_gib",
        "train/learning_rate",
    }
    logged = board.Scalars("grad_cos/forget~retain")
    assert [scalar.step for scalar in logged] == [0, 2]
    cosines = [row["cosines"][0][2] for row in rows]
    assert [scalar.value for scalar in logged] == pytest.approx(cosines, abs=1e-6)
    layers = [name for name in names if name.startswith("grad_cos_layers/")]
    assert len(layers) == 6 * 4
    in_block = board.Scalars("grad_cos_layers/forget~retain/block.01")[1].value
    assert in_block == pytest.approx(rows[1]["group_cosines"][2][0][2], abs=1e-6, nan_ok=True)
    assert any(tag.startswith("samples/forget") for tag in board.Tags()["tensors"])

    asked = [json.loads(x) for x in (tmp_path / "answers_after.jsonl").read_text().splitlines()]
    assert [(a["objective"], bool(a["prefill"])) for a in asked[:4]] == [
        ("forget", False),
        ("forget", False),
        ("forget", True),
        ("forget", True),
    ]
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter, model.student.get_parameter(name).detach())
    assert AutoTokenizer.from_pretrained(tmp_path / "model").chat_template
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert summary["export"]["difference"] <= summary["export"]["tolerance"] < 0.1
    card = (tmp_path / "model" / "README.md").read_text("utf-8")
    assert "compared with the trained model: largest difference of logits" in card
    assert "builtin:forget train" in card
    assert "| forget (prefilled) | 2 |" in card
    assert "```yaml\nseed_everything: 7\n```" in card


@pytest.mark.parametrize("exporting", [True, False])
def test_the_model_is_named_when_it_is_written(
    exporting: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table comes first; a run without an export names no folder for it."""
    seen: dict[str, bool] = {}

    def noted(console: Any, paths: Any) -> None:
        seen.update({name: Path(str(path)).exists() for name, path in paths.items()})

    for place in ("answer_evaluation", "huggingface_export"):
        monkeypatch.setattr(f"lit_unlearn.callbacks.{place}.print_paths", noted)
    callbacks = [AnswerEvaluation(max_new_tokens=1), *[HuggingFaceExport()] * exporting]
    fit(tmp_path, module(), callbacks, steps=1)
    assert list(seen) == ["summary", "report", "gradients", "TensorBoard", *["model"] * exporting]
    assert seen.get("model", True)
    summary = json.loads((tmp_path / "summary.json").read_text("utf-8"))
    assert ("model" in summary["run"]["paths"]) == exporting


def test_gradients_are_logged_at_their_own_steps(tmp_path: Path) -> None:
    """Whatever Lightning's own interval is: here it would log nothing before step 50."""
    model = module()
    fit(tmp_path, model, [GradientMonitor()], log_every_n_steps=50)
    logged = scalars(tmp_path).Scalars("conflict/rate")
    assert [scalar.step for scalar in logged] == [0, 2]


def test_adapters_are_merged_into_the_export(tmp_path: Path) -> None:
    model = module(lora=LoRA(rank=2))
    fit(tmp_path, model, [HuggingFaceExport()], steps=2)
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    ids = torch.tensor([[1, 5, 6, 7]])
    student = model.student.eval()
    torch.testing.assert_close(exported(ids).logits, student(ids).logits, rtol=1e-4, atol=1e-5)


class Scaling(Callback):
    """Changes the weights when training ends, as callbacks that average them do."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        with torch.no_grad():
            pl_module.student.model.norm.weight.mul_(2)


def test_the_export_comes_after_all_other_callbacks(tmp_path: Path) -> None:
    """Averages are written into the model at the end of training, by a callback behind it."""
    model, export = module(), HuggingFaceExport()
    averaging = EMAWeightAveraging(decay=0.5)
    trainer = fit(tmp_path, model, [export, Resumable(), averaging, Scaling()], steps=2)
    order = [type(callback) for callback in trainer.callbacks]
    assert order[-2:] == [HuggingFaceExport, Resumable]
    assert set(order[:-2]) >= {EMAWeightAveraging, Scaling}
    exported = AutoModelForCausalLM.from_pretrained(tmp_path / "model")
    average: Any = averaging._average_model.module.student
    for name, parameter in exported.named_parameters():
        assert torch.equal(parameter, model.student.get_parameter(name).detach())
        factor = 2 if name == "model.norm.weight" else 1
        assert torch.equal(parameter, factor * average.get_parameter(name).detach())
    assert export.comparison.same


def test_an_export_that_differs_is_an_error_and_keeps_the_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(model: Any, tokenizer: Any, folder: Path) -> None:
        with torch.no_grad():
            model.model.norm.weight.mul_(1.01)  # in memory too: only the files before it count
            save_folder(model, tokenizer, folder)

    monkeypatch.setattr("lit_unlearn.callbacks.huggingface_export.save_folder", wrong)
    (tmp_path / "model").mkdir()
    write_text(tmp_path / "model" / "earlier", "")
    with pytest.raises(ResultError, match="its logits differ: largest difference"):
        fit(tmp_path, module(), [HuggingFaceExport()], steps=1)
    assert {p.name for p in (tmp_path / "model").iterdir()} == {"earlier", MARKER}
    AutoModelForCausalLM.from_pretrained(tmp_path / "model-unverified")
    assert ResultError.status == 1


def test_an_export_replaces_the_earlier_one_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fit(tmp_path, module(), [HuggingFaceExport()], steps=1)
    before = sorted(p.name for p in (tmp_path / "model").iterdir())

    def broken(*_: Any) -> str:
        raise RuntimeError("disk full")

    monkeypatch.setattr("lit_unlearn.callbacks.huggingface_export.model_card", broken)
    with pytest.raises(RuntimeError, match="disk full"):
        fit(tmp_path, module(), [HuggingFaceExport()], steps=1)
    assert sorted(p.name for p in (tmp_path / "model").iterdir()) == before
    assert not list(tmp_path.glob(".model.*"))


def test_gradient_row_worked_value() -> None:
    """Gradients (3, 0) and (-4, 3): norms 3 and 5, cosine -12 / 15 = -0.8; sum (-1, 3).

    Cosines with the update: -3 / (3 sqrt 10) and 13 / (5 sqrt 10).
    """
    whole = torch.tensor([[9.0, -12.0], [-12.0, 25.0]], dtype=torch.float64)
    record = {
        "step": 7,
        "losses": {"a": 1.0, "b": 2.0},
        "gramian": GroupedGramian(whole=whole, by_group=whole[None], groups=("all",)),
        "weights": torch.ones(2, dtype=torch.float64),
        "diagnostics": "exact",
        "with_update": None,
    }
    row = gradient_row(record, ["a", "b"])  # type: ignore[arg-type]
    assert row["norms"] == pytest.approx([3, 5])
    assert row["cosines"][0][1] == pytest.approx(-0.8)
    assert row["conflict_rate"] == 1.0
    assert row["update_norm"] == pytest.approx(10**0.5)
    assert row["update_cosines"] == pytest.approx([-1 / 10**0.5, 2.6 / 10**0.5])
    assert row["group_cosines"][0][0][1] == pytest.approx(-0.8)


def test_what_is_at_rest_is_in_no_conflict() -> None:
    """The second gradient is a thousandth of the first and opposed to it: rounding under bf16."""
    whole = torch.tensor([[1.0, -1e-3], [-1e-3, 1e-6]], dtype=torch.float64)
    record = {
        "step": 0,
        "losses": {},
        "gramian": GroupedGramian(whole=whole, by_group=whole[None], groups=("all",)),
        "weights": torch.ones(2, dtype=torch.float64),
        "diagnostics": "exact",
        "with_update": None,
    }
    in_full = gradient_row(record, ["a", "b"])  # type: ignore[arg-type]
    assert (in_full["cosines"][0][1], in_full["conflict_rate"]) == (pytest.approx(-1), 1.0)
    half = gradient_row(record, ["a", "b"], 0.05)  # type: ignore[arg-type]
    for table in (half["cosines"], half["group_cosines"][0]):
        assert table[0][0] == 1
        assert math.isnan(table[0][1])
    assert half["conflict_rate"] == 0
    assert half["norms"] == pytest.approx([1, 1e-3])
    assert half["update_norm"] == pytest.approx(1 - 1e-3)
    assert half["update_cosines"] == pytest.approx([1, math.nan], nan_ok=True)
