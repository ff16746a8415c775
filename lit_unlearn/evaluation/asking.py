"""Put probes to a model: `Probe` -> `Outcome`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Generation, Outcome, Probe, Subject
from lit_unlearn.evaluation.teacher_forced import force_and_read
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.prompt_reading import KeyValues, can_continue
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.utils.chat_template import TemplateError

__all__ = ["ask", "replies"]


def ask(subject: Subject, probes: Sequence[Probe], batch_size: int = 16) -> list[Outcome]:
    """Teacher-force the candidates of all probes, and let the model reply where a probe asks.

    Returns one outcome per probe, in their order. A batch holds at most `batch_size` sequences;
    mode and weights of the model stay as they are.

    Raises:
        InputError: A probe that cannot be put to this model; the message names the row.
    """
    prompts = _shared_prompts(subject, probes)
    forced, read = force_and_read(
        subject.model, subject.encoder, probes, prompts, batch_size, subject.hidden_id
    )
    said = replies(subject, probes, batch_size, read)
    return [
        Outcome(probe.probe_id, found, texts)
        for probe, found, texts in zip(probes, forced, said, strict=True)
    ]


def _shared_prompts(subject: Subject, probes: Sequence[Probe]) -> dict[int, tuple[int, ...]]:
    """Return the prompts of replies that can be read in the passes of the candidates, by probe."""
    asked = {
        index: (tuple(_prompt(subject, probe, probe.generation)), probe.generation.max_new_tokens)
        for index, probe in enumerate(probes)
        if probe.generation is not None and probe.candidates
    }
    asked = {index: one for index, one in asked.items() if len(one[0]) > 1}
    longest = max((len(prompt) + new for prompt, new in asked.values()), default=0)
    if subject.hidden_id is not None or not can_continue(subject.model, longest):
        return {}
    return {index: prompt for index, (prompt, _) in asked.items()}


def replies(
    subject: Subject,
    probes: Sequence[Probe],
    batch_size: int = 16,
    read: Mapping[tuple[int, ...], KeyValues] | None = None,
) -> list[tuple[str, ...]]:
    """Return the replies to each probe, without the prefill; none where it asks for none.

    `read` holds keys and values of prompts that the model has read already.

    Raises:
        InputError: A prompt that is empty or too long, or settings that cannot be used.
    """
    found: list[tuple[str, ...]] = [()] * len(probes)
    model: Any = subject.model
    for settings in dict.fromkeys(probe.generation for probe in probes):
        if settings is None:
            continue
        if settings.temperature == 0 and settings.samples != 1:
            raise InputError(
                "Parameter `samples` should be 1 with a temperature of 0. Found "
                f"{settings.samples}, which would all be the same; raise the temperature."
            )
        drawn = (settings.temperature, settings.top_p, settings.samples, settings.seed)
        members = [i for i, probe in enumerate(probes) if probe.generation == settings]
        texts = generate_replies(
            model,
            subject.tokenizer,
            [_prompt(subject, probes[index], settings) for index in members],
            max_new_tokens=settings.max_new_tokens,
            sampling=Sampling(*drawn) if settings.temperature else None,
            stops=settings.stops,
            batch_size=batch_size,
            hidden_id=subject.hidden_id,
            thoughts=subject.encoder.thoughts,
            read=read,
        )
        for index, reply in zip(members, texts, strict=True):
            found[index] = reply
    return found


def _prompt(subject: Subject, probe: Probe, settings: Generation) -> list[int]:
    try:
        ids = subject.encoder.prompt_ids(probe.turns, plain=probe.plain, prefill=probe.prefill)
    except TemplateError:
        row = replace(probe.example, example_id=probe.probe_id, turns=probe.turns)
        subject.encoder.check(row)
        raise
    most = subject.encoder.max_length - settings.max_new_tokens
    if not ids:
        raise InputError(
            f"Row {probe.probe_id!r} should have a prompt of at least one token. Found none, and "
            "the tokenizer has no token to begin a text with; give the row a question."
        )
    if len(ids) > most and not probe.cut:
        raise InputError(
            f"Row {probe.probe_id!r} should have at most {most} tokens of prompt (`max_length` = "
            f"{subject.encoder.max_length}, less {settings.max_new_tokens} for the reply). Found "
            f"{len(ids)}; raise it as far as the model goes, or leave the row out."
        )
    return ids
