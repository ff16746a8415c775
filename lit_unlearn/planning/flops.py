"""FLOPs of a step, from shapes. A multiplication and an addition are two FLOPs.

With n tokens in a forward pass (without padding, common beginnings once) and N answer positions,
for a linear layer of i inputs and o outputs (an adapter of rank q adds q (i + o) to i o):

    forward      2 n i o; the output head 2 N D V
    backward     2 n i o for the gradient of the input, and as much for that of the weight if it is
                 trained; nothing below the lowest trained parameter
    attention    4 T^2 A for each row and block forward, as if every token attended to its whole
                 row; a common beginning counts once. 2.5 times as much backward
    stored trunk nothing forward below the lowest trained block
    recomputing  the forward pass of every block again, with activation checkpointing
    scoring      forward passes of the student without gradient
    teacher      a forward pass; with a cache, the output head only

Seconds of a step are these FLOPs divided by a rate: that of a large matrix product on this machine,
or 20 to 50 % of the peak in a device's data sheet. All else is left out: the optimizer, the
gradients' inner products and sketches, communication between devices, loading, evaluation,
checkpoints.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from lit_unlearn.planning.forward_passes import ForwardPass, MicroBatch, Steps
from lit_unlearn.planning.layout import Layout, Matrix

if TYPE_CHECKING:  # commands without a training run need not import it
    from lit_unlearn.planning.scenario import Scenario

__all__ = ["KINDS", "Flops", "backward_flops", "forward_flops", "step_flops"]

KINDS = ("forward", "backward", "recomputing", "scoring", "teacher")

Flops = dict[str, float]
"""FLOPs of one device in one step, by kind."""


def step_flops(scenario: Scenario, steps: Steps) -> dict[str, Flops]:
    """Return the FLOPs of each objective in a step, averaged over the steps."""
    found = {name: dict.fromkeys(KINDS, 0.0) for name in steps[0]}
    for step in steps:
        for name, batches in step.items():
            for batch in batches:
                for kind, flops in _batch_flops(scenario, batch):
                    found[name][kind] += batch.repeats * flops / len(steps)
    return found


def _batch_flops(scenario: Scenario, batch: MicroBatch) -> Iterator[tuple[str, float]]:
    layout = scenario.student
    for one in batch.passes:
        lowest = layout.lowest if scenario.stored_trunk and one.packed else 0
        if one.model == "teacher":
            yield "teacher", _teacher_flops(scenario, one)
        elif not one.gradient:
            yield "scoring", forward_flops(layout, one, lowest)
        else:
            yield "forward", forward_flops(layout, one, lowest)
            yield "backward", backward_flops(layout, one)
            if scenario.source.activation_checkpointing:
                yield "recomputing", _block_flops(layout, one, layout.lowest)


def _teacher_flops(scenario: Scenario, one: ForwardPass) -> float:
    teaching = scenario.teaching
    layout = teaching.layout or scenario.student
    if teaching.cached:
        return _head_flops(layout, one)
    return forward_flops(layout, one) * max(teaching.copies, 1)


def forward_flops(layout: Layout, one: ForwardPass, lowest: int = 0) -> float:
    """Return the FLOPs of all blocks from ``lowest`` on, and of the output head."""
    return _block_flops(layout, one, lowest) + _head_flops(layout, one)


def _block_flops(layout: Layout, one: ForwardPass, lowest: int) -> float:
    """Return the forward FLOPs of the blocks from ``lowest`` on."""
    matrices = [m for m in layout.matrices if m.role != "head" and m.block >= lowest]
    return 2.0 * one.tokens * sum(map(_elements, matrices)) + _attention(layout, one, lowest)


def _head_flops(layout: Layout, one: ForwardPass) -> float:
    return 2.0 * one.predictions * _elements(layout.head)


def backward_flops(layout: Layout, one: ForwardPass) -> float:
    """Return the FLOPs of a backward pass down to the lowest trained parameter."""
    total = 2.5 * _attention(layout, one, layout.lowest + (layout.reach > 1))
    for matrix in layout.matrices:
        if matrix.block < layout.lowest:
            continue
        share = one.predictions if matrix.role == "head" else one.tokens
        above = layout.is_above(matrix)
        weights = matrix.inputs * matrix.outputs * (above + matrix.trained)
        adapters = matrix.rank * (matrix.inputs * (1 + above) + 2 * matrix.outputs)
        total += 2.0 * share * (weights + adapters)
    return total


def _elements(matrix: Matrix) -> int:
    return matrix.inputs * matrix.outputs + matrix.rank * (matrix.inputs + matrix.outputs)


def _attention(layout: Layout, one: ForwardPass, lowest: int) -> float:
    widths = [m.inputs for m in layout.matrices if m.role == "attention_out" and m.block >= lowest]
    return 4.0 * one.squares * sum(widths)
