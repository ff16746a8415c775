"""One suite on one model: what is stored is read, the rest is asked, the suite scores it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

from lit_unlearn.distributed.ranks import agree, gather, in_step, on_first, rank, world_size
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.asking import ask
from lit_unlearn.evaluation.outcome_store import Store, content_key
from lit_unlearn.evaluation.probes import (
    Outcome,
    Probe,
    Row,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.utils.progress import Stage, shown


def run_suite(
    suite: Suite,
    subject: Subject,
    store: Store | None,
    data_root: Path | None = None,
    reference: Mapping[str, Sequence[Row]] | None = None,
    *,
    batch_size: int = 16,
) -> SuiteResult:
    """Put a suite to a model and score it.

    Only what the store does not hold is asked, and it is stored chunk by chunk. With an initialised
    process group the rows are shared out over its processes, each of which calls this with the same
    arguments and gets the same result; the first one alone opens the store.

    Args:
        suite: What to ask, and how to score it.
        subject: The model; its mode and its weights stay as they are.
        store: Where outcomes are kept, not opened yet; None keeps none.
        data_root: Folder of the data sets; None for the hub.
        reference: The suite's rows of a retain model, by group.
        batch_size: Most sequences in one forward pass.

    Raises:
        InputError: Data, a row or a store that cannot be used.
    """
    probes = agree(lambda: suite.probes(data_root))
    variants = agree(lambda: suite.variants(subject, data_root))
    _check_unique(f"suite {suite.name}: ids of probes", [probe.probe_id for probe in probes])
    _check_template(suite, subject, probes)
    _check_unique(f"suite {suite.name}: names of variants", [v.name for v in variants])
    outcomes: dict[str, list[Outcome]] = {}
    total = len(variants) * len(probes)
    with _opened(store), shown(Stage(suite.name, total, "probes")) as stage:
        for variant in variants:
            stage.part = variant.name
            outcomes[variant.name] = _outcomes(
                suite, subject, variant, probes, store, batch_size, stage
            )
    return agree(lambda: suite.score(probes, outcomes, reference))


def _outcomes(
    suite: Suite,
    subject: Subject,
    variant: Variant,
    probes: Sequence[Probe],
    store: Store | None,
    batch_size: int,
    stage: Stage,
) -> list[Outcome]:
    """The outcomes of one variant, in the order of the probes."""
    names = f"{variant.name} {variant.key}"
    keys = on_first(
        lambda: [content_key(subject.fingerprint, names, p, suite.answer_key()) for p in probes]
    )
    known = on_first(lambda: store.read(keys) if store else {})
    missing: dict[str, Probe] = {}
    for key, probe in zip(keys, probes, strict=True):
        if key not in known:
            missing.setdefault(key, probe)
    stage.add(len(probes) - len(missing))
    if missing:
        changed = replace(subject, model=agree(variant.make))
        for chunk in _chunks(missing, batch_size * world_size()):
            fresh = _ask_shared(suite, changed, chunk, batch_size)
            if store:
                on_first(partial(store.append, fresh))
            known.update(fresh)
            stage.add(len(fresh))
    return [
        replace(known[key], probe_id=probe.probe_id)
        for key, probe in zip(keys, probes, strict=True)
    ]


def _chunks(missing: Mapping[str, Probe], size: int) -> Iterator[dict[str, Probe]]:
    """Probes of similar length, the longest first, so that too large a batch fails at once."""
    order = sorted(missing, key=lambda key: -_length(missing[key]))
    for start in range(0, len(order), size):
        yield {key: missing[key] for key in order[start : start + size]}


def _length(probe: Probe) -> int:
    """Characters of the prompt and of the longest candidate."""
    prompt = sum(len(turn.content) for turn in probe.turns) + len(probe.prefill)
    return prompt + max(map(len, probe.candidates.values()), default=0)


def _ask_shared(
    suite: Suite, subject: Subject, chunk: Mapping[str, Probe], batch_size: int
) -> dict[str, Outcome]:
    """The outcomes of a chunk, each process having asked its share of it."""
    own = list(chunk)[rank() :: world_size()]
    probes = [chunk[key] for key in own]

    def work() -> list[Outcome]:
        with in_step(subject.model):
            return _ask_own(suite, subject, probes, batch_size) if probes else []

    found = agree(work)
    shares = gather(dict(zip(own, found, strict=True)))
    together = {key: outcome for share in shares for key, outcome in share.items()}
    return {key: together[key] for key in chunk}


def _ask_own(
    suite: Suite, subject: Subject, probes: Sequence[Probe], batch_size: int
) -> list[Outcome]:
    """By the suite's own way where it has one, else by the usual engine."""
    outcomes = suite.answer(subject, probes)
    if outcomes is None:
        return ask(subject, probes, batch_size)
    expected, found = [p.probe_id for p in probes], [o.probe_id for o in outcomes]
    if found != expected:
        raise InputError(
            f"suite {suite.name}: expected `answer` to give one outcome per probe, in their order "
            f"({expected[:3]}, ...), found {found[:3]}, ...; correct the suite"
        )
    return outcomes


def _check_unique(what: str, names: Sequence[str]) -> None:
    twice = [name for name, count in Counter(names).items() if count > 1]
    if twice:
        raise InputError(f"{what}: expected each once, found {twice[0]!r} twice; correct the suite")


def _check_template(suite: Suite, subject: Subject, probes: Sequence[Probe]) -> None:
    if subject.plain_chat or subject.tokenizer.chat_template or all(p.plain for p in probes):
        return
    raise InputError(
        f"model {subject.name}: expected a tokenizer with a chat template for the conversations of "
        f"suite {suite.name}, found none; evaluate a chat model, or give `--plain_chat true` to "
        "write them as `Question: ... Answer:`"
    )


@contextmanager
def _opened(store: Store | None) -> Iterator[None]:
    """Keep the store open in the first process."""
    if store is None or rank() > 0:
        agree(lambda: None)
        yield
        return
    agree(store.__enter__)
    try:
        yield
    finally:
        store.__exit__(None, None, None)
