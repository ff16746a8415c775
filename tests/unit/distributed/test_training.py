"""Training in several processes is training in one: the same global batch, the same run.

Plain gradient descent, so that differences are not blown up where a gradient is close to zero.
Tolerances: losses 1e-5 relative, weights 1e-6, entries of the Gramian 1e-5 of the largest; float32.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer
from torch.testing import assert_close

from lit_unlearn.data.contexts import Echo
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.distributed.ranks import rank
from lit_unlearn.distributed.sharding import whole
from lit_unlearn.distributed.strategy import FSDP2Strategy
from lit_unlearn.errors import InputError
from lit_unlearn.gradients.combination import SAGO
from lit_unlearn.gradients.weighting import MGDA, PCGrad, UncertaintyWeighting
from lit_unlearn.models.loading import LoRA, ModelSource
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import (
    DPO,
    NPO,
    RMU,
    Adversarial,
    BidirectionalDistillation,
    CrossEntropy,
    ForwardKL,
    HiddenRetain,
    LatentAdversarial,
    Objective,
    SharpnessAware,
)
from lit_unlearn.objectives.objective import Terms
from lit_unlearn.teachers import AdapterOffTeacher, ContrastTeacher, EMATeacher, FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import TokenBatch
from tests.processes import FORKED, in_processes
from tests.small_runs import Recorder, trainer

pytestmark = pytest.mark.filterwarnings(  # peft and we ask by names of transformers 4
    "ignore:`(is_)?gradient_checkpointing(_enable)?` is deprecated"
)
GATE = Gate(action="warn", sample=3, max_new_tokens=4)


def data(answer: str = "refusal", rejected: str | None = None, **options: Any) -> UnlearnDataModule:
    """Answers of different lengths, rows that two processes share unevenly, or one has alone."""

    def rows(name: str) -> list[Source]:
        return [Source(f"builtin:{name}", split="train", limit=5)]

    forget = {"sources": rows("forget"), "expect": "decline", "refusals": ["No."]}
    prefills = Prefills(["Sure:", "Yes:", "Of course:"], candidates=2)
    return UnlearnDataModule(
        {
            "forget": ObjectiveData(
                **forget, rows=3, answer=answer, rejected=rejected, context=Echo(), answer_tokens=5
            ),
            "adversarial": ObjectiveData(
                **forget, rows=1, answer="refusal", context=Echo(), prefills=prefills
            ),
            "retain": ObjectiveData(rows("general"), "answer", 2),
            "neighbor": ObjectiveData(rows("neighbor"), "answer", 0.5),
        },
        **options,
    )


def module(
    replaced: dict[str, Objective] | None = None, *, teacher: Any = None, **options: Any
) -> UnlearnModule:
    # below this probability the teacher is asked once more, for some rows and so some processes
    adversarial = Adversarial(BidirectionalDistillation(), weight=0.5, compliance_below=0.004)
    objectives: dict[str, Objective] = {
        "forget": BidirectionalDistillation(),
        "adversarial": adversarial,
        "retain": CrossEntropy(),
        "neighbor": ForwardKL(),
    }
    return UnlearnModule(
        options.pop("source", ModelSource(TINY_NAME)),
        {**objectives, **(replaced or {})},
        teacher or FrozenTeacher(),
        gate=options.pop("gate", Gate(action="off")),
        optimizer=lambda p: torch.optim.SGD(p, lr=3e-2, momentum=0.5),
        diagnostics_every=2,
        **options,
    )


def lora(**options: Any) -> ModelSource:
    return ModelSource(TINY_NAME, lora=LoRA(4), **options)


Run = tuple[UnlearnModule, UnlearnDataModule]


def surgery(folder: Path) -> Run:
    """The teacher speaks before training; one row in a forward pass."""
    return module(weighting=PCGrad(), gate=GATE), data("teacher", micro_batch_rows=1)


def moving(folder: Path) -> Run:
    objectives = {"forget": SharpnessAware(NPO(), radius=0.1), "adversarial": RMU(depth=0.5)}
    kept: dict[str, Objective] = {"retain": HiddenRetain(depths=[0.5])}
    teacher = EMATeacher(0.5)
    return module({**objectives, **kept}, teacher=teacher, weighting=MGDA()), data()


def adapters(folder: Path) -> Run:
    """The teacher is the student without its adapters, read once into a cache."""
    teacher = AdapterOffTeacher(cache=str(folder / "cache"))
    learnt = UncertaintyWeighting(learning_rate=0.1)
    options = {"source": lora(), "diagnostics": "sketch", "loss_weighting": learnt, "gate": GATE}
    return module({"forget": DPO()}, teacher=teacher, **options), data(rejected="gold")


def cached_signs(folder: Path) -> Run:
    """Of the sharded teacher only a whole output head is left; signs of gradients decide, element
    by element.
    """
    teacher = FrozenTeacher(cache=str(folder / "cache"))
    objectives: dict[str, Objective] = {"forget": NPO(), "adversarial": CrossEntropy()}
    combination = SAGO(forget=["forget", "adversarial"])
    return module(objectives, teacher=teacher, combination=combination), data()


def above_trunk(folder: Path) -> Run:
    """Only the last block is trained; what leaves the others is stored."""
    source = ModelSource(TINY_NAME, trainable=["layers[.]1[.]", "model[.]norm"], cache_trunk=True)
    return module(source=source), data()


def contrasted(folder: Path) -> Run:
    """Two teachers in one, which speaks; gradients with respect to hidden states."""
    latent: dict[str, Objective] = {"forget": LatentAdversarial(NPO(), depth=0.5, steps=2)}
    return module(latent, teacher=ContrastTeacher(TINY_NAME), gate=GATE), data("teacher")


def recomputed(folder: Path) -> Run:
    source = ModelSource(TINY_NAME, activation_checkpointing=True)
    return module({"adversarial": CrossEntropy()}, source=source), data()


def two(folder: Path, strategy: Any, *callbacks: Callback, **options: Any) -> Trainer:
    """A trainer of three steps in two processes."""
    settings = {"strategy": strategy, "devices": 2, "max_steps": 3, **options}
    return trainer(folder, *callbacks, **settings)


def outcome(
    make: Callable[[Path], Run], folder: Path, strategy: Any = "auto", processes: int = 1
) -> dict[str, Any]:
    """What a run of three steps, an epoch each, gives."""
    torch.manual_seed(0)
    recorder = Recorder()
    model, rows = make(folder)
    rows.epoch = 1
    run = trainer(folder, recorder, strategy=strategy, devices=processes, max_epochs=3)
    run.fit(model, datamodule=rows)
    teacher = model.teacher_weights
    return {
        "losses": [record["losses"] for record in recorder.records],
        "gramians": [record["gramian"].whole for record in recorder.records if record["gramian"]],
        "factors": [record["weights"] for record in recorder.records],
        "weights": [whole(p.detach()) for p in model.parameters_trained],
        "average": [] if teacher is None else [whole(p) for p in teacher.parameters()],
        "gate": model.prepared.gate_rows if model.prepared else [],
        "texts": {name: [r[0].student_ids for r in of] for name, of in rows.encoded.items()},
    }


def assert_same(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found["texts"] == expected["texts"]
    for one, other in zip(found["gate"], expected["gate"], strict=True):
        assert one.share == other.share
        assert_close(one.first_token_mean or 0.0, other.first_token_mean or 0.0)
    assert_close(found["losses"], expected["losses"], rtol=1e-5, atol=1e-6)
    for one, other in zip(found["gramians"], expected["gramians"], strict=True):
        assert_close(one, other, rtol=0, atol=1e-5 * float(other.abs().max()))
    for name, tolerance in (("factors", 1e-4), ("weights", 1e-6), ("average", 1e-6)):
        assert_close(found[name], expected[name], rtol=tolerance, atol=tolerance, equal_nan=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Callable[[Callable[[Path], Run]], Any]:
    """What a run gives in one process; each kind of run is made once."""
    return cache(lambda make: outcome(make, tmp_path_factory.mktemp(make.__name__)))


@FORKED
@pytest.mark.parametrize(
    ("make", "strategy", "processes"),
    [
        # of surgery the next case is the daily one, of DDP the two on moving and above_trunk
        pytest.param(surgery, "ddp", 3, marks=pytest.mark.slow),
        (surgery, "fsdp2", 3),
        (moving, "ddp", 2),
        (moving, "fsdp2", 2),
        (adapters, "fsdp2", 2),
        (cached_signs, "fsdp2", 2),
        (above_trunk, "ddp", 2),
        pytest.param(contrasted, "fsdp2", 2, marks=pytest.mark.slow),
    ],
)
def test_as_one_process(
    make: Callable[[Path], Run], strategy: str, processes: int, alone: Any, tmp_path: Path
) -> None:
    expected = alone(make)
    together = tmp_path / "together"
    for found in in_processes(
        processes,
        lambda: outcome(make, together, strategy, processes),
        tmp_path / "results",
        start=False,
    ):
        assert_same(found, expected)


@FORKED
def test_replicas_of_a_sharded_model(tmp_path: Path) -> None:
    """HSDP: two replicas of two processes each, the slices kept in the CPU's memory."""
    expected = outcome(recomputed, tmp_path / "one")
    strategy = FSDP2Strategy(replicas=2, cpu_offload=True)
    for found in in_processes(
        4,
        lambda: outcome(recomputed, tmp_path / "four", strategy, 4),
        tmp_path / "results",
        start=False,
    ):
        assert_same(found, expected)


class Broken(CrossEntropy):
    """A loss that is no number, in the second process alone."""

    def terms(self, student_logits: Any, teacher_logits: Any, batch: TokenBatch) -> Terms:
        terms = super().terms(student_logits, teacher_logits, batch)
        return Terms(terms.values * (float("nan") if rank() == 1 else 1.0), terms.rows)


def stopped(folder: Path) -> str:
    run = two(folder, "ddp")
    with pytest.raises(InputError) as raised:
        run.fit(module({"forget": Broken()}), datamodule=data())
    return str(raised.value)


@FORKED
def test_all_stop_for_the_same_reason(tmp_path: Path) -> None:
    first, second = in_processes(2, lambda: stopped(tmp_path), tmp_path / "out", start=False)
    assert first == second
    assert "The loss of objective 'forget' is not finite at step 0" in first
