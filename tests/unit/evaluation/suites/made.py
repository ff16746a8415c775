"""Outcomes made by hand, for suites that are scored without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from lit_unlearn.evaluation.probes import Figure, Forced, Outcome, Probe, SuiteResult

Outcomes = dict[str, list[Outcome]]


def forced(*log_probs: float, hits: str = "") -> Forced:
    """Given log-probabilities, the last that of the end-of-turn token; hits as ``110``."""
    found = tuple(hit == "1" for hit in hits or "1" * len(log_probs))
    return Forced(log_probs, found, (-1.0,) * len(log_probs), (1.0,) * len(log_probs))


def outcomes(
    probes: Sequence[Probe],
    reply: Callable[[Probe], str] = lambda probe: probe.example.answer,
    text: Callable[[str], Forced] = lambda name: forced(-1.0, -1.0),
) -> Outcomes:
    """What a model did that says `reply` and thinks `text` of every candidate of that name."""
    return {
        "": [
            Outcome(
                probe.probe_id,
                {name: text(name) for name in probe.candidates},
                (reply(probe),) if probe.generation else (),
            )
            for probe in probes
        ]
    }


def certain(name: str) -> Forced:
    """A model that holds right answers for certain and all others for impossible."""
    right = name in ("answer", "paraphrase")
    return forced(0.0, 0.0) if right else forced(-2000.0, -2000.0, hits="00")


def by_name(result: SuiteResult) -> dict[str, Figure]:
    return {figure.name: figure for figure in result.figures}


def shuffled(values: Sequence[Any]) -> list[Any]:
    """The same in another order."""
    return [*values[1::2][::-1], *values[::2]]
