"""Bytes that forward passes need: kept for the backward pass, cast weights, logits.

The formulas stand at the top of `lit_unlearn.planning.memory`.
"""

from __future__ import annotations

from lit_unlearn.planning.layout import ORDER
from lit_unlearn.planning.reads import Read, Work
from lit_unlearn.planning.run import Run


def logits_bytes(run: Run, work: Work) -> int:
    """Tables of logits in float32, and the half-precision one from which they come."""
    half = max((read.predictions for read in work.reads), default=0) * (run.compute_bytes == 2)
    return run.student.vocabulary * (4 * work.logit_rows + 2 * half * bool(work.logit_rows))


def casts(run: Run) -> int:
    """The weights of linear layers as autocast casts them; under sharding those at hand."""
    if not run.mixed or run.student.element_bytes == 2:
        return 0
    layout = run.student
    total = 0
    for m in layout.matrices:
        above = m.block > layout.lowest or (
            m.block == layout.lowest and ORDER[m.role] > layout.reach
        )
        total += m.inputs * m.outputs * (above or m.trained) + m.rank * (m.inputs + m.outputs)
    return 2 * total


def kept_activations(run: Run, read: Read) -> int:
    """What a forward pass of the student keeps for its backward pass."""
    layout = run.student
    tokens = read.tokens
    reached = range(layout.lowest, layout.blocks)
    if run.checkpointing:
        blocks = len(reached) * tokens * layout.width * run.residual_bytes
    else:
        blocks = sum(block_activations(run, read, block) for block in reached)
    last = tokens * layout.width * (4 + run.residual_bytes * layout.norms_trained[-1])
    head = read.predictions * layout.width * run.compute_bytes * layout.head.keeps_input
    return blocks + last + head


def block_activations(run: Run, read: Read, block: int) -> int:
    """What one decoder block keeps; see the table at the top."""
    layout, c, r = run.student, run.compute_bytes, run.residual_bytes
    if block >= layout.blocks:
        return 0
    matrices = layout.of_block(block)
    reach = layout.reach if block == layout.lowest else -1
    per_token = layout.width * (4 * (reach < 0) + 4 * (reach < 3))
    per_token += layout.width * 2 * r * layout.norms_trained[block] + c * sum(
        m.rank for m in matrices
    )
    for part in ("attention_in", "mlp_in"):
        keeping = sum(m.keeps_input for m in matrices if m.role == part)
        per_token += layout.width * c * (keeping if run.mixed else min(keeping, 1))
    out = next(m for m in matrices if m.role == "attention_out")
    down = next(m for m in matrices if m.role == "mlp_out")
    gates = sum(m.role == "mlp_in" for m in matrices)
    per_token += out.inputs * c * (run.mixed and out.rank > 0) + down.inputs * c * down.keeps_input
    per_token += down.inputs * c * (3 if gates > 1 else 1) * (reach < 4)
    if reach > 1:
        return read.tokens * (per_token + out.inputs * c * out.keeps_input)
    per_token += out.inputs * c * (2 + out.keeps_input) + 4 * layout.heads
    per_token += 2 * layout.key_width * c
    pairs = read.rows * read.length**2 if run.eager else 0
    return read.tokens * per_token + pairs * (c + layout.heads * (5 + c))


def passing(run: Run, read: Read) -> int:
    """What a forward pass without gradient needs while it is in its widest place."""
    layout = run.teaching.layout or run.student
    widest = max((m.inputs for m in layout.matrices if m.role == "mlp_out"), default=layout.width)
    per_token = 3 * widest * run.compute_bytes + 3 * layout.width * 4
    pairs = read.rows * read.length**2 if run.eager else 0
    return read.tokens * per_token + pairs * layout.heads * (4 + run.compute_bytes)


def flying(run: Run, read: Read) -> int:
    """Gradients of a block's activations, and, under checkpointing, its recomputed input."""
    matrices = run.student.of_block(run.student.lowest)
    widest = max((m.inputs for m in matrices if m.role == "mlp_out"), default=run.student.width)
    per_token = 3 * widest * run.compute_bytes + 3 * run.student.width * run.residual_bytes
    return read.tokens * per_token
