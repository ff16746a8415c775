"""Weightings of the package TorchJD, for what is not implemented here."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting.base import Weighting, not_a_number


class TorchJD(Weighting):
    """Any aggregator or weighting of TorchJD (MIT licence) that needs no more than the Gramian.

    Needs ``pip install 'lit-unlearn[torchjd]'``. Some classes need further packages, which TorchJD
    names; those of UPGrad, DualProj and NashMTL are under the GPL, and this package has classes of
    its own for these three. TorchJD computes in its own way: zero gradients are not left out,
    results can change with the order of the objectives, PCGrad and GradVac draw from the global
    generator of torch, and state (as of GradVac) is not kept in checkpoints.

    Args:
        name: Name of the class, such as `FairGrad` or `KrumWeighting`: in `torchjd.aggregation`, or
            with its module.
        arguments: What its constructor is given, by name.
    """

    def __init__(self, name: str, arguments: dict[str, Any] | None = None) -> None:
        super().__init__()
        made = _make(name, arguments or {})
        # A plain object, not a submodule: its state comes and goes, and would break checkpoints.
        self.__dict__["weighting"] = _weighting_of(name, made)

    def forward(self, gramian: Tensor) -> Tensor:
        if not gramian.isfinite().all():
            return not_a_number(gramian)
        weighting: nn.Module = self.__dict__["weighting"]
        weights: Tensor = weighting(gramian.to(torch.float64, copy=True))
        return weights.detach().to(gramian.device, torch.float64)


def _make(name: str, arguments: dict[str, Any]) -> object:
    """An object of the class of that name."""
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
    """The part of an aggregator that reads the Gramian, or a weighting as it is."""
    from torchjd.aggregation import Aggregator
    from torchjd.aggregation import Weighting as TheirWeighting

    found = getattr(made, "gramian_weighting", None) if isinstance(made, Aggregator) else made
    if not isinstance(found, TheirWeighting):
        raise InputError(
            "Parameter `name` of TorchJD should be a weighting of the Gramian, or an aggregator "
            f"that has one (`gramian_weighting`). Found {name}."
        )
    return found
