"""Phases of an evaluation: the rows that each suite reads and the replies that it generates."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path

import torch

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.evaluation.conditions import Condition, seen
from lit_unlearn.evaluation.limited import limited
from lit_unlearn.evaluation.probes import Probe, Suite
from lit_unlearn.metrics.functional.tokens import token_statistics
from lit_unlearn.planning.layout import Layout
from lit_unlearn.planning.phases import Ids, Phase, reading, replying
from lit_unlearn.planning.traffic import Traffic
from lit_unlearn.utils.spread import evenly_spread

__all__ = ["SuiteModel", "none_stored", "suite_phases"]

_SAMPLE = 32
"""Probes of each suite that are encoded."""
_VOCABULARY = 61
"""Unusual size, so that the last dimension of a tensor identifies logits."""


def none_stored(suite: Suite, probes: Sequence[Probe]) -> float:
    """Return 0: no outcome is stored."""
    return 0.0


@dataclass(frozen=True)
class SuiteModel:
    """Model on which suites are run."""

    layout: Layout
    encoder: Encoder
    known: Callable[[Suite, Sequence[Probe]], float] = none_stored
    """Function that returns the stored share of a suite's outcomes."""
    rows: list[Ids] = field(default_factory=list)
    """Rows that are counted so far."""
    condition: Condition | None = None
    """What stands in front of the model."""


def suite_phases(
    model: SuiteModel,
    suites: Mapping[str, Suite],
    data_root: Path | None = None,
    limit: int | None = None,
    heading: str = "",
) -> Iterator[Phase]:
    """Yield the phase of each suite.

    Args:
        model: The model.
        suites: Suites by name.
        data_root: See `run_suites`.
        limit: See `run_suites`.
        heading: Text before the names.

    Raises:
        InputError: Rows of a suite cannot be found or used.
    """
    for name, suite in suites.items():
        probes = limited(suite.probes(data_root), limit)
        yield _suite_phase(f"{heading}{name}", model, suite, probes)


def _suite_phase(name: str, model: SuiteModel, suite: Suite, probes: Sequence[Probe]) -> Phase:
    sample = seen(model.condition, suite, evenly_spread(probes, _SAMPLE))
    effort = suite.effort(probes)
    if not sample or effort is None:
        return Phase(name, note="" if effort else "its time is not counted")
    layout, share = model.layout, effort.models * len(probes) / len(sample)
    read = [_rows(probe, model.encoder) for probe in sample]
    rows, answered = [row for own, _ in read for row in own], sum(tokens for _, tokens in read)
    if not rows:  # all are too long, which the suite says when it runs
        return Phase(name, note="its time is not counted")
    model.rows.extend(rows)
    asked = [probe.generation for probe in sample if probe.generation is not None]
    replies = sum(each.samples * each.max_new_tokens for each in asked)
    found = Phase(
        name,
        reading=(share + effort.rows / len(rows))
        * reading(layout, rows, predictions=answered + len(rows)),
        replying=replying(layout, share * replies),
        moved=4.0 * share * answered * layout.vocabulary * _passes(),
    )
    return found.without(model.known(suite, probes))


def _rows(probe: Probe, encoder: Encoder) -> tuple[list[Ids], int]:
    """Return all rows that a probe reads, and the number of answer tokens of its candidates."""
    row, answered = replace(probe.example, turns=probe.turns, plain=probe.plain), 0
    rows: list[Ids] = []
    for text in probe.candidates.values():
        encoded = encoder.encode(row, text, prefill=probe.prefill) if text.strip() else None
        if encoded is not None:
            rows.append(encoded.student_ids)
            answered += encoded.predictions
    if probe.generation is not None:
        prompt = encoder.prompt_ids(probe.turns, plain=probe.plain, prefill=probe.prefill)
        rows.append(prompt)
    return rows, answered


@cache
def _passes() -> float:
    """Return the reads and writes of a row of logits by the statistics of an answer's tokens."""
    traffic = Traffic(_VOCABULARY)
    with torch.no_grad(), traffic:
        token_statistics(torch.ones(4, _VOCABULARY), torch.zeros(4, dtype=torch.long))
    return traffic.elements / (4 * _VOCABULARY)
