"""Memory of a device, from shapes.

Persistent allocations:

    weights      bytes of all parameters (tied ones once)                                        W
    optimizer    bytes of its state for one trained element, times the trained elements
    teacher      FrozenTeacher, EMATeacher: one copy; ContrastTeacher: two; AdapterOffTeacher: none;
                 with a cache only the output head, V D (FrozenTeacher), or nothing

Gradients, with G the bytes of the trained parameters and M objectives:

    kept         G for each objective computed so far (a weighting that needs the Gramian, a
                 combination, or `diagnostics: exact`)
    added up     G from the second objective on (otherwise)
    current      G for the current objective, from its first backward pass on
    sketches     2^18 bytes for each layer group and objective (`diagnostics: sketch`)

Activations that a forward pass of the student with B rows of at most T tokens keeps for its
backward pass, for each decoder block. n is the number of tokens of all rows (without padding), D
the width, A that of the attention, F of the MLP; c the bytes of a number in matrix products, r in
the residual stream (under bf16-mixed c = 2 and r = 4):

    residual     8 n D       the inputs of both norms in float32, plus 2 n D r if norms are trained
    linear in    n D c       for each linear layer after a norm that is trained or has an adapter
                             (autocast), or once after each norm (else)
    attention    3 n A c     queries, output, and the concatenated outputs of all rows; plus
                             2 n A' c for keys and values of width A', and 4 n for each head; with
                             `attention: eager` plus B T^2 (5 + c) for each head and B T^2 c
    MLP          3 n F c     gate, its activation, up; plus n F c if the layer out of it is trained

Nothing is kept below the lowest trained parameter. With activation checkpointing each block keeps
its input, n D r, and one block at a time keeps the sizes above. Autocast casts weights and keeps
the casts: 2 bytes for each element of the linear layers that a gradient flows through.

Logits exist at the N answer positions only: 4 N V for each table `[N, V]`. The number of tables
that an objective needs at once is counted by running it on random logits
(`forward_passes.observe`).

The peak is the largest of these moments, over all objectives and micro batches:

    teacher      persistent allocations + gradients so far + a teacher's forward pass + its logits
    loss         + gradients so far (+ current, after the first micro batch) + casts + activations
                 + logits
    backward     + gradients so far + current + casts + one block + the largest gradient of one
                 parameter in flight (two if embedding and head are tied)
    update       + kept gradients + the update, G, + temporaries of the optimizer (one G on a GPU)

Several devices. `fsdp2` divides weights, teacher, optimizer and gradients by the number of devices;
it gathers the weights outside of blocks, two blocks at a time, and their gradients. Autocast's
casts are not divided, unless weights are gathered in bfloat16 (`gather_dtype`): then there are
none, and r = 2. `ddp` divides nothing. Both divide the rows among devices.

Not counted: fragmentation of the allocator and the CUDA context (the gigabytes of a data sheet
count as 10^9 bytes to leave room for them), the evaluation's key-value caches, and Python itself.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lit_unlearn.gradients.sketch import SIZE
from lit_unlearn.planning.activations import (
    block_activations,
    casts,
    forward_temporaries,
    gradient_temporaries,
    kept_activations,
    logits_bytes,
)
from lit_unlearn.planning.forward_passes import ForwardPass, MicroBatch, Steps
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.scenario import Scenario

__all__ = ["Moment", "gathered_weights", "moments", "peak"]


@dataclass(frozen=True)
class Moment:
    """Contents of a device's memory at one time."""

    what: str
    """Name, for example ``loss of forget``."""
    parts: dict[str, int]
    """Bytes by purpose."""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def peak(scenario: Scenario, steps: Steps) -> Moment:
    """Return the moment with the largest total."""
    return max(moments(scenario, steps), key=lambda moment: moment.total)


