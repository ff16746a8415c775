"""Worked values and properties of the pure losses."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_unlearn.objectives import losses

PUSHES: tuple[losses.Push, ...] = ("lower", "match", "hinge", "unlikelihood", "suppress")
LITERAL: Any = {"space": "logit", "entries": "uniform", "push": "match", "delta": 1.0}
"""The paper's words: raw logits, a mean over the top K, the same distance in both directions."""


def _bidirectional(student: Tensor, teacher: Tensor, **options: Any) -> Tensor:
    terms = losses.bidirectional(student, teacher, top_k=3, push_top_k=4, **options)
    return terms.pull + terms.push


PAIR_LOSSES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "forward_kl": losses.forward_kl,
    "reverse_kl": losses.reverse_kl,
    "jsd": lambda s, t: losses.generalized_jsd(s, t, 0.3),
    "bidirectional_literal": lambda s, t: _bidirectional(s, t, **LITERAL),
    **{
        f"bidirectional_{push}": lambda s, t, push=push: _bidirectional(s, t, push=push)
        for push in PUSHES
    },
}


@pytest.fixture
def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(5, 11, generator=generator) * 3, torch.randn(5, 11, generator=generator) * 3


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_zero_at_the_teacher(name: str, logits: tuple[Tensor, Tensor]) -> None:
    student = logits[0].clone().requires_grad_()
    values = PAIR_LOSSES[name](student, logits[0])
    torch.testing.assert_close(values, torch.zeros(5), atol=1e-6, rtol=0)
    values.sum().backward()
    assert student.grad is not None
    assert student.grad.abs().max() < 1e-6


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_rows_are_independent(name: str, logits: tuple[Tensor, Tensor]) -> None:
    """Order and company of the predictions change no value."""
    student, teacher = logits
    order = torch.tensor([4, 2, 0])
    together = PAIR_LOSSES[name](student, teacher)
    torch.testing.assert_close(PAIR_LOSSES[name](student[order], teacher[order]), together[order])


@pytest.mark.parametrize("name", [n for n in PAIR_LOSSES if n != "bidirectional_suppress"])
def test_positive_away_from_the_teacher(name: str, logits: tuple[Tensor, Tensor]) -> None:
    assert (PAIR_LOSSES[name](*logits) > 0).all()


@pytest.mark.parametrize("name", PAIR_LOSSES)
def test_finite_for_extreme_logits(name: str) -> None:
    """A forgotten token may have any logit; values and gradients stay finite."""
    student = torch.tensor([[1e4, -1e4, 0.0, 5.0, 1.0, 2.0]], requires_grad=True)
    values = PAIR_LOSSES[name](student, -student.detach())
    values.sum().backward()
    assert student.grad is not None
    assert torch.isfinite(values).all()
    assert torch.isfinite(student.grad).all()


def test_kl_worked_values() -> None:
    """Two tokens: T = (3/4, 1/4), S = (1/2, 1/2).

    KL(T||S) = 3/4 ln(3/2) + 1/4 ln(1/2) = 0.130812; KL(S||T) = 1/2 ln(2/3) + 1/2 ln 2 = 0.143841.
    """
    teacher, student = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    assert losses.forward_kl(student, teacher).item() == pytest.approx(0.130812, abs=1e-6)
    assert losses.reverse_kl(student, teacher).item() == pytest.approx(0.143841, abs=1e-6)


def test_jsd_worked_value_and_limit() -> None:
    """beta = 1/2 for the pair above: m = (5/8, 3/8).

    1/2 (3/4 ln 6/5 + 1/4 ln 2/3) + 1/2 (1/2 ln 4/5 + 1/2 ln 4/3) = 0.033822. And
    JSD / beta tends to KL(T||S) as beta -> 0.
    """
    teacher, student = torch.tensor([[0.75, 0.25]]).log(), torch.tensor([[0.5, 0.5]]).log()
    value = losses.generalized_jsd(student, teacher, 0.5).item()
    expected = 0.5 * (0.75 * math.log(1.2) + 0.25 * math.log(2 / 3)) + 0.25 * (
        math.log(0.8) + math.log(4 / 3)
    )
    assert value == pytest.approx(expected, abs=1e-7)
    limit = losses.generalized_jsd(student.double(), teacher.double(), 1e-6).item() / 1e-6
    assert limit == pytest.approx(0.130812, abs=1e-4)


