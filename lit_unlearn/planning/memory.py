"""Memory per device, from shapes.

What lies there all the time:

    weights      bytes of all parameters (tied ones once)                                        W
    optimizer    bytes of its state for one trained element, times the trained elements
    teacher      FrozenTeacher, EMATeacher: a copy; ContrastTeacher: two; AdapterOffTeacher: none;
                 with a cache only the head, V D (FrozenTeacher) or nothing

What the objectives' gradients add, G being the bytes of the trained parameters, M objectives:

    kept         G for each objective read so far (a weighting that needs the Gramian, a
                 combination, or `diagnostics: exact`)
    added up     G from the second objective on (otherwise)
    current      G for the objective that is read, from its first backward pass on
    sketches     2^18 bytes per layer group and objective (`diagnostics: sketch`)

What a forward pass of the student with B rows of at most T tokens keeps for its backward pass. With
n the tokens of all rows (padding is left out), D the width, A that of the attention, F of the MLP;
c bytes of the number format of matrix products, r of the residual stream (under bf16-mixed c = 2
and r = 4), per decoder block:

    residual     8 n D       the inputs of both norms in float32, plus 2 n D r if norms are trained
    linear in    n D c       for each linear layer behind a norm that is trained or has an adapter
                             (autocast), or once behind each norm (else)
    attention    3 n A c     queries, output, and the outputs of all rows side by side; plus
                             2 n A' c, keys and values, A' their width, and 4 n per head; with
                             `attention: eager` plus B T^2 (5 + c) per head and B T^2 c
    MLP          3 n F c     gate, its activation, up; plus n F c if the layer out of it is trained

Below the lowest trained parameter nothing is kept. With activation checkpointing a block keeps
its input, n D r, and one block at a time what stands above. Autocast casts weights, and keeps the
casts: 2 bytes for every element of the linear layers that a gradient flows through.

Logits exist at the N answer positions only: 4 N V for each table `[N, V]`; how many tables an
objective needs at once is found by letting it read random logits (`reads.observe`).

Peak: the largest of these moments, over all objectives and micro batches.

    teacher      what lies there + gathered gradients + a teacher's forward pass + its logits
    loss         + gathered gradients (+ current, behind the first micro batch) + casts + what the
                 forward pass keeps + logits
    backward     + gathered gradients + current + casts + one block + the largest gradient of one
                 parameter in flight (two where embedding and head are tied)
    update       + kept gradients + the update, G, + temporaries of the optimizer (one G on a GPU)

Several devices. `fsdp2`: weights, teacher, optimizer and gradients are divided by the number of
devices; what is in no block, and two blocks at a time, are gathered, and so are their gradients.
Autocast's casts are whole on every device, unless weights are gathered in bfloat16
(`gather_dtype`), with which there are none, and r = 2. `ddp`: nothing is divided. Rows are shared
out by both.

Not counted: the allocator's fragmentation and the CUDA context (for which cards are taken as their
data sheet's gigabytes of 10^9 bytes), the evaluation's key-value caches, and Python itself.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lit_unlearn.gradients.sketch import SIZE
from lit_unlearn.planning.activations import (
    block_activations,
    casts,
    flying,
    kept_activations,
    logits_bytes,
    passing,
)
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.reads import Work
from lit_unlearn.planning.run import Run, Steps


@dataclass(frozen=True)
class Moment:
    """What lies in memory at one time."""

    what: str
    """For example ``loss of forget``."""
    parts: dict[str, int]
    """Bytes by what they are for."""

    @property
    def total(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())


def peak(run: Run, steps: Steps) -> Moment:
    """The moment with most in memory."""
    return max(moments(run, steps), key=lambda moment: moment.total)


def moments(run: Run, steps: Steps) -> Iterator[Moment]:
    """The dearest moments of every objective, and that of the update."""
    layout = run.student
    always = {
        "weights": run.shard(layout.weight_bytes),
        "optimizer": run.shard(run.optimizer_bytes * layout.trained),
        "teacher": _teacher(run),
    }
    if run.sketched:
        groups = layout.blocks - layout.lowest + 3
        always["sketches"] = len(steps[0]) * groups * SIZE * 4
    gradient = run.shard(layout.trained_bytes)
    names = list(steps[0])
    for place, name in enumerate(names):
        gathered = gradient * (place if run.kept else min(place, 1))
        works = [list(step.get(name, ())) for step in steps]
        for moment in _of_objective(run, name, works):
            yield Moment(moment.what, {**always, "gradients": gathered, **moment.parts})
    kept = len(names) + run.further if run.kept else 0
    temporary = gradient if run.accelerator == "gpu" else 0
    update = {
        "gradients": gradient * (kept + 1),
        "casts": casts(run),
        "temporaries": temporary,
    }
    yield Moment("update", {**always, **update})


def _of_objective(run: Run, name: str, steps: Sequence[Sequence[Work]]) -> Iterator[Moment]:
    """Moments of one objective, without what lies there before it is read."""
    layout = run.student
    gradient = run.shard(layout.trained_bytes)
    for works in steps:
        for number, work in enumerate(works):
            again = number > 0 or work.repeats > 1  # a copy of the weights, or a gradient
            current = {"current gradient": gradient * again}
            logits = {"logits": logits_bytes(run, work)}
            whole = {"gathered": gathered_weights(run)}
            for read in work.reads:
                if read.who == "teacher" and not run.teaching.cached:
                    parts = {**current, **logits, "activations": passing(run, read)}
                    yield Moment(f"teacher for {name}", {**parts, **whole})
                if not read.gradient:
                    continue
                common = {"casts": casts(run)}
                parts = {**current, **common, **logits, "activations": kept_activations(run, read)}
                yield Moment(f"loss of {name}", {**parts, **whole})
                parts = {
                    "current gradient": gradient * (1 + (work.repeats > 1)),
                    **common,
                    "activations": block_activations(run, read, layout.lowest) + flying(run, read),
                    "temporaries": _largest_gradient(layout),
                    "gathered": gathered_weights(run) + gathered_gradients(run),
                }
                yield Moment(f"backward of {name}", parts)


# ------------------------------------------------------------------------------------------ parts


def _teacher(run: Run) -> int:
    teaching = run.teaching
    if teaching.layout is None or not teaching.copies:
        return 0
    if teaching.cached:
        head = teaching.layout.head
        return run.shard(head.inputs * head.outputs * teaching.layout.element_bytes)
    return run.shard(teaching.copies * teaching.layout.weight_bytes)


def _largest_gradient(layout: Layout) -> int:
    """The gradient of one parameter before it is added up; twice where it comes from two places."""
    sizes = [m.inputs * m.outputs for m in layout.matrices if m.trained]
    if layout.embedding_trained:
        sizes.append(layout.vocabulary * layout.width * (1 + layout.tied))
    return 4 * max(sizes, default=0)


def gathered_weights(run: Run) -> int:
    """Sharded weights that are whole at one time: those outside blocks, and two blocks."""
    if run.strategy != "fsdp2" or run.devices == 1:
        return 0
    layout = run.student
    whole = layout.outside_bytes[0] + 2 * layout.block_bytes[0]
    return whole * run.gathered_bytes // layout.element_bytes


def gathered_gradients(run: Run) -> int:
    """Their gradients, before they are reduced and divided."""
    if run.strategy != "fsdp2" or run.devices == 1:
        return 0
    layout = run.student
    return layout.outside_bytes[1] + 2 * layout.block_bytes[1]
