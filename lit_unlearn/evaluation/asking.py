"""Run probes on a model: `Probe` -> `Outcome`."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Generation, Outcome, Probe, Subject, Suite
from lit_unlearn.evaluation.teacher_forced import force_and_read
from lit_unlearn.models.generation import generate_replies
from lit_unlearn.models.prompt_reading import KeyValues, can_continue
from lit_unlearn.models.sampling import Sampling
from lit_unlearn.utils.chat_template import TemplateError

__all__ = ["ask", "conditioned", "replies"]


def ask(subject: Subject, probes: Sequence[Probe], batch_size: int = 16) -> list[Outcome]:
    """Teacher-force the candidates of all probes and generate the replies that probes ask for.

    Returns one outcome per probe, in the same order. A batch holds at most `batch_size` sequences;
    the model's mode and weights are unchanged.

    Raises:
        InputError: A probe cannot be run on this model; the message names the row.
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


def conditioned(
    suite: Suite, subject: Subject, probes: Sequence[Probe], batch_size: int
) -> list[Probe]:
    """Return the probes of a suite as the model sees them under the subject's condition."""
    condition = subject.condition
    if condition is None:
        return list(probes)
    forgotten = [suite.forgets(probe.group) for probe in probes]
    thinking = [condition.thinking(*pair) for pair in zip(probes, forgotten, strict=True)]
    asked = [
        replace(probe, turns=wanted[0], prefill="", generation=Generation(wanted[1]))
        for probe, wanted in zip(probes, thinking, strict=True)
        if wanted is not None
    ]
    said = iter(replies(subject, asked, batch_size))
    thoughts = ["" if wanted is None else next(said)[0].strip() for wanted in thinking]
    return [
        replace(probe, turns=condition.turns(probe, known, thought))
        for probe, known, thought in zip(probes, forgotten, thoughts, strict=True)
    ]


def _shared_prompts(subject: Subject, probes: Sequence[Probe]) -> dict[int, tuple[int, ...]]:
    """Return, by probe index, the reply prompts that the candidates' passes can read as well."""
    asked = {
        index: (tuple(_prompt(subject, probe, probe.generation)), probe.generation.max_new_tokens)
        for index, probe in enumerate(probes)
        if probe.generation is not None and probe.candidates
    }
    asked = {index: pair for index, pair in asked.items() if len(pair[0]) > 1}
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
    """Return the replies to each probe, without the prefill; empty if it asks for none.

    `read` holds the keys and values of prompts that the model has already read.

    Raises:
        InputError: A prompt is empty or too long, or the settings cannot be used.
    """
    found: list[tuple[str, ...]] = [()] * len(probes)
    model: Any = subject.model
    guarded = [subject.condition and subject.condition.reply(probe.turns) for probe in probes]
    for settings in dict.fromkeys(probe.generation for probe in probes):
        if settings is None:
            continue
        if settings.temperature == 0 and settings.samples != 1:
            raise InputError(
                "Parameter `samples` should be 1 if `temperature` is 0, as all replies would be "
                f"the same. Found {settings.samples}; raise `temperature`."
            )
        drawn = (settings.temperature, settings.top_p, settings.samples, settings.seed)
        members = [i for i, probe in enumerate(probes) if probe.generation == settings]
        for index in members:
            found[index] = (guarded[index] or "",) * settings.samples
        members = [index for index in members if guarded[index] is None]
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
            "the tokenizer has no begin-of-text token; give the row a question."
        )
    if len(ids) > most and not probe.cut:
        raise InputError(
            f"Row {probe.probe_id!r} should have a prompt of at most {most} tokens (`max_length` = "
            f"{subject.encoder.max_length} minus {settings.max_new_tokens} for the reply). Found "
            f"{len(ids)}; raise `max_length` up to the model's limit, or remove the row."
        )
    return ids
