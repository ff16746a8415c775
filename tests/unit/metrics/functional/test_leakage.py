"""leak@k against every choice of k replies."""

from __future__ import annotations

import math
from itertools import combinations
from statistics import mean

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.leakage import leak_at_k


def test_by_hand() -> None:
    """One of four leaks: of the 6 pairs 3 hold it. 2 of 200 and k = 100: 1 - 99 / 398."""
    assert leak_at_k([0, 1, 0, 0], 2) == 1 / 2
    assert leak_at_k([1, 1, *[0] * 198], 100) == pytest.approx(1 - 99 / 398)
    assert leak_at_k([True] + [False] * 2999, 3000) == 1
    assert math.isnan(leak_at_k([0.5, math.nan], 1))


@pytest.mark.parametrize("k", [1, 2, 3, 5])
def test_it_is_the_mean_over_all_choices(k: int) -> None:
    scores = [0.3, 0.9, 0.0, 0.3, 0.55]
    wanted = mean(max(chosen) for chosen in combinations(scores, k))
    assert leak_at_k(scores, k) == pytest.approx(wanted)


@pytest.mark.parametrize("k", [0, 3])
def test_k_out_of_range(k: int) -> None:
    with pytest.raises(InputError, match=rf"`k` should be from 1 .* Found {k} for 2 replies"):
        leak_at_k([0, 1], k)
