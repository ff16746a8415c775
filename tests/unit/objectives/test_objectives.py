"""Objectives: properties of every one of them on a tiny model, and the inner maximisation."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import fields, replace

import pytest
import torch
from jsonargparse import ArgumentParser
from torch import Tensor
from transformers import PreTrainedModel

from lit_unlearn.data.collation import collate
from lit_unlearn.errors import InputError
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.objectives import (
    NPO,
    RMU,
    Adversarial,
    BidirectionalDistillation,
    Constant,
    CrossEntropy,
    DeclineEverywhere,
    ForwardKL,
    GeneralizedJSD,
    LinearDecay,
    LinearWarmup,
    LogitObjective,
    Objective,
    ReverseKL,
    SharpnessAware,
)
from lit_unlearn.objectives.adversarial import worst
from lit_unlearn.objectives.objective import Reader
from lit_unlearn.types import EncodedExample, TokenBatch, Tokens


def row(
    name: str, prompt: Sequence[int], answer: Sequence[int], context: Sequence[int] = ()
) -> EncodedExample:
    student, teacher = (*prompt, *answer), (*context, *prompt, *answer)
    return EncodedExample(
        name, student, len(prompt), teacher, len(context) + len(prompt), len(answer)
    )


SHORT = row("short", [5, 6], [7, 8], context=[40, 41])
LONG = row("long", [9, 10, 11, 12, 13], [14, 15, 16], context=[42])

MAKERS: dict[str, Callable[[], LogitObjective]] = {
    "cross_entropy": CrossEntropy,
    "bidirectional": BidirectionalDistillation,
    "literal": lambda: BidirectionalDistillation(push="match", space="logit", entries="uniform"),
    "hinge": lambda: BidirectionalDistillation(push="hinge"),
    "unlikelihood": lambda: BidirectionalDistillation(push="unlikelihood"),
    "suppress": lambda: BidirectionalDistillation(push="suppress"),
    "first_token": lambda: BidirectionalDistillation(positions=1, push_top_k=0),
    "forward_kl": ForwardKL,
    "reverse_kl": ReverseKL,
    "jsd": GeneralizedJSD,
}
ALL: dict[str, Callable[[], Objective]] = {
    **MAKERS,
    "adversarial": lambda: Adversarial(BidirectionalDistillation(), compliance_below=0),
    "adversarial_nll": lambda: Adversarial(CrossEntropy(), criterion="answer_nll"),
    "everywhere": lambda: DeclineEverywhere(BidirectionalDistillation()),
    "sharpness_aware": lambda: SharpnessAware(BidirectionalDistillation()),
}


def values(objective: Objective, batch: TokenBatch, student: PreTrainedModel) -> Tensor:
    teacher = FrozenReader(make_tiny_model(seed=1))
    return objective(batch, ModelReader(student), teacher).values


@pytest.mark.parametrize("name", ALL)
def test_padding_changes_nothing(name: str, tiny_model: PreTrainedModel) -> None:
    """A row gives the same terms alone and beside a longer row."""
    alone = values(ALL[name](), collate([[SHORT]], 0), tiny_model)
    beside = values(ALL[name](), collate([[SHORT], [LONG]], 0), tiny_model)
    torch.testing.assert_close(beside[: len(alone)], alone, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_row_order_changes_nothing(name: str, tiny_model: PreTrainedModel) -> None:
    one = values(ALL[name](), collate([[SHORT], [LONG]], 0), tiny_model).mean()
    other = values(ALL[name](), collate([[LONG], [SHORT]], 0), tiny_model).mean()
    torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ALL)
def test_pad_id_changes_nothing(name: str, tiny_model: PreTrainedModel) -> None:
    one = values(ALL[name](), collate([[SHORT], [LONG]], 0), tiny_model)
    other = values(ALL[name](), collate([[SHORT], [LONG]], 7), tiny_model)
    torch.testing.assert_close(one, other)


class _Given(Reader):
    """A reader that gives fixed logits and remembers them, for their gradient."""

    def __init__(self, logits: Tensor) -> None:
        self.all = logits

    def logits(self, tokens: Tokens) -> Tensor:
        return self.all[tokens.rows, tokens.columns]


@pytest.mark.parametrize("name", ALL)
def test_gradient_on_target_positions_only(name: str) -> None:
    batch = collate([[SHORT], [LONG]], 0)
    logits = torch.randn(2, 8, 50, requires_grad=True)
    teacher = _Given(torch.randn(2, 9, 50))
    ALL[name]()(batch, _Given(logits), teacher).values.sum().backward()
    assert logits.grad is not None
    touched = logits.grad.abs().sum(-1) > 0
    allowed = torch.zeros(2, 8, dtype=torch.bool)
    allowed[batch.student.rows, batch.student.columns] = True
    assert touched.any()
    assert not (touched & ~allowed).any()


@pytest.mark.parametrize("name", ["bidirectional", "hinge", "forward_kl", "reverse_kl", "jsd"])
def test_zero_at_the_teacher(name: str, tiny_model: PreTrainedModel) -> None:
    """Student = teacher and no context: no loss."""
    same = row("same", [5, 6], [7, 8])
    reader = ModelReader(tiny_model)
    terms = MAKERS[name]()(collate([[same]], 0), reader, reader)
    torch.testing.assert_close(terms.values, torch.zeros(2), atol=1e-5, rtol=0)


def test_first_position_only(tiny_model: PreTrainedModel) -> None:
    assert len(values(MAKERS["first_token"](), collate([[SHORT], [LONG]], 0), tiny_model)) == 2


def test_statistics_are_logged(tiny_model: PreTrainedModel) -> None:
    terms = BidirectionalDistillation()(
        collate([[SHORT]], 0), ModelReader(tiny_model), FrozenReader(tiny_model)
    )
    assert set(terms.statistics) == {"pull", "push", "outside_mass"}
    assert not any(value.requires_grad for value in terms.statistics.values())


def test_either_direction_alone(tiny_model: PreTrainedModel) -> None:
    """Pull and push alone add up to both; with neither nothing is left."""
    weights = {"both": (1, 1), "pull": (1, 0), "push": (0, 1), "neither": (0, 0)}
    found = {
        name: values(
            BidirectionalDistillation(pull_weight=pull, push_weight=push),
            collate([[SHORT], [LONG]], 0),
            tiny_model,
        )
        for name, (pull, push) in weights.items()
    }
    assert found["pull"].sum() > 0
    assert found["push"].sum() > 0
    torch.testing.assert_close(found["pull"] + found["push"], found["both"])
    assert (found["neither"] == 0).all()


def test_worst_of_each_group() -> None:
    """Groups 0 and 1 with three and two candidates; a NaN is the worst, ties go to the first."""
    values = torch.tensor([1.0, 3.0, 2.0, 5.0, 5.0])
    groups = torch.tensor([0, 0, 0, 1, 1])
    assert worst(values, groups).tolist() == [1, 3]
    values[0] = torch.nan
    assert worst(values, groups).tolist() == [0, 3]


@pytest.mark.parametrize("criterion", ["loss", "answer_nll"])
def test_adversarial_trains_on_the_worst_prefill(
    criterion: str, tiny_model: PreTrainedModel
) -> None:
    """Of several candidates the one with the highest loss gives exactly the inner objective's."""
    candidates = [row("q", [5, 6, k], [7, 8]) for k in (20, 30, 50)]
    inner = CrossEntropy()
    reader = ModelReader(tiny_model)
    alone = [inner(collate([[c]], 0), reader, None).values for c in candidates]
    hardest = max(alone, key=lambda terms: float(terms.detach().mean()))
    objective = Adversarial(inner, criterion=criterion)  # type: ignore[arg-type]
    terms = objective(collate([candidates], 0), reader, None)
    torch.testing.assert_close(terms.values, hardest)


