"""Memory of forward passes: activations kept for the backward pass, cast weights, and logits.

`lit_unlearn.planning.memory` has the formulas.
"""

from collections.abc import Sequence

from lit_unlearn.planning.forward_passes import ForwardPass, MicroBatch
from lit_unlearn.planning.layout import Layout, Matrix
from lit_unlearn.planning.scenario import Scenario

__all__ = [
    "block_activations",
    "casts",
    "forward_temporaries",
    "gradient_temporaries",
    "kept_activations",
    "logits_bytes",
]


def logits_bytes(scenario: Scenario, batch: MicroBatch) -> int:
    """Return the bytes of float32 logits, and of the half-precision logits before the cast."""
    half = 0
    if scenario.compute_bytes == 2 and batch.logit_rows:
        half = max((each.predictions for each in batch.passes), default=0)
    return scenario.student.vocabulary * (4 * batch.logit_rows + 2 * half)


def casts(scenario: Scenario) -> int:
    """Return the bytes of the linear layers' weights that autocast casts and keeps."""
    layout = scenario.student
    if not scenario.mixed or layout.element_bytes == 2:
        return 0
    total = 0
    for m in layout.matrices:
        total += m.inputs * m.outputs * (layout.is_above(m) or m.trained)
        total += m.rank * (m.inputs + m.outputs)
    return 2 * total


def kept_activations(scenario: Scenario, one: ForwardPass) -> int:
    """Return the bytes that a forward pass of the student keeps for its backward pass."""
    layout = scenario.student
    reached = range(layout.lowest, layout.blocks)
    if scenario.source.activation_checkpointing:
        blocks = len(reached) * one.tokens * layout.width * scenario.residual_bytes
    else:
        blocks = sum(block_activations(scenario, one, block) for block in reached)
    norm = scenario.residual_bytes * layout.norms_trained[-1]
    last = one.tokens * layout.width * (4 + norm)
    head = one.predictions * layout.width * scenario.compute_bytes * layout.head.keeps_input
    return blocks + last + head


def block_activations(scenario: Scenario, one: ForwardPass, block: int) -> int:
    """Return the bytes that one decoder block keeps."""
    layout, c, r = scenario.student, scenario.compute_bytes, scenario.residual_bytes
    if block >= layout.blocks:
        return 0
    matrices = layout.of_block(block)
    reach = layout.reach if block == layout.lowest else -1
    per_token = layout.width * (4 * (reach < 0) + 4 * (reach < 3))
    per_token += layout.width * 2 * r * layout.norms_trained[block]
    per_token += c * sum(m.rank for m in matrices)
    for part in ("attention_in", "mlp_in"):
        keeping = sum(m.keeps_input for m in matrices if m.role == part)
        per_token += layout.width * c * (keeping if scenario.mixed else min(keeping, 1))
    out = next(m for m in matrices if m.role == "attention_out")
    down = next(m for m in matrices if m.role == "mlp_out")
    gates = sum(m.role == "mlp_in" for m in matrices)
    per_token += out.inputs * c * (scenario.mixed and out.rank > 0)
    per_token += down.inputs * c * (down.keeps_input + (3 if gates > 1 else 1) * (reach < 4))
    if reach > 1:
        return one.tokens * (per_token + out.inputs * c * out.keeps_input)
    per_token += out.inputs * c * out.keeps_input
    pairs = _attention_pairs(scenario, one)
    attention = (one.queries or one.tokens) * (2 * out.inputs * c + 4 * layout.heads)
    attention += (one.keys or one.tokens) * 2 * layout.key_width * c
    return one.tokens * per_token + attention + pairs * (c + layout.heads * (5 + c))


def forward_temporaries(scenario: Scenario, one: ForwardPass) -> int:
    """Return the largest number of bytes during a forward pass without gradient."""
    layout = scenario.teaching.layout or scenario.student
    widest = _widest(layout, layout.matrices)
    per_token = 3 * widest * scenario.compute_bytes + 3 * layout.width * 4
    pairs = _attention_pairs(scenario, one)
    return one.tokens * per_token + pairs * layout.heads * (4 + scenario.compute_bytes)


def gradient_temporaries(scenario: Scenario, one: ForwardPass) -> int:
    """Return the bytes of gradients of a block's activations during the backward pass."""
    layout = scenario.student
    widest = _widest(layout, layout.of_block(layout.lowest))
    per_token = 3 * widest * scenario.compute_bytes + 3 * layout.width * scenario.residual_bytes
    return one.tokens * per_token


def _widest(layout: Layout, matrices: Sequence[Matrix]) -> int:
    return max((m.inputs for m in matrices if m.role == "mlp_out"), default=layout.width)


def _attention_pairs(scenario: Scenario, one: ForwardPass) -> int:
    """Return the entries of a head's attention matrix in memory; 0 for fused attention."""
    return one.rows * one.length**2 if scenario.source.attention == "eager" else 0
