"""Weightings of the package TorchJD that this package does not have."""

from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.base import Weighting, not_a_number

__all__ = ["TorchJD"]


@dataclass
class TorchJD(Weighting):
    """Any aggregator or weighting of TorchJD (MIT licence) that needs no more than the Gramian.

    Needs ``pip install 'lit-unlearn[torchjd]'``. Some classes need further packages, which TorchJD
    names; those of UPGrad, DualProj and NashMTL are under the GPL, and this package has classes of
    its own for these three. TorchJD differs from the weightings here: zero gradients are not left
    out, results can change with the order of the objectives, PCGrad and GradVac draw from the
    global generator of torch, and state (as of GradVac) is not saved in checkpoints.

    Args:
        name: Name of the class, such as `FairGrad` or `KrumWeighting`: in `torchjd.aggregation`, or
            with its module.
        arguments: Arguments of its constructor, by name.
    """

    name: str
    arguments: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        self.weighting = _weighting_of(self.name, _make(self.name, self.arguments or {}))

    def __call__(self, gramian: Tensor) -> Tensor:
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        weights: Tensor = self.weighting(gramian.to(torch.float64, copy=True))
        return weights.detach().to(gramian.device, torch.float64)


def _make(name: str, arguments: dict[str, Any]) -> object:
    path, _, last = name.rpartition(".")
    try:
        module = import_module(path or "torchjd.aggregation")
    except ImportError as error:
        raise InputError(
            "Weighting TorchJD needs the package torchjd. Found none. "
            f"Run: pip install 'lit-unlearn[torchjd]' ({error})"
        ) from error
    made = getattr(module, last, None)
    if not isinstance(made, type):
        raise InputError(
            f"Parameter `name` of TorchJD should be a class of {module.__name__}. Found {name!r}. "
            "Take a name from TorchJD's documentation of its aggregators."
        )
    try:
        result: object = made(**arguments)
    except (ImportError, TypeError, ValueError) as error:
        raise InputError(f"TorchJD cannot make {name} from {arguments}: {error}") from error
    return result


def _weighting_of(name: str, made: object) -> nn.Module:
    """Return the part of an aggregator that reads the Gramian, or a weighting unchanged."""
    from torchjd.aggregation import Aggregator
    from torchjd.aggregation import Weighting as TheirWeighting

    found = getattr(made, "gramian_weighting", None) if isinstance(made, Aggregator) else made
    if not isinstance(found, TheirWeighting):
        raise InputError(
            "Parameter `name` of TorchJD should be a weighting of the Gramian, or an aggregator "
            f"that has one (`gramian_weighting`). Found {name}."
        )
    return found