def test_adversarial_without_criterion_trains_on_all_candidates(
    tiny_model: PreTrainedModel,
) -> None:
    batch = collate([[row("q", [5, 6, k], [7, 8]) for k in (20, 30, 50)]], 0)
    inner, reader = CrossEntropy(positions=1), ModelReader(tiny_model)
    found = Adversarial(inner, criterion="none")(batch, reader, None)
    torch.testing.assert_close(found.values, inner(batch, reader, None).values)
    assert found.rows.tolist() == [0, 1, 2]


def test_complying_teacher_is_replaced_by_the_unprefilled() -> None:
    """The teacher gives the answer's first token (7) no probability after the prefill.

    The un-prefilled teacher is sure of 17, the spelling of 7 without a space; exchanged, it is
    sure of 7, so the pull target at the first position has its top at 7.
    """
    encoded = EncodedExample("q", (5, 6, 7, 8), 2, (5, 6, 7, 8), 2, 2, (5, 17, 8), 1, "Sure")
    batch = collate([[encoded]], 0)

    class Teacher(Reader):
        def logits(self, tokens: Tokens) -> Tensor:
            unprefilled = tokens.input_ids.shape[1] == 3
            logits = torch.zeros(len(tokens.rows), 20)
            logits[:, 17 if unprefilled else 3] = 30
            return logits.requires_grad_()

    target, complied = Adversarial(ForwardKL())._teacher(batch, Teacher())
    assert target is not None
    assert not target.requires_grad
    assert target[0].argmax() == 7
    assert complied is not None
    assert complied.tolist() == [1.0]
    trusted, _ = Adversarial(ForwardKL(), compliance_below=0)._teacher(batch, Teacher())
    assert trusted is not None
    assert trusted[0].argmax() == 3
    twins = torch.arange(20).repeat(2, 1)
    twins[0, 13], twins[1, 3] = 3, 13
    respelt, _ = Adversarial(ForwardKL())._teacher(replace(batch, spellings=twins), Teacher())
    assert respelt is not None
    assert respelt[0].argmax() == 7
    always = Adversarial(ForwardKL(), compliance_below=1)
    assert always.teacher_inputs(batch) == [batch.unprefilled]
    torch.testing.assert_close(always._teacher(batch, Teacher())[0], target)
    question = collate([[replace(encoded, target_count=0, student_ids=(5, 6))]], 0)
    with pytest.raises(
        InputError, match=r"`Adversarial.compliance_below`.*`answer: none`.*Set it to 0"
    ):
        Adversarial(ForwardKL())._teacher(question, Teacher())


