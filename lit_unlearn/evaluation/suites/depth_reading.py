"""Outcomes of the suite depth: what is read from the hidden states of a model, and of its start."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from lit_unlearn.data.answer_spans import span_tokens, spans_of
from lit_unlearn.data.collation import pad
from lit_unlearn.distributed.ranks import device_of
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Forced, Outcome, Probe, Subject
from lit_unlearn.evaluation.teacher_forced import Piece, batches, pieces_of
from lit_unlearn.metrics.functional.tokens import token_statistics
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.patching import (
    block_states,
    lens_log_probs,
    patched_log_probs,
    spread_blocks,
)
from lit_unlearn.types import Tokens

__all__ = ["ANSWER", "LENS", "PATCHED", "SAID", "START_LENS", "START_SAID", "read_depth"]

ANSWER, SAID, LENS, START_SAID, START_LENS, PATCHED = (
    "answer",
    "said",
    "lens",
    "start",
    "start_lens",
    "patched",
)
"""The right candidate; then names in `Outcome.forced`, those of a block with its number behind."""

_WIDTH = 256
"""Width to which wider states are projected before they are stored."""


@dataclass(frozen=True)
class _Read:
    """One row of a batch that was read: a candidate, and the predicted positions of its span."""

    piece: Piece
    name: str
    ids: tuple[int, ...]
    columns: tuple[int, ...]
    """Positions of the right answer's span; none for others."""


def read_depth(
    subject: Subject, start: Subject | None, probes: Sequence[Probe], blocks: int, batch_size: int
) -> list[Outcome]:
    """Return outcomes, one per probe: statistics of the right answer's span, and states.

    The lens reads with norm and head of the start model, or with the model's own where there is no
    start. States are those at the last token of each candidate, each scaled to a mean square of 1.

    Raises:
        InputError: A row that cannot be encoded; a start model with another number of blocks or
            another width, or with another tokenizer.
    """
    chosen = spread_blocks(subject.model, blocks)
    if start is not None:
        _check_alike(subject, start)
    found: dict[int, Outcome] = {}
    together = max(len(probe.candidates) for probe in probes)
    pieces = pieces_of(subject.encoder, probes, together)
    for batch in batches(pieces, batch_size):
        rows = [row for piece in batch for row in _rows(subject, probes[piece.probe], piece)]
        found |= _outcomes(subject, start, probes, rows, chosen)
    return [found[index] for index in range(len(probes))]


def _rows(subject: Subject, probe: Probe, piece: Piece) -> list[_Read]:
    found = []
    for name, answer in zip(piece.names, piece.answers, strict=True):
        columns: tuple[int, ...] = ()
        if name == ANSWER:
            text, spans = probe.candidates[name], spans_of(probe.example)
            tokens = span_tokens(subject.tokenizer, answer, text, spans)
            columns = tuple(len(piece.prompt) - 1 + index for index in tokens)
        found.append(_Read(piece, name, (*piece.prompt, *answer), columns))
    return found


def _outcomes(
    subject: Subject,
    start: Subject | None,
    probes: Sequence[Probe],
    rows: Sequence[_Read],
    blocks: Sequence[int],
) -> dict[int, Outcome]:
    """Return the outcomes of the probes of a batch, by the index of the probe."""
    columns = [(*row.columns, len(row.ids) - 2) for row in rows]
    states, logits = _states(subject, rows, columns, blocks)
    theirs = None
    if start is not None:
        answers = [row for row in rows if row.columns]
        theirs = _states(start, answers, [row.columns for row in answers], blocks)
    forced: dict[int, dict[str, Forced]] = {}
    vectors: dict[int, dict[str, list[float]]] = {}
    at = start_at = 0
    for row in rows:
        count, probe = len(row.columns), probes[row.piece.probe]
        own = vectors.setdefault(row.piece.probe, {})
        last = _projected(states[:, at + count])
        own |= {f"{row.name}/{b + 1}": v for b, v in zip(blocks, last, strict=True)}
        if count:
            part = slice(at, at + count)
            values = {SAID: _said(row, logits[part])}
            if theirs is None or start is None:
                values |= _lens(LENS, subject.model, row, states[:, part], blocks)
            else:
                beside = slice(start_at, start_at + count)
                both = (states[:, part], theirs[0][:, beside], theirs[1][beside])
                values |= _beside(start, row, *both, blocks)
            forced[row.piece.probe] = {name: _checked(probe, f) for name, f in values.items()}
        at, start_at = at + count + 1, start_at + count
    return {
        index: Outcome(probes[index].probe_id, forced[index], states=own)
        for index, own in vectors.items()
    }


