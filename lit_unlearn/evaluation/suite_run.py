"""The engine: it reads stored outcomes, runs the other probes on a model, and scores all."""

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

from lit_unlearn.data.control_tokens import example_texts, report_control_tokens
from lit_unlearn.distributed.ranks import agree, on_first, opened_on_first, rank, share, world_size
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import ask, conditioned
from lit_unlearn.evaluation.limited import limited, same_rows
from lit_unlearn.evaluation.outcome_store import Store, content_key
from lit_unlearn.evaluation.probes import (
    Outcome,
    Probe,
    Reference,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.evaluation.records import SuiteRecord, settings_of
from lit_unlearn.types import Turn
from lit_unlearn.utils.progress import Stage, shown

__all__ = ["check_suites", "run_suite", "run_suites"]


def run_suites(
    suites: Mapping[str, Suite],
    subject: Subject,
    store: Store | None = None,
    data_root: Path | None = None,
    references: Mapping[str, Reference] | None = None,
    *,
    batch_size: int = 16,
    limit: int | None = None,
) -> dict[str, SuiteRecord]:
    """Run suites on a model one after another and measure their cost; see `run_suite`.

    The keys of `suites` and `references` (rows of a retain model) are the displayed names.
    """
    found: dict[str, SuiteRecord] = {}
    for name, suite in suites.items():
        wall, cpu = time.perf_counter(), time.process_time()
        reference = (references or {}).get(name)
        result = run_suite(
            suite,
            subject,
            store,
            data_root,
            reference,
            batch_size=batch_size,
            limit=limit,
            title=name,
        )
        cost = (time.perf_counter() - wall, time.process_time() - cpu)
        found[name] = SuiteRecord(
            name, settings_of(suite), *cost, result.rows, result.figures, result.maps
        )
    return found


def check_suites(
    suites: Mapping[str, Suite],
    data_root: Path | None = None,
    references: Mapping[str, Reference] | None = None,
    limit: int | None = None,
) -> None:
    """Refuse what `run_suites` with these arguments would refuse, before a model is loaded."""
    for name, suite in suites.items():
        probes, reference = _asked(suite, data_root, (references or {}).get(name), limit)
        suite.check(probes, reference)


def run_suite(
    suite: Suite,
    subject: Subject,
    store: Store | None = None,
    data_root: Path | None = None,
    reference: Reference = None,
    *,
    batch_size: int = 16,
    limit: int | None = None,
    title: str | None = None,
) -> SuiteResult:
    """Run a suite on a model and score it.

    Only outcomes that the store lacks are computed; they are stored chunk by chunk. In an
    initialised process group the rows are divided among the processes, which all call this with
    the same arguments and get the same result; only the first one opens the store.

    Args:
        suite: The suite.
        subject: The model; its mode and weights are unchanged.
        store: Store of outcomes, not opened yet; None stores nothing.
        data_root: Folder of the data sets; None for the hub.
        reference: Rows of the suite on a retain model, by group.
        batch_size: Maximum number of sequences in a forward pass.
        limit: Maximum number of rows of each group, spread evenly; None for all.
        title: Name beside the progress; None for that of the suite.
    """
    probes, reference = agree(lambda: _asked(suite, data_root, reference, limit))
    variants = agree(lambda: suite.variants(subject, data_root))
    _check_unique(f"Ids of probes of the suite {suite.name}", [probe.probe_id for probe in probes])
    _check_template(suite, subject, probes)
    if rank() == 0:
        asked = [replace(p.example, turns=(*p.turns, Turn("assistant", p.prefill))) for p in probes]
        find = subject.encoder.control_token
        report_control_tokens(f"Suite {suite.name}", example_texts(asked), find)
    _check_unique(f"Variants of the suite {suite.name}", [v.name for v in variants])
    outcomes: dict[str, list[Outcome]] = {}
    total = len(variants) * len(probes)
    with shown(Stage(title or suite.name, total, "probes")) as stage, opened_on_first(store):
        for variant in variants:
            stage.part = variant.name
            outcomes[variant.name] = _outcomes(
                suite, subject, variant, probes, store, batch_size, stage
            )
    return agree(lambda: suite.score(probes, outcomes, reference))


def _asked(
    suite: Suite, data_root: Path | None, reference: Reference, limit: int | None
) -> tuple[list[Probe], Reference]:
    """Return the probes of a suite, and the reference's rows of these probes."""
    probes = limited(suite.probes(data_root), limit)
    return probes, reference if limit is None else same_rows(probes, reference)


def _outcomes(
    suite: Suite,
    subject: Subject,
    variant: Variant,
    probes: Sequence[Probe],
    store: Store | None,
    batch_size: int,
    stage: Stage,
) -> list[Outcome]:
    about = f"{variant.name} {variant.key}"
    names = [
        about if subject.condition is None else f"{about} {suite.forgets(p.group)}" for p in probes
    ]
    keys = on_first(
        lambda: [
            content_key(subject.fingerprint, name, probe, suite.answer_key())
            for name, probe in zip(names, probes, strict=True)
        ]
    )
    known = on_first(lambda: store.read(keys) if store else {})
    missing: dict[str, Probe] = {}
    for key, probe in zip(keys, probes, strict=True):
        if key not in known:
            missing.setdefault(key, probe)
    stage.add(len(probes) - len(missing))
    if missing:
        # whoever changes the weights can leave out what stands in front of them
        condition = None if variant.name else subject.condition
        changed = replace(subject, model=agree(variant.make), condition=condition)
        for chunk in _chunks(missing, batch_size * world_size()):
            asked = partial(_ask, suite, changed, batch_size)
            found = share(list(chunk.values()), asked, changed.model)
            fresh = dict(zip(chunk, found, strict=True))
            if store:
                on_first(partial(store.append, fresh))
            known.update(fresh)
            stage.add(len(fresh))
    return [
        replace(known[key], probe_id=probe.probe_id)
        for key, probe in zip(keys, probes, strict=True)
    ]


def _chunks(missing: Mapping[str, Probe], size: int) -> Iterator[dict[str, Probe]]:
    """Yield probes of similar length, longest first, so that too large a batch fails at once."""

    def characters(key: str) -> int:
        probe = missing[key]
        prompt = sum(len(turn.content) for turn in probe.turns) + len(probe.prefill)
        return prompt + max(map(len, probe.candidates.values()), default=0)

    order = sorted(missing, key=characters, reverse=True)
    for start in range(0, len(order), size):
        yield {key: missing[key] for key in order[start : start + size]}


def _ask(suite: Suite, subject: Subject, batch_size: int, probes: Sequence[Probe]) -> list[Outcome]:
    """Return the outcomes of `suite.answer`, or those of the engine if it returns None."""
    probes = conditioned(suite, subject, probes, batch_size)
    outcomes = suite.answer(subject, probes)
    if outcomes is None:
        return ask(subject, probes, batch_size)
    expected, found = [p.probe_id for p in probes], [o.probe_id for o in outcomes]
    if found != expected:
        raise InputError(
            f"`answer` of the suite {suite.name} should return one outcome per probe, in the same "
            f"order ({expected[:3]}, ...). Found {found[:3]}, ...; correct the suite."
        )
    return outcomes


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{what} should be unique. Found {twice[0]!r} twice; correct the suite.")


def _check_template(suite: Suite, subject: Subject, probes: Sequence[Probe]) -> None:
    if subject.plain_chat or subject.tokenizer.chat_template or all(p.plain for p in probes):
        return
    raise InputError(
        f"Model {subject.name!r} should have a chat template for suite {suite.name}. Found none; "
        "give a chat model, or `--plain_chat true` to write questions as `Question: ... Answer:`."
    )
