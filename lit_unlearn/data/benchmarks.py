"""Data sets that are known by name, with their domain and their file in a local data root.

The names are those of the Hugging Face hub, so that one config runs with the hub and without it.
Each benchmark has one folder, with the files as the authors' repositories publish them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from lit_unlearn.types import Domain

__all__ = ["KNOWN", "Benchmark", "find_benchmark", "known_names"]


@dataclass(frozen=True)
class Benchmark:
    """One split of one known data set."""

    hub_id: str
    config: str | None
    split: str
    file: str
    """Path relative to the data root."""
    domain: Domain | None
    """Domain of the rows; None if they are no training data by themselves."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Columns with other names than ours, as in `Source.columns`."""
    where: Mapping[str, list[str]] = field(default_factory=dict)
    """Rows of the file that make up this configuration, as in `Source.where`."""
    note: str = ""
    """Difference between the local file and the hub's data set; logged when the file is read."""


_QUESTIONS_ALONE = {"question": "prompt", "answer": ""}
_UNION = "the local file holds the rows of all 200 targets, without repeated rows"


def _tofu() -> list[Benchmark]:
    """List Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs" (arXiv 2401.06121)."""
    answers = ["full", "retain_perturbed", "real_authors_perturbed", "world_facts_perturbed"]
    for percent in (1, 5, 10):
        forget = f"forget{percent:02d}"
        answers += [forget, f"{forget}_perturbed", f"retain{100 - percent}"]
    rows: list[tuple[Domain, str]] = [("question_answer", name) for name in answers]
    rows += [("multiple_choice", "real_authors"), ("multiple_choice", "world_facts")]
    return [
        Benchmark("locuslab/TOFU", name, "train", f"tofu/{name}.json", domain)
        for domain, name in rows
    ]


def _muse() -> list[Benchmark]:
    """List Shi et al., "MUSE: Machine Unlearning Six-Way Evaluation" (arXiv 2407.06460)."""
    return [
        Benchmark(
            f"muse-bench/MUSE-{corpus}",
            "knowmem",
            split,
            f"muse/{corpus.lower()}/knowmem_{split}.json",
            "question_answer",
        )
        for corpus in ("News", "Books")
        for split in ("forget_qa", "forget_qa_icl", "retain_qa", "retain_qa_icl")
    ]


def _multiple_choice() -> list[Benchmark]:
    """List WMDP (Li et al., arXiv 2403.03218) and MMLU (Hendrycks et al., arXiv 2009.03300)."""
    wmdp = [
        Benchmark(
            "cais/wmdp", f"wmdp-{part}", "test", f"wmdp/{part}_questions.json", "multiple_choice"
        )
        for part in ("bio", "chem", "cyber")
    ]
    mmlu = Benchmark(
        "cais/mmlu",
        "all",
        "test",
        "mmlu/mmlu_test_union.jsonl.gz",
        "multiple_choice",
        note="the local file holds 11,043 of the 14,042 test questions, of all 57 subjects",
    )
    return [*wmdp, mmlu]


def _general_choice() -> list[Benchmark]:
    """List multiple-choice sets about general knowledge.

    ARC (Clark et al., arXiv 1803.05457), OpenBookQA (Mihaylov et al., arXiv 1809.02789),
    CommonsenseQA (Talmor et al., arXiv 1811.00937) and TruthfulQA (Lin et al., arXiv 2109.07958).
    """
    rows = [
        ("allenai/ai2_arc", "ARC-Easy", "test", "arc_easy_test.jsonl.gz", ""),
        ("allenai/ai2_arc", "ARC-Challenge", "test", "arc_challenge_test.jsonl.gz", ""),
        ("allenai/openbookqa", "main", "test", "openbookqa_test.jsonl", ""),
        ("tau/commonsense_qa", None, "validation", "commonsenseqa_dev.jsonl", ""),
        (
            "truthfulqa/truthful_qa",
            "multiple_choice",
            "validation",
            "truthfulqa_mc_task.json.gz",
            "the local file holds the 790 questions of the authors' later release; the hub, 817",
        ),
    ]
    return [
        Benchmark(hub_id, config, split, f"utility/{file}", "multiple_choice", note=note)
        for hub_id, config, split, file, note in rows
    ]