def _states(
    subject: Subject,
    rows: Sequence[_Read],
    columns: Sequence[Sequence[int]],
    blocks: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Read rows in one pass; return what `block_states` returns at the given positions."""
    ids, mask = pad([row.ids[:-1] for row in rows], 0)
    if subject.hidden_id is not None:
        mask *= ids != subject.hidden_id
    places = [index for index, own in enumerate(columns) for _ in own]
    wanted = [column for own in columns for column in own]
    tokens = Tokens(ids, mask, torch.tensor(places), torch.tensor(wanted))
    return block_states(subject.model, tokens.to(device_of(subject.model)), blocks)


def _lens(
    name: str, model: nn.Module, row: _Read, states: Tensor, blocks: Sequence[int]
) -> dict[str, Forced]:
    device = device_of(model)
    found = lens_log_probs(model, states.to(device), _targets(row, states).to(device))
    return _by_block(name, found, blocks)


def _beside(
    start: Subject,
    row: _Read,
    states: Tensor,
    start_states: Tensor,
    start_logits: Tensor,
    blocks: Sequence[int],
) -> dict[str, Forced]:
    """Return what the start model says by itself, and reads from the model's states."""
    found = _lens(LENS, start.model, row, states, blocks)
    found |= _lens(START_LENS, start.model, row, start_states, blocks)
    patched = patched_log_probs(
        start.model, row.ids, row.columns, states, blocks, hidden_id=start.hidden_id
    )
    return found | {START_SAID: _said(row, start_logits)} | _by_block(PATCHED, patched, blocks)


def _said(row: _Read, logits: Tensor) -> Forced:
    return _plain(token_statistics(logits, _targets(row, logits))[0])


def _targets(row: _Read, like: Tensor) -> Tensor:
    return torch.tensor([row.ids[column + 1] for column in row.columns], device=like.device)


def _by_block(name: str, log_probs: Tensor, blocks: Sequence[int]) -> dict[str, Forced]:
    return {f"{name}/{b + 1}": _plain(own) for b, own in zip(blocks, log_probs, strict=True)}


def _plain(log_probs: Tensor) -> Forced:
    return Forced(tuple(log_probs.tolist()), (), (), ())


def _checked(probe: Probe, forced: Forced) -> Forced:
    if any(map(math.isnan, forced.log_probs)):
        raise InputError(
            f"Row {probe.probe_id!r} should have finite hidden states. Found NaN or infinity; the "
            "weights are broken, or too large for float16 (evaluate in float32)."
        )
    return forced


def _projected(states: Tensor) -> list[list[float]]:
    """Return ``[K, w]`` states of mean square 1, projected at random where they are wide.

    A random projection keeps inner products (Johnson and Lindenstrauss 1984); it is the same for
    all models of one width.
    """
    scaled = states.float().cpu()
    scaled = scaled / scaled.square().mean(-1, keepdim=True).clamp_min(1e-12).sqrt()
    width = scaled.shape[-1]
    if width > _WIDTH:
        generator = torch.Generator().manual_seed(0)
        scaled = scaled @ torch.randn(width, _WIDTH, generator=generator) / math.sqrt(_WIDTH)
    return [[round(value, 4) for value in row] for row in scaled.tolist()]


def _check_alike(subject: Subject, start: Subject) -> None:
    """Refuse a start model whose states cannot take the place of the model's."""
    ours, theirs = _facts(subject), _facts(start)
    for name, own in ours.items():
        if own != theirs[name]:
            raise InputError(
                f"Parameter `start` of the suite depth should be a model with the {name} of "
                f"{subject.name} ({own}). Found {theirs[name]}; give the model before unlearning."
            )


def _facts(subject: Subject) -> Mapping[str, Any]:
    config: Any = subject.model.config
    text = config.get_text_config()
    sizes = {"number of blocks": len(decoder_blocks(subject.model)), "width": text.hidden_size}
    return {**sizes, "number of tokens in the tokenizer": len(subject.tokenizer)}
