"""Throughput: the operations of its formula are those that run, and the split is the whole step."""

from __future__ import annotations

from pathlib import Path

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.flop_counter import FlopCounterMode
from transformers import PreTrainedModel

from lit_unlearn.callbacks.throughput import (
    PHASES,
    Throughput,
    computed_positions,
    model_operations,
)
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import answer_logits
from tests.unit.callbacks.test_callbacks import fit, module
from tests.unit.objectives.given import SINGLE, batch_of


def test_operations_are_those_that_run(tiny_model: PreTrainedModel) -> None:
    """Counted by torch, without attention; the formula counts the few weights of norms as well."""
    batch = batch_of(SINGLE)

    def counted() -> int:
        tiny_model.zero_grad()
        with FlopCounterMode(display=False) as counter:
            answer_logits(tiny_model, batch.student).sum().backward()
        counts = counter.get_flop_counts()["Global"]
        return sum(n for name, n in counts.items() if "attention" not in str(name))

    assert model_operations(tiny_model, [batch]) == pytest.approx(counted(), rel=0.03)
    before = model_operations(tiny_model, [batch])
    tiny_model.get_submodule("model.layers.0.mlp").requires_grad_(False)
    assert model_operations(tiny_model, [batch]) < before
    assert model_operations(tiny_model, [batch]) == pytest.approx(counted(), rel=0.03)


def test_padding_counts_only_where_it_is_computed(tiny_model: PreTrainedModel) -> None:
    batch = batch_of(SINGLE)
    real = int(batch.student.attention_mask.sum())
    assert real < batch.student.attention_mask.numel()
    assert computed_positions(tiny_model, [batch]) == real
    tiny_model.set_attn_implementation("eager")
    assert computed_positions(tiny_model, [batch]) == batch.student.attention_mask.numel()


def test_logged(tmp_path: Path) -> None:
    fit(tmp_path, module(), [Throughput(peak_tflops=0.5)], steps=2)
    board = EventAccumulator(str(next(tmp_path.glob("lightning_logs/*")))).Reload()
    found = {name: board.Scalars(name)[-1].value for name in board.Tags()["scalars"]}
    parts = [found[f"time/{phase}_s"] for phase in PHASES]
    assert all(part > 0 for part in parts)
    assert sum(parts) == pytest.approx(found["time/step_s"], rel=1e-4)
    assert found["throughput/student_tokens_per_s"] > 0
    assert found["throughput/teacher_tokens_per_s"] > 0
    assert found["throughput/padding_share"] == 0
    assert found["throughput/mfu"] == pytest.approx(found["throughput/model_tflops"] / 0.5)


def test_bad_input() -> None:
    with pytest.raises(InputError, match="peak_tflops"):
        Throughput(peak_tflops=0)
