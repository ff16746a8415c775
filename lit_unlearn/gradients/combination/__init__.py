"""Combinations: rules that compute the update from the objectives' gradients themselves.

A weighting only reads inner products. A combination reads the gradients element by element, so it
needs all of them at once. To add one, write a subclass of `Combination`.
"""

from lit_unlearn.gradients.combination.base import Combination, TwoSidedCombination, check_alone
from lit_unlearn.gradients.combination.dual_optim import DualOptimPlus
from lit_unlearn.gradients.combination.repselect import RepSelect, collapsed
from lit_unlearn.gradients.combination.sago import SAGO, sign_agreement

__all__ = [
    "SAGO",
    "Combination",
    "DualOptimPlus",
    "RepSelect",
    "TwoSidedCombination",
    "check_alone",
    "collapsed",
    "sign_agreement",
]
