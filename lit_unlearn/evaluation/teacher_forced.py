"""Teacher-force the candidates of probes; one pass gives all statistics of their tokens."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from lit_unlearn.data.collation import tokens
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.evaluation.probes import Forced, Probe
from lit_unlearn.metrics.functional.tokens import token_statistics
from lit_unlearn.models.forward import answer_logits, evaluating
from lit_unlearn.models.prompt_reading import KeyValues, logits_and_prompts

__all__ = ["Piece", "batches", "force", "force_and_read", "pieces_of"]


# ------------------------------------------------------------------------------------------ forcing


@dataclass(frozen=True)
class Piece:
    """Candidates of one probe that go through the model together."""

    probe: int
    names: tuple[str, ...]
    prompt: tuple[int, ...]
    answers: tuple[tuple[int, ...], ...]

    def length(self) -> int:
        """Return the number of tokens of the longest sequence."""
        return len(self.prompt) + max(len(answer) for answer in self.answers)


def force(
    model: nn.Module,
    encoder: Encoder,
    probes: Sequence[Probe],
    batch_size: int = 16,
    hidden_id: int | None = None,
) -> list[dict[str, Forced]]:
    """Teacher-force every candidate of every probe; return each probe's statistics by name.

    Common prefixes of a batch's rows, such as the prompt of several candidates, are computed once
    if the model can read packed rows. Token ids are those of `Encoder.encode`, with the end of
    turn. The model is in evaluation mode during the call; then its mode is restored.

    Args:
        model: A causal language model.
        encoder: Encoder with the model's tokenizer; its `on_problem` decides about a prompt that is
            tokenised differently if an answer follows.
        probes: The probes; one without candidates gets an empty mapping.
        batch_size: Maximum number of candidates in a forward pass; affects rounding only.
        hidden_id: As in `Subject`; if given, rows are padded and share no prefixes.

    Raises:
        InputError: A candidate is empty or longer than the encoder's `max_length`, or logits are
            NaN. The message names the row.
    """
    return force_and_read(model, encoder, probes, {}, batch_size, hidden_id)[0]


def force_and_read(
    model: nn.Module,
    encoder: Encoder,
    probes: Sequence[Probe],
    prompts: Mapping[int, tuple[int, ...]],
    batch_size: int = 16,
    hidden_id: int | None = None,
) -> tuple[list[dict[str, Forced]], dict[tuple[int, ...], KeyValues]]:
    """Teacher-force as `force` does, and read the prompts of replies in the same passes.

    `prompts` maps the index of a probe to the prompt of its reply. If it is not empty, the model
    must be one that `can_continue`, and `hidden_id` None. The second result maps prompts to keys
    and values; the prompt of a probe without candidates is not read.
    """
    check_number("batch_size", batch_size, 1)
    pieces = pieces_of(encoder, probes, batch_size)
    found: list[dict[str, Forced]] = [{} for _ in probes]
    read: dict[tuple[int, ...], KeyValues] = {}
    with torch.no_grad(), evaluating(model):
        for batch in batches(pieces, batch_size):
            asked = dict.fromkeys(prompts[p.probe] for p in batch if p.probe in prompts)
            wanted = [prompt for prompt in asked if prompt not in read]
            statistics, states = _read(model, batch, hidden_id, wanted)
            read |= zip(wanted, states, strict=True)
            for piece, name, part in _parts(batch, statistics.cpu()):
                found[piece.probe][name] = _forced(part, probes[piece.probe], name)
    return [
        {name: forced[name] for name in probe.candidates if name in forced}
        for probe, forced in zip(probes, found, strict=True)
    ], read


def pieces_of(encoder: Encoder, probes: Sequence[Probe], size: int) -> list[Piece]:
    """Encode the candidates of all probes; a piece holds at most `size` of one probe."""
    # the encoder would truncate answers, which changes their figures, so lengths are checked here
    uncut = replace(encoder, max_length=sys.maxsize)
    return [
        piece
        for index, probe in enumerate(probes)
        for piece in _pieces(index, probe, uncut, encoder.max_length, size)
    ]


def _pieces(
    index: int, probe: Probe, encoder: Encoder, max_length: int, size: int
) -> Iterator[Piece]:
    """Encode the candidates of one probe; a piece holds at most `size`."""
    row = replace(probe.example, turns=probe.turns, plain=probe.plain)
    prompt: tuple[int, ...] = ()
    answers: list[tuple[int, ...]] = []
    for name, text in probe.candidates.items():
        where = f"Row {probe.probe_id!r}, candidate {name!r}"
        if not text.strip():
            raise InputError(f"{where} should not be empty. Found {text!r}; remove the candidate.")
        encoded = encoder.encode(row, text, prefill=probe.prefill)
        if encoded is None:
            encoder.check(row)
            raise InputError(
                f"{where} should have a prompt of at least one token. Found none, and the "
                "tokenizer has no begin-of-text token; give the row a question."
            )
        if probe.cut and encoded.student_start >= max_length:
            return
        ids = encoded.student_ids[:max_length] if probe.cut else encoded.student_ids
        if len(ids) > max_length:
            raise InputError(
                f"{where} should have at most `max_length` = {max_length} tokens. Found "
                f"{len(ids)} ({encoded.student_start} in the prompt); raise `max_length` up to the "
                "model's limit, or remove the row."
            )
        prompt, answer = ids[: encoded.student_start], ids[encoded.student_start :]
        answers.append(answer)
    names = tuple(probe.candidates)
    for start in range(0, len(names), size):
        part = slice(start, start + size)
        yield Piece(index, names[part], prompt, tuple(answers[part]))


def batches(pieces: Sequence[Piece], batch_size: int) -> Iterator[list[Piece]]:
    """Yield batches of pieces of similar length, the longest first."""
    batch: list[Piece] = []
    for piece in sorted(pieces, key=Piece.length, reverse=True):
        if batch and sum(len(p.answers) for p in [*batch, piece]) > batch_size:
            yield batch
            batch = []
        batch.append(piece)
    if batch:
        yield batch


def _read(
    model: nn.Module,
    batch: Sequence[Piece],
    hidden_id: int | None,
    prompts: Sequence[tuple[int, ...]],
) -> tuple[Tensor, list[KeyValues]]:
    """Return ``[4, N]`` statistics of all answers' tokens, and the prompts' keys and values."""
    device = next(model.parameters()).device
    answers = [answer for piece in batch for answer in piece.answers]
    starts = [len(piece.prompt) for piece in batch for _ in piece.answers]
    targets = torch.tensor([token for answer in answers for token in answer], device=device)
    rows = [(*piece.prompt, *answer)[:-1] for piece in batch for answer in piece.answers]
    counts, none = [len(answer) for answer in answers], [0] * len(prompts)
    begun = [prompt[:-1] for prompt in prompts]
    read = tokens([*rows, *begun], [*starts, *none], [*counts, *none], pad_id=0).to(device)
    if prompts:
        logits, states = logits_and_prompts(model, read, len(prompts))
        return token_statistics(logits, targets), states
    if hidden_id is not None:
        seen = read.attention_mask * (read.input_ids != hidden_id)
        read = replace(read, attention_mask=seen)
    return token_statistics(answer_logits(model, read), targets), []


def _parts(batch: Sequence[Piece], statistics: Tensor) -> Iterator[tuple[Piece, str, Tensor]]:
    start = 0
    for piece in batch:
        for name, answer in zip(piece.names, piece.answers, strict=True):
            yield piece, name, statistics[:, start : start + len(answer)]
            start += len(answer)


def _forced(statistics: Tensor, probe: Probe, name: str) -> Forced:
    if statistics.isnan().any():
        raise InputError(
            f"Row {probe.probe_id!r}, candidate {name!r} should have finite logits. Found NaN or "
            "infinity; the weights are broken, or too large for float16 (evaluate in float32)."
        )
    log_probs, hits, means, deviations = statistics.tolist()
    return Forced(tuple(log_probs), tuple(hit > 0 for hit in hits), tuple(means), tuple(deviations))