def _rwku() -> list[Benchmark]:
    """List Jin et al., "RWKU: Benchmarking Real-World Knowledge Unlearning" (arXiv 2406.10890)."""
    hub_id = "jinzhuoran/RWKU"
    probes = [f"forget_level{level}" for level in (1, 2, 3)] + [
        "neighbor_level1",
        "neighbor_level2",
    ]
    known = [
        Benchmark(hub_id, name, "test", f"rwku/{name}.jsonl.gz", "question_answer")
        for name in probes
    ]
    known.append(Benchmark(hub_id, "forget_target", "train", "rwku/forget_target.jsonl", None))
    known += [
        Benchmark(
            hub_id,
            f"mia_{part}",
            "test",
            f"rwku/{part}_mia_first15.jsonl.gz",
            "passage",
            note="the local file holds the passages of the first 15 of 200 targets",
        )
        for part in ("forget", "retain")
    ]
    return known


def _rwku_utility() -> list[Benchmark]:
    """List the general-ability sets of RWKU (see `_rwku`)."""
    utility: list[tuple[str, str, Domain, dict[str, str], str]] = [
        ("fluency", "fluency.jsonl", "instruction", {"answer": ""}, _UNION),
        (
            "truthfulness",
            "truthful.jsonl.gz",
            "multiple_choice",
            {},
            f"{_UNION}; the right option is always the first",
        ),
        (
            "factuality",
            "triviaqa.jsonl.gz",
            "question_answer",
            {},
            "the local file holds a sample of 2,000 of the 9,350 different rows of all 200 targets",
        ),
    ]
    return [
        Benchmark(
            "jinzhuoran/RWKU",
            f"utility_{name}",
            "test",
            f"rwku/utility_{file}",
            domain,
            columns,
            note=note,
        )
        for name, file, domain, columns, note in utility
    ]


def _xstest() -> list[Benchmark]:
    """List Röttger et al., "XSTest" (arXiv 2308.01263): only prompts; `label` is safe or unsafe.

    ``walledai/XSTest`` is the copy that most evaluations name; it needs a log-in. ``Paul/XSTest``
    is the same table, published by the first author.
    """
    file = "over_refusal/xstest_prompts.csv"
    return [
        Benchmark(hub_id, None, split, file, "question_answer", _QUESTIONS_ALONE)
        for hub_id, split in (("walledai/XSTest", "test"), ("Paul/XSTest", "train"))
    ]


KNOWN: tuple[Benchmark, ...] = (
    *_tofu(),
    *_muse(),
    *_multiple_choice(),
    *_general_choice(),
    *_rwku(),
    *_rwku_utility(),
    *_xstest(),
)
"""All known splits. MMLU has one entry, of which `find_benchmark` selects subjects."""


def find_benchmark(hub_id: str, config: str | None, split: str) -> Benchmark | None:
    """Return the known data set of these names, or None; the case of the hub id does not matter.

    A configuration of ``cais/mmlu`` other than ``all`` is a subject: the rows of ``all`` with that
    value in the column ``subject``.
    """
    hub_id = hub_id.casefold()
    for known in KNOWN:
        if known.hub_id.casefold() != hub_id or known.split != split:
            continue
        if known.config == config:
            return known
        if known.hub_id == "cais/mmlu" and config is not None:
            return replace(known, config=config, where={"subject": [config]})
    return None


def known_names(hub_id: str) -> list[str]:
    """List the known splits of a hub id, as ``config=forget10 split=train``, for messages."""
    return [
        f"config={known.config} split={known.split}" if known.config else f"split={known.split}"
        for known in KNOWN
        if known.hub_id.casefold() == hub_id.casefold()
    ]