def test_cross_entropy_worked_value() -> None:
    """Uniform over 4 tokens: ln 4 nats."""
    value = losses.cross_entropy(torch.zeros(1, 4), torch.tensor([2]))
    assert value.item() == pytest.approx(math.log(4), abs=1e-6)


def test_bidirectional_worked_values() -> None:
    """V = 4, K = 1, K' = 1, delta = 1; g_T = (3, 0, 0, 0), g_S = (1, 2, 0, 0).

    C+ = {0}, and C- = {1}, the student's top token outside C+. Raw: gap -2 on C+, huber = 2 - 1/2 =
    1.5; gap 2 on C-, match = 1.5. In log-probabilities with Z_S = e + e^2 + 2 and Z_T = e^3 + 3:
    gaps 1 - ln Z_S - 3 + ln Z_T = -1.3546 and 2 - ln Z_S + ln Z_T = 2.6454; lower = match = 2.6454
    - 1/2; hinge with margin 1 = 3.6454. p_S(1) = e^2 / Z_S = 0.610 298: unlikelihood =
    -ln(1 - p) / p, suppress = ln p. Outside: tokens 2 and 3, 2 / Z_S.
    """
    student = torch.tensor([[1.0, 2.0, 0.0, 0.0]])
    teacher = torch.tensor([[3.0, 0.0, 0.0, 0.0]])
    total = math.e + math.e**2 + 2
    p = math.e**2 / total
    expected = {
        "lower": 2.1454,
        "match": 2.1454,
        "hinge": 3.6454,
        "unlikelihood": -math.log(1 - p) / p,
        "suppress": math.log(p),
    }
    sizes: Any = {"top_k": 1, "push_top_k": 1, "margin": 1.0, "delta": 1.0}
    for push, value in expected.items():
        terms = losses.bidirectional(student, teacher, push=push, **sizes)  # type: ignore[arg-type]
        assert terms.pull.item() == pytest.approx(1.3546 - 0.5, abs=1e-4)
        assert terms.push.item() == pytest.approx(value, abs=1e-4)
        assert terms.outside_mass.item() == pytest.approx(2 / total, abs=1e-6)
    raw = losses.bidirectional(student, teacher, **{**sizes, **LITERAL})
    assert (raw.pull.item(), raw.push.item()) == pytest.approx((1.5, 1.5))


def test_entries_weighted_by_probability_worked_values() -> None:
    """V = 4, K = K' = 2: g_T = (ln 3, 0, -9, -9), g_S = (0, 0, ln 4, 0), all gaps within delta 10.

    C+ = {0, 1} with weights (3/4, 1/4): pull = 3/4 (ln 3)^2 / 2 + 0. C- = {2, 3} with the student's
    weights (4/5, 1/5): push = 4/5 (ln 4 + 9)^2 / 2 + 1/5 9^2 / 2. Uniform: halves instead.
    """
    student = torch.tensor([[0.0, 0.0, math.log(4), 0.0]])
    teacher = torch.tensor([[math.log(3), 0.0, -9.0, -9.0]])
    for entries, first, second in (("probability", 0.75, 0.8), ("uniform", 0.5, 0.5)):
        terms = losses.bidirectional(
            student,
            teacher,
            top_k=2,
            push_top_k=2,
            **{**LITERAL, "entries": entries, "delta": 20.0},
        )
        pull = first * math.log(3) ** 2 / 2
        push = second * (math.log(4) + 9) ** 2 / 2 + (1 - second) * 81 / 2
        assert terms.pull.item() == pytest.approx(pull, rel=1e-5)
        assert terms.push.item() == pytest.approx(push, rel=1e-5)


def shifted_pairs() -> tuple[Tensor, Tensor]:
    """Students sure of one token, and teachers that a context moved to another one, and up by 6."""
    generator = torch.Generator().manual_seed(5)
    student = torch.randn(64, 300, generator=generator) * 1.5
    teacher = torch.randn(64, 300, generator=generator) * 1.5 + 6
    student[:, 0] += torch.linspace(2, 12, 64)
    teacher[:, 1] += 10
    return student.requires_grad_(), teacher


