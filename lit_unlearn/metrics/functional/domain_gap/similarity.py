"""Linear centred kernel alignment (CKA): how alike two representations are, up to rotation.

Kornblith et al. 2019, "Similarity of Neural Network Representations Revisited", ICML, section 3.
"""

from __future__ import annotations

import math

from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.metrics.functional.domain_gap.samples import checked


def linear_cka(first: Tensor, second: Tensor) -> float:
    """``|Y' X|^2 / (|X' X| |Y' Y|)`` of centred columns: 1 for equal up to rotation and scale.

    For the same rows in two representations (two layers, two models, two surface forms). With fewer
    rows than features it is biased upwards: independent noise of n rows and many features has
    nearly 1.

    Args:
        first: ``[n, d]``.
        second: ``[n, e]``, the same rows.

    Returns:
        0 to 1; NaN where one of the two does not vary.

    Raises:
        InputError: The numbers of rows differ, or are below 2.
    """
    if first.dim() != 2 or second.dim() != 2 or len(first) != len(second) or len(first) < 2:
        raise InputError(
            "Parameters `first` and `second` should be representations of the same rows, at least "
            f"2. Found {list(first.shape)} and {list(second.shape)}."
        )
    x, y = (_centred(sample.detach().cpu().double()) for sample in (first, second))
    return _alignment(x @ x.T, y @ y.T)


def covariance_cka(first: Tensor, second: Tensor) -> float:
    """``tr(C1 C2) / (|C1| |C2|)`` of two domains' covariances: do they vary in the same directions?

    CKA with features in the place of rows, since rows of two domains do not correspond; each domain
    is centred, so that the distance of their means plays no part. 1 for covariances equal up to
    scale, 0 for domains in orthogonal subspaces.

    Args:
        first: ``[n, d]``, at least 2 rows.
        second: ``[m, d]``, at least 2 rows.

    Returns:
        0 to 1; NaN where one of the two does not vary.

    Raises:
        InputError: See `checked`.
    """
    first, second = checked(first, second, least=2)
    x, y = _centred(first), _centred(second)
    size = float((x @ x.T).norm() * (y @ y.T).norm())  # |X' X| = |X X'|
    return float((x @ y.T).norm() ** 2) / size if size > 0 else math.nan


def _centred(sample: Tensor) -> Tensor:
    return sample - sample.mean(0)


def _alignment(first: Tensor, second: Tensor) -> float:
    size = float(first.norm() * second.norm())
    return float((first * second).sum()) / size if size > 0 else math.nan
