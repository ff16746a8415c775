"""FLOPs and seconds per step, from shapes. A multiplication and an addition are two FLOPs.

With n tokens in a forward pass (padding is left out) and N answer positions, for a linear layer of
i inputs and o outputs (and an adapter of rank q beside it: i o becomes i o + q (i + o)):

    forward      2 n i o; the output head 2 N D V
    backward     2 n i o for the gradient of the input, and as much for that of the weight if it is
                 trained; nothing below the lowest trained parameter
    attention    4 T^2 A per row and block forward (as if every token saw all), 2.5 times backward
    recomputing  the forward pass of every block again, with activation checkpointing
    teacher      a forward pass; with a cache the head alone

Seconds of a step:

    matrices     FLOPs / (peak of the number format x utilisation)
    memory       bytes read and written beside the matrices / bandwidth. Per trained element: 12 and
                 twice its state for the optimizer; for each objective 20 (its gradient is written,
                 checked and divided by its terms), and 12 to add it up, or 8 for each pair in the
                 Gramian and 8 per objective for the update, or 36 for its sketch. Four times what a
                 forward pass keeps, and four times its logits: written, read, and both once more as
                 gradients.
    traffic      bytes over the link / its rate: `fsdp2` gathers all weights for the forward and
                 the backward pass of each micro batch, and spreads its gradients; `ddp` adds up the
                 gradients of each objective, twice their size in a ring. It runs beside the
                 matrices: the longer of the two counts.

Data loading, evaluation and the saving of checkpoints are not in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lit_unlearn.planning.activations import kept_activations, logits_bytes
from lit_unlearn.planning.devices import Device
from lit_unlearn.planning.layout import ORDER, Layout, Matrix
from lit_unlearn.planning.reads import Read, Work
from lit_unlearn.planning.run import Run, Steps


@dataclass(frozen=True)
class Flops:
    """FLOPs of one device in one step, by who needs them."""

    forward: float = 0.0
    backward: float = 0.0
    recomputing: float = 0.0
    scoring: float = 0.0
    """Passes of the student without gradient, such as the choice of the worst prefill."""
    teacher: float = 0.0

    @property
    def total(self) -> float:
        """All of them."""
        return self.forward + self.backward + self.recomputing + self.scoring + self.teacher

    def plus(self, other: Flops) -> Flops:
        """The sum, field by field."""
        return Flops(*(a + b for a, b in zip(self.parts(), other.parts(), strict=True)))

    def times(self, factor: float) -> Flops:
        """Each field times a factor."""
        return Flops(*(factor * part for part in self.parts()))

    def parts(self) -> tuple[float, ...]:
        """The fields in their order."""
        return (self.forward, self.backward, self.recomputing, self.scoring, self.teacher)


@dataclass(frozen=True)
class Seconds:
    """Expected wall time of a step on one device."""

    matrices: float
    memory: float
    traffic: float
    """0 for one device."""

    @property
    def total(self) -> float:
        """Traffic runs beside the matrices."""
        return max(self.matrices, self.traffic) + self.memory


# ------------------------------------------------------------------------------------------ FLOPs


def forward_flops(layout: Layout, read: Read, lowest: int = 0) -> float:
    """Of all blocks from ``lowest`` on, and of the output head."""
    return block_flops(layout, read, lowest) + _head(layout.head, read)


def block_flops(layout: Layout, read: Read, lowest: int = 0) -> float:
    """Forward, of the blocks from ``lowest`` on."""
    tokens = read.tokens
    matrices = [m for m in layout.matrices if m.role != "head" and m.block >= lowest]
    linear = 2.0 * tokens * sum(_elements(m) for m in matrices)
    return linear + _attention(layout, read, lowest)


def backward_flops(layout: Layout, read: Read) -> float:
    """Of a backward pass down to the lowest trained parameter."""
    tokens = read.tokens
    total = 2.5 * _attention(layout, read, layout.lowest + (layout.reach > 1))
    for matrix in layout.matrices:
        if matrix.block < layout.lowest:
            continue
        share = read.predictions if matrix.role == "head" else tokens
        above = matrix.block > layout.lowest or ORDER[matrix.role] > layout.reach
        inputs = matrix.inputs * matrix.outputs * above
        weights = matrix.inputs * matrix.outputs * matrix.trained
        adapters = matrix.rank * (matrix.inputs * (1 + above) + 2 * matrix.outputs)
        total += 2.0 * share * (inputs + weights + adapters)
    return total


def _elements(matrix: Matrix) -> int:
    return matrix.inputs * matrix.outputs + matrix.rank * (matrix.inputs + matrix.outputs)


def _head(head: Matrix, read: Read) -> float:
    return 2.0 * read.predictions * _elements(head)


def _attention(layout: Layout, read: Read, lowest: int) -> float:
    widths = [m.inputs for m in layout.matrices if m.role == "attention_out" and m.block >= lowest]
    return 4.0 * read.squares * sum(widths)


def work_flops(run: Run, work: Work) -> Flops:
    """Of one micro batch of an objective."""
    layout, total = run.student, Flops()
    for read in work.reads:
        if read.who == "teacher":
            total = total.plus(Flops(teacher=_teacher(run, read)))
        elif not read.gradient:
            total = total.plus(Flops(scoring=forward_flops(layout, read)))
        else:
            again = block_flops(layout, read, layout.lowest) if run.checkpointing else 0.0
            both = forward_flops(layout, read), backward_flops(layout, read)
            total = total.plus(Flops(*both, recomputing=again))
    return total.times(work.repeats)


def _teacher(run: Run, read: Read) -> float:
    layout = run.teaching.layout or run.student
    if run.teaching.cached:
        return _head(layout.head, read)
    return forward_flops(layout, read) * max(run.teaching.copies, 1)


def step_flops(run: Run, steps: Steps) -> dict[str, Flops]:
    """Of each objective in a step, the mean over the steps."""
    found = dict.fromkeys(steps[0], Flops())
    for step in steps:
        for name, works in step.items():
            for work in works:
                found[name] = found[name].plus(work_flops(run, work).times(1 / len(steps)))
    return found


# ---------------------------------------------------------------------------------------- seconds


def seconds(run: Run, steps: Steps, device: Device, utilisation: float | None = None) -> Seconds:
    """Expected time of a step.

    Args:
        run: The set-up.
        steps: What the device with most rows reads.
        device: Its rates.
        utilisation: Share of the peak that matrix products reach; None takes the device's.
    """
    found = step_flops(run, steps).values()
    teacher = sum(flops.teacher for flops in found)
    student = sum(flops.total for flops in found) - teacher
    layout = run.teaching.layout
    narrow = run.compute_bytes if layout is None else min(run.compute_bytes, layout.element_bytes)
    peak = student / device.rate(run.compute_bytes) + teacher / device.rate(narrow)
    return Seconds(
        matrices=peak / (1e12 * (utilisation or device.utilisation)),
        memory=(update_bytes(run, len(steps[0])) + passing_bytes(run, steps))
        / (1e9 * device.bandwidth),
        traffic=link_bytes(run, steps) / (1e9 * device.link),
    )


def update_bytes(run: Run, objectives: int) -> float:
    """Bytes that the gradients' bookkeeping and the optimizer read and write."""
    pairs = objectives * (objectives + 1) / 2
    gathering = 8 * pairs + 8 * objectives if run.kept else 12 * (objectives - 1)
    each = 20 * objectives + gathering + 12 + 2 * run.optimizer_bytes
    each += 36 * objectives * run.sketched
    return run.shard(run.student.trained) * each


