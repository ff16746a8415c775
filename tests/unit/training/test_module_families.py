"""Objectives of every family in one run: pairs of answers, hidden states, few trained weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import (
    DPO,
    FLAT,
    NPO,
    RMU,
    AnswerPreservation,
    HiddenRetain,
    LatentAdversarial,
    Objective,
)
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from tests.small_runs import fit

FORGET = [Source("builtin:forget", split="train", limit=4)]
GENERAL = [Source("builtin:general", split="train", limit=4)]
DOWN = "layers[.]0[.]mlp[.]down_proj"


def run(
    folder: Path,
    objectives: dict[str, Objective],
    rows: dict[str, ObjectiveData],
    trainable: list[str] | None = None,
) -> tuple[UnlearnModule, UnlearnDataModule, list[dict[str, float]]]:
    module = UnlearnModule(
        ModelSource(TINY_NAME, trainable=trainable),
        objectives,
        FrozenTeacher(),
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2),
        diagnostics_every=2,
    )
    data = UnlearnDataModule(rows)
    records = fit(folder, module, data, steps=3).records
    return module, data, [record["losses"] for record in records]


def test_pairs_of_answers(tmp_path: Path) -> None:
    """IdkDPO starts at (2 / beta) ln 2; each row brings the refusal first, then the gold answer."""
    refuse = ObjectiveData(FORGET, "decline", 2, "refusal", ["No."], rejected="gold")
    keep = ObjectiveData(GENERAL, "answer", 2, "gold", ["No."], rejected="refusal")
    _, data, losses = run(
        tmp_path,
        {"dpo": DPO(), "flat": FLAT(), "kept": AnswerPreservation()},
        {"dpo": refuse, "flat": refuse, "kept": keep},
    )
    assert losses[0]["dpo"] == pytest.approx(20 * math.log(2), rel=1e-4)
    assert losses[2]["dpo"] < losses[0]["dpo"]
    for name in ("dpo", "kept"):
        for preferred, rejected in data.encoded[name]:
            assert (preferred.target_count < rejected.target_count) is (name == "dpo")
    batch = data.batch(data.plan().step(2))["dpo"][0]
    lengths = batch.student.rows.bincount().tolist()
    assert lengths[0] < lengths[1]
    assert lengths[2] < lengths[3]


def test_hidden_states_and_few_trained_weights(tmp_path: Path) -> None:
    """RMU and its retain part train one matrix, and nothing else moves."""
    start = load_student(ModelSource(TINY_NAME)).state_dict()
    module, _, losses = run(
        tmp_path,
        {"forget": RMU(depth=0.5), "retain": HiddenRetain(depths=[0.5])},
        {
            "forget": ObjectiveData(FORGET, "decline", 2),
            "retain": ObjectiveData(GENERAL, "answer", 2),
        },
        trainable=[DOWN],
    )
    assert losses[0]["retain"] == pytest.approx(0.0, abs=1e-9)
    assert losses[2]["forget"] < losses[0]["forget"]
    assert module.student is not None
    moved = {n for n, p in module.student.state_dict().items() if not torch.equal(p, start[n])}
    assert moved == {"model.layers.0.mlp.down_proj.weight"}


def test_latent_adversary(tmp_path: Path) -> None:
    _, _, losses = run(
        tmp_path,
        {"forget": LatentAdversarial(NPO(), depth=0.5, steps=2)},
        {"forget": ObjectiveData(FORGET, "decline", 2)},
    )
    assert losses[0]["forget"] > 20 * math.log(2)  # worse than at the reference without a change


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"student\.trainable`.*Found 'layer_9'"):
        load_student(ModelSource(TINY_NAME, trainable=["layer_9"]))
    for answer, prefills in (("gold", None), ("none", None), ("refusal", Prefills(["Yes:"]))):
        with pytest.raises(InputError, match="`rejected` should name another answer"):
            ObjectiveData(FORGET, "decline", answer=answer, prefills=prefills, rejected="gold")
