"""Sums over processes: the gradients and figures of one global batch.

Each process backpropagates the sum over its rows. The sums are added up over the processes and
divided once, by the number of terms in all processes. This is the mean over the global batch even
if processes have different numbers of terms; a mean of their means is not.
"""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.tensor import DTensor

from lit_unlearn.distributed.ranks import gather, world_size
from lit_unlearn.utils.library_internals import scale_

__all__ = ["Totals", "first", "merged", "summed", "totals"]


@torch.no_grad()
def summed(gradient: list[Tensor | None], parameters: Sequence[Tensor]) -> list[Tensor | None]:
    """Return the sum of a gradient over all processes, which must all call this.

    Sharded gradients (DTensor) are averages already, and are multiplied by the number of processes.
    Others are added up here; a None counts as zero if another process has a gradient. ``gradient``
    must not be used afterwards.
    """
    world = world_size()
    if world == 1:
        return gradient
    sharded: list[Tensor] = [part for part in gradient if isinstance(part, DTensor)]
    if sharded:
        scale_(sharded, float(world))
        return gradient
    touched = [any(parts) for parts in zip(*gather([p is not None for p in gradient]), strict=True)]
    whole = [
        torch.zeros_like(parameter) if part is None and wanted else part
        for part, parameter, wanted in zip(gradient, parameters, touched, strict=True)
    ]
    pending = [dist.all_reduce(part, async_op=True) for part in whole if part is not None]
    for work in pending:
        work.wait()
    return whole


def first(values: Tensor) -> Tensor:
    """Return the first process's values in all processes, since random states may differ."""
    found: Tensor = gather(values)[0]
    return found


Totals = dict[str, tuple[float, int]]
"""Sum and count by name."""


def totals(parts: Sequence[dict[str, Tensor]]) -> Totals:
    """Return sums and counts of named values (``[n]`` each) over all parts."""
    single = [{n: (float(v.double().sum()), v.numel()) for n, v in part.items()} for part in parts]
    return merged(single)


def merged(every: Sequence[Totals]) -> Totals:
    """Add up totals, such as those of several processes."""
    found: Totals = {}
    for one in every:
        for name, (total, count) in one.items():
            before, counted = found.get(name, (0.0, 0))
            found[name] = (before + total, counted + count)
    return found
