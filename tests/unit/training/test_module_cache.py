"""Training with a cached teacher: the same losses, and no model body in memory."""

from __future__ import annotations

import gc
import weakref
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from lit_unlearn.data.contexts import Echo
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.dtypes import DType
from lit_unlearn.models.loading import LoRA, ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import (
    Adversarial,
    BidirectionalDistillation,
    ForwardKL,
    GeneralizedJSD,
    Objective,
    ReverseKL,
)
from lit_unlearn.teachers import AdapterOffTeacher, EMATeacher, FrozenTeacher, Teacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import TokenBatch, Tokens
from tests.small_runs import Recorder, losses, trainer

STEPS = 3


def objectives() -> dict[str, Objective]:
    """Every kind of loss that reads a teacher; the random teacher complies after every prefill."""
    return {
        "bidirectional": BidirectionalDistillation(positions=2),
        "forward_kl": ForwardKL(),
        "reverse_kl": ReverseKL(),
        "jsd": GeneralizedJSD(),
        "adversarial": Adversarial(BidirectionalDistillation()),
        "by_nll": Adversarial(ForwardKL(), criterion="answer_nll"),
    }


def data_module(seed: int = 0) -> UnlearnDataModule:
    def rows(name: str, prefills: Prefills | None = None) -> ObjectiveData:
        sources = [Source(f"builtin:{name}", split="train", limit=3)]
        return ObjectiveData(sources, "decline", 1, "refusal", ["No."], Echo(), prefills)

    openers = Prefills(["Sure:", "Yes:", "Well,"])
    return UnlearnDataModule(
        {
            "bidirectional": rows("forget"),
            "forward_kl": rows("general"),
            "reverse_kl": rows("neighbor"),
            "jsd": rows("general"),
            "adversarial": rows("forget", openers),
            "by_nll": rows("forget", openers),
        },
        seed=seed,
    )


def fit(
    folder: Path,
    teacher: Teacher,
    *,
    seed: int = 0,
    precision: Any = "32-true",
    rate: float = 1e-2,
    lora: LoRA | None = None,
    **named: Objective,
) -> list[dict[str, float]]:
    model = UnlearnModule(
        ModelSource(TINY_NAME, lora=lora),
        {**objectives(), **named},
        teacher,
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=rate),
        diagnostics_every=0,
    )
    recorder = Recorder()
    run = trainer(folder, recorder, precision=precision, max_steps=STEPS)
    run.fit(model, datamodule=data_module(seed))
    return losses(recorder)


@pytest.mark.parametrize(
    ("dtype", "precision", "rate", "tolerance"),
    [
        (None, "32-true", 1e-2, 1e-5),
        # daily: a cache in float32 above, and one in bfloat16 below
        pytest.param("bfloat16", "32-true", 0.0, 3e-2, marks=pytest.mark.slow),
        ("bfloat16", "bf16-mixed", 0.0, 3e-2),
    ],
)
def test_losses_as_without_cache(
    tmp_path: Path, dtype: DType | None, precision: str, rate: float, tolerance: float
) -> None:
    """Float32 agrees to its rounding, over updates. Bfloat16 rounds otherwise in batches of another
    shape: losses move by up to 2 % here, where bfloat16 itself moves them by up to 6 %. Updates
    would magnify that, so the student stands still.
    """
    live = fit(tmp_path / "live", FrozenTeacher(dtype), precision=precision, rate=rate)
    teacher = FrozenTeacher(dtype, cache=str(tmp_path / "cache"))
    kept = fit(tmp_path / "kept", teacher, precision=precision, rate=rate)
    for one, other in zip(live, kept, strict=True):
        assert one == pytest.approx(other, rel=tolerance, abs=1e-6)
        assert set(one) == set(objectives())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")
def test_adapters_off(tmp_path: Path) -> None:
    lora = LoRA(rank=2)
    live = fit(tmp_path / "live", AdapterOffTeacher(), lora=lora)
    kept = fit(tmp_path / "kept", AdapterOffTeacher(str(tmp_path / "cache")), lora=lora)
    for one, other in zip(live, kept, strict=True):
        assert one == pytest.approx(other, rel=1e-5, abs=1e-6)


class Watched(FrozenTeacher):
    """Notices when a layer of its body leaves memory."""

    def attach(self, student: nn.Module, source: ModelSource) -> None:
        super().attach(student, source)
        body: Any = self.model()
        self.layer = weakref.ref(body.model.layers[0])


def test_body_leaves_memory(tmp_path: Path) -> None:
    teacher = Watched(cache=str(tmp_path / "cache"))
    fit(tmp_path, teacher)
    gc.collect()
    assert teacher.layer() is None
    head = teacher.unsaved_module()
    assert head is not None
    assert [len(p) for p in head.parameters()] == [259]  # the vocabulary: the tied embedding alone
    with pytest.raises(InputError, match=r"`model.teacher.init_args.cache` should be false"):
        teacher.model()


def test_later_runs_add_nothing(tmp_path: Path) -> None:
    """Three steps draw every row, whatever the seed; another run writes no further shard."""
    folder = str(tmp_path / "cache")
    fit(tmp_path / "a", FrozenTeacher(cache=folder))
    shards = sorted(tmp_path.glob("cache/*/*.safetensors"))
    other = BidirectionalDistillation(weight=0.1)
    fit(tmp_path / "b", FrozenTeacher(cache=folder), seed=5, bidirectional=other)
    assert sorted(tmp_path.glob("cache/*/*.safetensors")) == shards
    assert len(shards) == 1


class Asking(ForwardKL):
    """Asks the teacher for something else than it has said."""

    def teacher_inputs(self, batch: TokenBatch) -> list[Tokens]:
        return []


def test_a_row_that_was_not_foreseen_is_an_error(tmp_path: Path) -> None:
    teacher = FrozenTeacher(cache=str(tmp_path / "cache"))
    with pytest.raises(InputError, match=r"returned when training started.*Found position \d+"):
        fit(tmp_path, teacher, reverse_kl=Asking())


def test_averages_have_no_cache() -> None:
    with pytest.raises(TypeError, match="cache"):
        EMATeacher(cache=True)  # type: ignore[call-arg]