def moments(scenario: Scenario, steps: Steps) -> Iterator[Moment]:
    """Yield the moments of every objective, and that of the update."""
    layout = scenario.student
    always = {
        "weights": scenario.shard(layout.weight_bytes),
        "optimizer": scenario.shard(scenario.optimizer_bytes * layout.trained),
        "teacher": _teacher(scenario),
    }
    if scenario.gradients == "sketch":
        groups = layout.blocks - layout.lowest + 3
        always["sketches"] = len(steps[0]) * groups * SIZE * 4
    gradient = scenario.shard(layout.trained_bytes)
    names = list(steps[0])
    for index, name in enumerate(names):
        so_far = gradient * (index if scenario.keeps_gradients else min(index, 1))
        own = [list(step.get(name, ())) for step in steps]
        for moment in _of_objective(scenario, name, own):
            yield Moment(moment.what, {**always, "gradients": so_far, **moment.parts})
    kept = len(names) + scenario.further_gradients if scenario.keeps_gradients else 0
    update = {
        "gradients": gradient * (kept + 1),
        "casts": casts(scenario),
        "temporaries": gradient if scenario.accelerator == "gpu" else 0,
    }
    yield Moment("update", {**always, **update})


def _of_objective(
    scenario: Scenario, name: str, steps: Sequence[Sequence[MicroBatch]]
) -> Iterator[Moment]:
    """Yield the moments of one objective, without persistent allocations and earlier gradients."""
    gradient = scenario.shard(scenario.student.trained_bytes)
    for batches in steps:
        for number, batch in enumerate(batches):
            again = number > 0 or batch.repeats > 1  # a gradient, or a copy of the weights
            before = {
                "current gradient": gradient * again,
                "logits": logits_bytes(scenario, batch),
                "gathered": gathered_weights(scenario),
            }
            for one in batch.passes:
                if one.gradient:
                    kept = {"activations": kept_activations(scenario, one)}
                    yield Moment(f"loss of {name}", before | {"casts": casts(scenario)} | kept)
                    current = {"current gradient": gradient * (1 + (batch.repeats > 1))}
                    yield Moment(f"backward of {name}", current | _backward(scenario, one))
                elif one.model == "teacher" and not scenario.teaching.cached:
                    parts = before | {"activations": forward_temporaries(scenario, one)}
                    yield Moment(f"teacher for {name}", parts)


def _backward(scenario: Scenario, one: ForwardPass) -> dict[str, int]:
    layout = scenario.student
    block = block_activations(scenario, one, layout.lowest)
    return {
        "casts": casts(scenario),
        "activations": block + gradient_temporaries(scenario, one),
        "temporaries": _largest_gradient(layout),
        "gathered": gathered_weights(scenario) + _gathered_gradients(scenario),
    }


def _teacher(scenario: Scenario) -> int:
    teaching = scenario.teaching
    if teaching.layout is None or not teaching.copies:
        return 0
    if teaching.cached:
        head = teaching.layout.head
        return scenario.shard(head.inputs * head.outputs * teaching.layout.element_bytes)
    return scenario.shard(teaching.copies * teaching.layout.weight_bytes)


def _largest_gradient(layout: Layout) -> int:
    """Return the bytes of the largest gradient before it is added up; a tied one counts twice."""
    sizes = [m.inputs * m.outputs for m in layout.matrices if m.trained]
    if layout.embedding_trained:
        sizes.append(layout.vocabulary * layout.width * (1 + layout.tied))
    return 4 * max(sizes, default=0)


def gathered_weights(scenario: Scenario) -> int:
    """Return the bytes of gathered weights: those outside of blocks, and those of two blocks."""
    layout = scenario.student
    whole = layout.outside_bytes[0] + 2 * layout.block_bytes[0]
    return scenario.sharded * whole * scenario.gathered_bytes // layout.element_bytes


def _gathered_gradients(scenario: Scenario) -> int:
    """Return the bytes of the gathered weights' gradients before they are reduced."""
    layout = scenario.student
    return scenario.sharded * (layout.outside_bytes[1] + 2 * layout.block_bytes[1])
