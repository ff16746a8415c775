"""What every weighting keeps to, stated once and applied to all of them.

A test goes through all Gramians of `tests.inputs`; the failing one is in the traceback's locals.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from lit_unlearn.errors import InputError
from lit_unlearn.gradients import weighting as package
from lit_unlearn.gradients.diagnostics import norms
from lit_unlearn.gradients.weighting import (
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    ConFIG,
    DualProj,
    Fixed,
    GradVac,
    NashMTL,
    NGDiff,
    OneSidedProjection,
    PCGrad,
    TwoSided,
    UPGrad,
    Weighting,
)
from tests import asserts
from tests.inputs import GRAMIANS, HARMONIOUS, jacobian

Rule = Callable[[Tensor], Tensor]


class Afresh:
    """A new weighting for each Gramian; one that learns has seen that Gramian once before."""

    def __init__(self, make: Callable[[], Weighting]) -> None:
        self.make = make

    def __call__(self, gramian: Tensor) -> Tensor:
        weighting = self.make()
        weighting.bind([f"objective {i}" for i in range(len(gramian))])
        if weighting.learnt:
            weighting(gramian)
        return weighting(gramian)


WEIGHTINGS: dict[str, Callable[[], Weighting]] = {
    "fixed": Fixed,
    "pcgrad": PCGrad,
    "gradvac": GradVac,
    "mgda": MGDA,
    "mgda_normalize": lambda: MGDA(normalize=True),
    "cagrad": CAGrad,
    "cagrad_wide": lambda: CAGrad(c=0.95),
    "upgrad": UPGrad,
    "dualproj": DualProj,
    "imtlg": IMTLG,
    "config": ConFIG,
    "alignedmtl": AlignedMTL,
    "alignedmtl_median": lambda: AlignedMTL("median"),
    "alignedmtl_rmse": lambda: AlignedMTL("rmse"),
    "nashmtl": NashMTL,
}
MAY_BE_NEGATIVE = {"imtlg", "config", "alignedmtl", "alignedmtl_median", "alignedmtl_rmse"}
NEVER_IN_CONFLICT = ["mgda", "mgda_normalize", "upgrad", "dualproj"]
NOTHING_FOR_THE_DEAD = [n for n in WEIGHTINGS if n not in ("fixed", "pcgrad", "gradvac")]
TWO_SIDED: dict[str, Callable[[tuple[str, ...]], TwoSided]] = {
    "ngdiff": NGDiff,
    "pcgrad_one_sided": OneSidedProjection,
    "gru": lambda forget: OneSidedProjection(forget, add_other=False),
    "prism": lambda forget: OneSidedProjection(forget, when="always"),
    "blur": lambda forget: OneSidedProjection(forget, "retain", "always"),
}

of_all = pytest.mark.parametrize("name", WEIGHTINGS)
of_two_sided = pytest.mark.parametrize("name", TWO_SIDED)
SEVERAL = {name: gramian for name, gramian in GRAMIANS.items() if len(gramian) > 1}


def test_every_weighting_is_here() -> None:
    exported = {getattr(package, name) for name in package.__all__}
    concrete = {c for c in exported if issubclass(c, Weighting) and not c.__abstractmethods__}
    here = {type(make()) for make in WEIGHTINGS.values()}
    here |= {type(make(("objective 0",))) for make in TWO_SIDED.values()}
    assert concrete - here == {package.TorchJD}


def test_inputs_are_what_their_names_say() -> None:
    assert {"aligned", "orthogonal", "equal", "one_zero"} <= set(HARMONIOUS)
    assert (GRAMIANS["conflicting"] < 0).any()


# ---------------------------------------------------------------------------- any objective alike


@of_all
def test_finite(name: str) -> None:
    """One finite float64 weight per objective, and the input left as it was."""
    for gramian in GRAMIANS.values():
        before = gramian.clone()
        weights = Afresh(WEIGHTINGS[name])(gramian)
        assert weights.shape == (len(gramian),)
        assert weights.dtype == torch.float64
        assert weights.isfinite().all(), weights
        assert name in MAY_BE_NEGATIVE or (weights >= 0).all(), weights
        assert torch.equal(gramian, before)


@pytest.mark.parametrize("name", [n for n, make in WEIGHTINGS.items() if not make().learnt])
def test_what_learns_nothing_says_the_same_again(name: str) -> None:
    for gramian in GRAMIANS.values():
        weighting = WEIGHTINGS[name]()
        weighting.bind([f"objective {i}" for i in range(len(gramian))])
        assert torch.equal(weighting(gramian), weighting(gramian))


@pytest.mark.parametrize(
    "property_",
    [
        asserts.assert_finite_for_zero_gradients,
        asserts.assert_permutation_equivariant,
        asserts.assert_scale_invariant,
    ],
    ids=lambda p: p.__name__,
)
@of_all
def test_properties_of_all(name: str, property_: Callable[[Rule, Tensor], None]) -> None:
    for gramian in GRAMIANS.values():
        property_(Afresh(WEIGHTINGS[name]), gramian)


@pytest.mark.parametrize("name", NEVER_IN_CONFLICT)
def test_no_conflict(name: str) -> None:
    for gramian in GRAMIANS.values():
        asserts.assert_non_conflicting(Afresh(WEIGHTINGS[name]), gramian)


@pytest.mark.parametrize("name", NOTHING_FOR_THE_DEAD)
def test_nothing_for_the_dead(name: str) -> None:
    for gramian in GRAMIANS.values():
        asserts.assert_nothing_for_the_dead(Afresh(WEIGHTINGS[name]), gramian)


def test_surgery_leaves_harmony_alone() -> None:
    for gramian in HARMONIOUS.values():
        asserts.assert_leaves_harmony_alone(PCGrad(), gramian)
        asserts.assert_leaves_harmony_alone(GradVac(), gramian)  # its targets start at 0


@pytest.mark.parametrize("name", ["upgrad", "dualproj"])
def test_cone_projections_leave_harmony_alone(name: str) -> None:
    """The mean of the gradients that are not zero, if none of them are in conflict."""
    for gramian in HARMONIOUS.values():
        alive = gramian.diagonal() > 0
        expected = alive.double() / alive.sum().clamp(min=1)
        assert_close(Afresh(WEIGHTINGS[name])(gramian), expected)


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("name", [n for n in WEIGHTINGS if n != "fixed"])
def test_non_finite_gradients_come_through(name: str, value: float) -> None:
    gramian = GRAMIANS["random_3"].clone()
    gramian[1, 1] = value
    assert Afresh(WEIGHTINGS[name])(gramian).isnan().all()


@pytest.mark.parametrize("name", ["mgda", "mgda_normalize", "cagrad", "upgrad", "dualproj"])
def test_too_many_objectives_to_try_every_set(name: str) -> None:
    with pytest.raises(InputError, match=r"at most 12 .* Found 13.*PCGrad"):
        Afresh(WEIGHTINGS[name])(torch.eye(13, dtype=torch.float64))


def test_single_objective_keeps_its_direction() -> None:
    """One gradient alone is never turned round or dropped."""
    for name, make in WEIGHTINGS.items():
        assert Afresh(make)(GRAMIANS["random_1"]).item() > 0.4, name


# ------------------------------------------------------------------------------- the forget side


def _two_sided(name: str, count: int, order: list[int] | None = None) -> TwoSided:
    """The first objective (and the third, of four or more) forgets; the rows come in that order."""
    forget = ("objective 0",) if count < 4 else ("objective 0", "objective 2")
    weighting = TWO_SIDED[name](forget)
    weighting.bind([f"objective {i}" for i in order or range(count)])
    return weighting


@of_two_sided
def test_two_sided_is_finite(name: str) -> None:
    for gramian in SEVERAL.values():
        weights = _two_sided(name, len(gramian))(gramian)
        assert weights.shape == (len(gramian),)
        assert weights.dtype == torch.float64
        assert weights.isfinite().all(), weights


@of_two_sided
def test_two_sided_scales_with_the_gradients(name: str) -> None:
    for gramian in SEVERAL.values():
        asserts.assert_scale_invariant(_two_sided(name, len(gramian)), gramian)


@of_two_sided
def test_two_sided_follows_names_not_places(name: str) -> None:
    for gramian in SEVERAL.values():
        weights = _two_sided(name, len(gramian))(gramian)
        order = list(range(len(gramian)))[::-1]
        permuted = _two_sided(name, len(gramian), order)(gramian[order][:, order])
        effects = norms(gramian)[order] / norms(gramian).max().clamp(min=1e-300)
        assert_close(permuted * effects, weights[order] * effects, rtol=1e-6, atol=1e-9)


@of_two_sided
def test_two_sided_ignores_dead_objectives(name: str) -> None:
    """A zero gradient beside a live one on its side changes no weight."""
    for gramian in (g for g in SEVERAL.values() if len(g) >= 4):
        dead = gramian.clone()
        dead[2] = dead[:, 2] = 0
        others = [0, 1, *range(3, len(gramian))]
        alone = TWO_SIDED[name](("objective 0",))
        alone.bind([f"objective {i}" for i in others])
        expected = alone(gramian[others][:, others])
        assert_close(_two_sided(name, len(gramian))(dead)[others], expected)


@of_two_sided
def test_two_sided_without_one_side_leaves_all_as_it_is(name: str) -> None:
    """Only GRU's retain side, which is never part of the update, is none here either."""
    gramian = GRAMIANS["random_3"].clone()
    gramian[0] = gramian[:, 0] = 0
    rest = 0 if name == "gru" else 1
    assert _two_sided(name, 3)(gramian).tolist() == [1, rest, rest]


@of_two_sided
def test_two_sided_lets_non_finite_gradients_through(name: str) -> None:
    gramian = GRAMIANS["random_3"].clone()
    gramian[1, 1] = torch.nan
    assert _two_sided(name, 3)(gramian).isnan().all()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("name", ["ngdiff", "pcgrad_one_sided", "gru"])
def test_two_sided_never_hurts_the_retain_side(name: str, seed: int) -> None:
    """``<u, g_r> >= 0`` with g_r the sum of the gradients of the retain side."""
    rows = jacobian(4, 6, seed)
    weights = _two_sided(name, 4)(rows @ rows.T)
    retain = rows[1] + rows[3]
    assert (weights @ rows) @ retain >= -1e-9 * rows.norm() ** 2