def test_schedules_worked_values() -> None:
    assert [LinearWarmup(4).factor(s) for s in (0, 1, 3, 9)] == [0.25, 0.5, 1.0, 1.0]
    assert [LinearDecay(4, start=2).factor(s) for s in (0, 2, 3, 6, 9)] == [1, 1, 0.75, 0, 0]
    assert Constant().factor(7) == 1
    assert CrossEntropy(weight=2, schedule=LinearWarmup(2)).weight_at(0) == 1


def test_bad_input(tiny_model: PreTrainedModel) -> None:
    with pytest.raises(InputError, match=r"`CrossEntropy.weight`.*Found -1"):
        CrossEntropy(weight=-1)
    with pytest.raises(InputError, match=r"`CrossEntropy.positions`"):
        CrossEntropy(positions=0)
    with pytest.raises(InputError, match=r"`BidirectionalDistillation.top_k`"):
        BidirectionalDistillation(top_k=0)
    with pytest.raises(InputError, match=r"`GeneralizedJSD.beta`"):
        GeneralizedJSD(beta=1.0)
    with pytest.raises(InputError, match="needs a teacher"):
        ForwardKL()(collate([[SHORT]], 0), ModelReader(tiny_model), None)
    question = row("question", [5, 6], [])
    with pytest.raises(InputError, match="`answer: none`"):
        CrossEntropy()(collate([[question]], 0), ModelReader(tiny_model), None)
    with pytest.raises(InputError, match=r"`LinearWarmup.steps`"):
        LinearWarmup(0)


@pytest.mark.parametrize("cls", [NPO, RMU, Adversarial, CrossEntropy])
def test_help_shows_inherited_fields(
    cls: type[Objective], capsys: pytest.CaptureFixture[str]
) -> None:
    """Every field has a text in --help, also where a base class documents it."""
    parser = ArgumentParser(prog="fit")
    parser.add_argument("--objectives", type=dict[str, Objective])
    with pytest.raises(SystemExit):
        parser.parse_args(["--objectives.help", cls.__name__])
    text = " ".join(capsys.readouterr().out.split())
    assert "weight WEIGHT Factor of the objective's gradient in the update" in text
    for field in fields(cls):
        if field.init:
            choices = r"(\{\S+\}|[A-Z_]+)"
            assert re.search(rf"--objectives.{field.name} {choices} [A-Z\dc][^(-]+", text), (
                field.name
            )