def passing_bytes(run: Run, steps: Steps) -> float:
    """Bytes of activations and logits that are read and written, the mean over the steps."""
    total = 0.0
    for step in steps:
        for work in (work for works in step.values() for work in works):
            kept = sum(kept_activations(run, read) for read in work.reads if read.gradient)
            total += 4 * work.repeats * (kept + logits_bytes(run, work))
    return total / len(steps)


def link_bytes(run: Run, steps: Steps) -> float:
    """Bytes that a device sends in a step, the mean over the steps."""
    if run.devices == 1:
        return 0.0
    share = (run.devices - 1) / run.devices
    layout = run.student
    if run.strategy == "ddp":
        return 2 * share * layout.trained_bytes * len(steps[0])
    passes = _mean_passes(steps)
    teacher = run.teaching.layout
    reading = 0 if teacher is None or run.teaching.cached else teacher.weight_bytes
    return share * (
        passes["gradient"] * (2 * layout.weight_bytes + layout.trained_bytes)
        + passes["scoring"] * layout.weight_bytes
        + passes["teacher"] * reading
    )


def _mean_passes(steps: Sequence[Mapping[str, Sequence[Work]]]) -> dict[str, float]:
    found = dict.fromkeys(("gradient", "scoring", "teacher"), 0.0)
    for step in steps:
        for works in step.values():
            for work in works:
                for read in work.reads:
                    kind = "gradient" if read.gradient else "scoring"
                    kind = "teacher" if read.who == "teacher" else kind
                    found[kind] += work.repeats / len(steps)
    return found
