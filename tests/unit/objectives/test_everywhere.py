"""Decline from everywhere: worked values, what the teacher reads, and five steps by hand."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lit_unlearn.data.collation import collate
from lit_unlearn.data.contexts import Demonstrations
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource, load_base
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.objectives import (
    BidirectionalDistillation,
    CrossEntropy,
    DeclineEverywhere,
    ForwardKL,
)
from lit_unlearn.objectives.losses import inside_text
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.teachers.cache.rows import collect
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.types import EncodedExample, Tokens
from tests.small_runs import STEPS, Recorder, losses, trainer
from tests.unit.objectives.test_objectives import row

TWINS = torch.tensor([[0, 0, 2, 3], [1, 1, 2, 3]])
"""Token 1 is token 0 with a space in front."""
REPLY = torch.tensor([0.7, 0.1, 0.1, 0.1])
"""The teacher's prediction of the first token of its reply: it begins with token 0."""


class Told:
    """A reader that predicts the same everywhere, and keeps what it was asked."""

    def __init__(self, probabilities: Tensor) -> None:
        self.given, self.asked = probabilities.log(), list[Tokens]()

    def logits(self, tokens: Tokens) -> Tensor:
        self.asked.append(tokens)
        return self.given.expand(len(tokens.rows), -1)


def test_worked_value() -> None:
    """A uniform student: KL(T || S) = ln 4 - H(T) at both positions, whatever the spelling.

    A student that gives token 1 a half and the others a sixth: token 1 is the refusal's first token
    at the second position, not at the first. KL = sum of T ln T - T ln S.
    """
    batch = replace(collate([[row("q", [2, 3], [2, 3], context=[3])]], 0), spellings=TWINS)
    entropy = -0.7 * math.log(0.7) - 0.3 * math.log(0.1)
    uniform = DeclineEverywhere(ForwardKL())(batch, Told(torch.ones(4) / 4), Told(REPLY))
    assert uniform.values.tolist() == pytest.approx([math.log(4) - entropy] * 2)
    assert uniform.statistics["turns"].tolist() == pytest.approx([0.25, 0.25])
    student = Told(torch.tensor([1, 3, 1, 1]) / 6)
    terms = DeclineEverywhere(ForwardKL())(batch, student, Told(REPLY))
    first = -entropy + 0.9 * math.log(6) + 0.1 * math.log(2)
    second = -entropy + 0.3 * math.log(6) + 0.7 * math.log(2)
    assert terms.values.tolist() == pytest.approx([first, second])
    assert terms.statistics["turns"].tolist() == pytest.approx([1 / 6, 0.5])


def test_inside_a_text_the_spelling_with_a_space_is_the_likelier() -> None:
    """Also where the template put a space in front already; tokens without a twin stay."""
    logits = torch.tensor([[5.0, 1.0, 2.0, 3.0, 9.0], [1.0, 5.0, 2.0, 3.0, 9.0]])
    assert inside_text(logits, TWINS).tolist() == [[1, 5, 2, 3, 9]] * 2
    assert inside_text(logits, None) is logits


def test_the_teacher_reads_questions_alone() -> None:
    """Neither answers nor prefills change what it is asked; behind a prefill no text begins."""
    rows = [row("a", [2, 3], [2, 2, 3], context=[3]), row("b", [2], [1], context=[3])]
    behind = EncodedExample("c", (2, 0, 3), 2, (3, 2, 0, 3), 3, 1, (3, 2, 3), 2, "Sure")
    batch = replace(collate([[each] for each in (*rows, behind)], 0), spellings=TWINS)
    objective, teacher = DeclineEverywhere(ForwardKL()), Told(REPLY)
    terms = objective(batch, Told(torch.ones(4) / 4), teacher)
    asked = collect(teacher.asked)
    assert sorted(each.ids.tolist() for each in asked.values()) == [[3, 2], [3, 2, 3]]
    assert collect(objective.teacher_inputs(batch)).keys() == asked.keys()
    assert len(teacher.asked[0].rows) == 3
    student = Told(torch.tensor([1, 3, 1, 1]) / 6)
    turned = objective(batch, student, Told(REPLY)).statistics["turns"]
    assert turned.tolist() == pytest.approx([1 / 6, 0.5, 0.5, 1 / 6, 0.5])
    assert len(terms.values) == 5