@pytest.mark.parametrize("push", [push for push in PUSHES if push != "match"])
@pytest.mark.parametrize("space", ["log_probability", "logit"])
def test_push_lowers_what_only_the_student_says(push: Any, space: Any) -> None:
    """A descent step on the push alone lowers C-, in any space, and its top token.

    Literal `match` raises it in many rows, since the teacher's logits are higher by 6.
    """
    student, teacher = shifted_pairs()

    def change(**options: Any) -> tuple[Tensor, Tensor]:
        sizes: Any = {"top_k": 20, "push_top_k": 20}
        terms = losses.bidirectional(student, teacher, **sizes, **options)
        (gradient,) = torch.autograd.grad(terms.push.sum(), student)
        wanted = teacher.topk(20).indices
        rest = student.detach().scatter(-1, wanted, -torch.inf).topk(20).indices
        before, after = (z.softmax(-1).gather(-1, rest) for z in (student, student - gradient / 9))
        return after.sum(-1) - before.sum(-1), after[:, 0] - before[:, 0]

    rest, top = change(push=push, space=space)
    assert (rest < 0).all()
    assert (top < 0).all()
    assert (change(**LITERAL)[0] > 0).float().mean() > 0.4


def test_kinds_of_push_have_gradients_of_similar_length() -> None:
    """At the same weight, on students that are unsure of their token and sure of it."""
    student, teacher = shifted_pairs()
    lengths = {}
    for push in PUSHES:
        terms = losses.bidirectional(student, teacher, top_k=20, push_top_k=20, push=push)
        (gradient,) = torch.autograd.grad(terms.push.sum(), student)
        lengths[push] = gradient.norm(dim=-1).reshape(4, 16).mean(-1)
    for found in lengths.values():
        ratio = found / lengths["lower"]
        assert ratio.min() > 1 / 3
        assert ratio[:3].max() < 3  # unlikelihood does not fade where the student is surest


def test_log_probability_space_ignores_a_shift(logits: tuple[Tensor, Tensor]) -> None:
    student, teacher = logits
    in_space = {
        space: losses.bidirectional(student + 7, teacher, top_k=3, push_top_k=3, space=space).pull
        - losses.bidirectional(student, teacher, top_k=3, push_top_k=3, space=space).pull
        for space in ("logit", "log_probability")
    }
    assert in_space["log_probability"].abs().max() < 1e-5
    assert in_space["logit"].abs().max() > 1


def test_supports_larger_than_the_vocabulary(logits: tuple[Tensor, Tensor]) -> None:
    terms = losses.bidirectional(*logits, top_k=50, push_top_k=50)
    torch.testing.assert_close(terms.push, torch.zeros(5))
    torch.testing.assert_close(terms.outside_mass, torch.zeros(5), atol=1e-6, rtol=0)


@pytest.mark.parametrize("gap", [0.3, 3.0, 20.0, 1e4])
def test_unlikelihood_where_the_student_is_surest(gap: float) -> None:
    """Token 0 leads three others by the gap, which no teacher would say.

    -log(1 - p) / p = log(1 + e^gap / 3) / p; its gradient is 1 at the token, -1 / 3 at the others.
    """
    student = torch.tensor([[gap, 0.0, 0.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[0.0, 9.0, 0.0, 0.0]])
    terms = losses.bidirectional(student, teacher, top_k=1, push_top_k=1, push="unlikelihood")
    terms.push.sum().backward()
    exact = torch.tensor(gap - math.log(3), dtype=torch.float64)
    value = float(torch.nn.functional.softplus(exact) / exact.sigmoid())
    assert terms.push.item() == pytest.approx(value, rel=1e-5)
    assert student.grad is not None
    torch.testing.assert_close(student.grad, torch.tensor([[1.0, -1 / 3, -1 / 3, -1 / 3]]))


def test_exchange_tokens() -> None:
    logits = torch.arange(8.0).reshape(2, 4)
    exchanged = losses.exchange_tokens(
        logits, torch.tensor([1]), torch.tensor([0]), torch.tensor([3])
    )
    assert exchanged.tolist() == [[0, 1, 2, 3], [7, 5, 6, 4]]


def test_exchange_of_all_spellings() -> None:
    """Tokens 0 and 1, 2 and 3 are twins; 4 has none. A row with one spelling stays as it is."""
    logits = torch.arange(15.0).reshape(3, 5)
    rows, first, second = torch.tensor([0, 1, 2]), torch.tensor([0, 3, 0]), torch.tensor([1, 3, 4])
    twins = torch.tensor([[0, 0, 2, 2], [1, 1, 3, 3]])
    exchanged = losses.exchange_tokens(logits, rows, first, second, twins)
    assert exchanged[:2].tolist() == [[1, 0, 3, 2, 4], [5, 6, 7, 8, 9]]
    assert exchanged[2].tolist() == [11, 14, 13, 12, 10]  # 4 is no twin of 0: the pair as well