def test_an_objective_without_teacher_is_refused() -> None:
    with pytest.raises(InputError, match=r"`DeclineEverywhere.objective`.*Found CrossEntropy"):
        DeclineEverywhere(CrossEntropy())


class Spelled(UnlearnDataModule):
    """Rows of the byte tokenizer, for which an upper-case letter is the lower-case one spaced."""

    def set_rows(self, encoded: Any, pad_id: int, spellings: Tensor | None = None) -> None:
        assert spellings is not None
        self.lower = torch.tensor([self.id_of(chr(c)) for c in range(97, 123)])
        self.upper = torch.tensor([self.id_of(chr(c)) for c in range(65, 91)])
        made = spellings.clone()
        made[0, self.upper], made[1, self.lower] = self.lower, self.upper
        super().set_rows(encoded, pad_id, made)

    def id_of(self, letter: str) -> int:
        from lit_unlearn.models.tiny import tiny_tokenizer

        return int(tiny_tokenizer().convert_tokens_to_ids(letter))


@pytest.mark.usefixtures("own_cache")
def test_five_steps_equal_a_naive_loop(tmp_path: Path) -> None:
    """Trunk cache, teacher cache, packing and AdamW against a plain loop over rows.

    The loop reads one row at a time without padding, and writes the loss out: the pull on the
    teacher's top K weighted by its probabilities, the one-sided push on the student's top K beside
    them.
    """
    context = Demonstrations(declined=2)
    sources = [Source("builtin:forget", split="train", limit=5)]
    rows = ObjectiveData(sources, "decline", 2, "gold", ["no."], context)
    data = Spelled({"path": rows})
    distance = BidirectionalDistillation(top_k=4, push_top_k=3)
    upper = ["layers[.]1[.]", "model[.]norm"]
    source = ModelSource(TINY_NAME, trainable=upper)
    model = UnlearnModule(
        source,
        {"path": DeclineEverywhere(distance)},
        FrozenTeacher(cache=str(tmp_path / "teacher")),
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.AdamW(p, lr=1e-2, weight_decay=0.0),
        clip_norm=None,
    )
    recorder = Recorder()
    trainer(tmp_path, recorder, max_steps=STEPS).fit(model, datamodule=data)
    assert model.trunk is not None

    teacher, student = load_base(source), load_base(source)
    trained = [p for n, p in student.named_parameters() if "layers.1." in n or "model.norm" in n]
    optimizer = torch.optim.AdamW(trained, lr=1e-2, weight_decay=0.0)
    found = []
    for step in range(STEPS):
        terms = []
        for drawn in data.plan().step(step)["path"]:
            (one,) = data.encoded["path"][drawn.index]
            with torch.no_grad():
                asked = torch.tensor([one.teacher_ids[: one.teacher_start]])
                reply = teacher(asked).logits[0, -1]
            inside = reply.clone()
            inside[data.lower] = torch.minimum(reply[data.lower], reply[data.upper])
            inside[data.upper] = torch.maximum(reply[data.lower], reply[data.upper])
            logits = student(torch.tensor([one.student_ids])).logits[0]
            for index in range(one.target_count):
                goal = (inside if index else reply).log_softmax(-1)
                mine = logits[one.student_start - 1 + index].log_softmax(-1)
                liked = goal.topk(4).indices
                rest = mine.detach().index_fill(0, liked, -torch.inf).topk(3).indices
                gaps = torch.cat([(mine - goal)[liked], (mine - goal)[rest].relu()])
                far = functional.huber_loss(gaps, 0 * gaps, reduction="none", delta=2.0)
                weights = torch.cat([goal[liked].softmax(-1), mine.detach()[rest].softmax(-1)])
                terms.append((weights * far).sum())
        loss = torch.stack(terms).mean()
        found.append(loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert [each["path"] for each in losses(recorder)] == pytest.approx(found, rel=1e-5)
    for one, other in zip(model.parameters_trained, trained, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=2e-5)
