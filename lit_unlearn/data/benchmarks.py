"""Data sets that are known by name, with their domain and their file in a local data root.

The names are those of the Hugging Face hub, so that one config runs with the hub and without it.
Each benchmark has one folder, with the files as the authors' repositories publish them.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import cast

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
    """Domain of the rows; None if they cannot be trained on."""
    columns: Mapping[str, str] = field(default_factory=dict)
    """Names of the file's columns, as in `Source.columns`."""
    where: Mapping[str, list[str]] = field(default_factory=dict)
    """Values that select the rows of this configuration, as in `Source.where`."""
    note: str = ""
    """Difference between the local file and the hub's data set; logged when the file is read."""


# hub id, config, split, file, domain
_TABLE = """
# Maini et al., "TOFU: A Task of Fictitious Unlearning for LLMs" (arXiv 2401.06121)
locuslab/TOFU full train tofu/full.json question_answer
locuslab/TOFU retain_perturbed train tofu/retain_perturbed.json question_answer
locuslab/TOFU real_authors_perturbed train tofu/real_authors_perturbed.json question_answer
locuslab/TOFU world_facts_perturbed train tofu/world_facts_perturbed.json question_answer
locuslab/TOFU forget01 train tofu/forget01.json question_answer
locuslab/TOFU forget01_perturbed train tofu/forget01_perturbed.json question_answer
locuslab/TOFU retain99 train tofu/retain99.json question_answer
locuslab/TOFU forget05 train tofu/forget05.json question_answer
locuslab/TOFU forget05_perturbed train tofu/forget05_perturbed.json question_answer
locuslab/TOFU retain95 train tofu/retain95.json question_answer
locuslab/TOFU forget10 train tofu/forget10.json question_answer
locuslab/TOFU forget10_perturbed train tofu/forget10_perturbed.json question_answer
locuslab/TOFU retain90 train tofu/retain90.json question_answer
locuslab/TOFU real_authors train tofu/real_authors.json multiple_choice
locuslab/TOFU world_facts train tofu/world_facts.json multiple_choice
# Shi et al., "MUSE: Machine Unlearning Six-Way Evaluation" (arXiv 2407.06460)
muse-bench/MUSE-News knowmem forget_qa muse/news/knowmem_forget_qa.json question_answer
muse-bench/MUSE-News knowmem forget_qa_icl muse/news/knowmem_forget_qa_icl.json question_answer
muse-bench/MUSE-News knowmem retain_qa muse/news/knowmem_retain_qa.json question_answer
muse-bench/MUSE-News knowmem retain_qa_icl muse/news/knowmem_retain_qa_icl.json question_answer
muse-bench/MUSE-Books knowmem forget_qa muse/books/knowmem_forget_qa.json question_answer
muse-bench/MUSE-Books knowmem forget_qa_icl muse/books/knowmem_forget_qa_icl.json question_answer
muse-bench/MUSE-Books knowmem retain_qa muse/books/knowmem_retain_qa.json question_answer
muse-bench/MUSE-Books knowmem retain_qa_icl muse/books/knowmem_retain_qa_icl.json question_answer
# WMDP: Li et al. (arXiv 2403.03218); MMLU: Hendrycks et al. (arXiv 2009.03300)
cais/wmdp wmdp-bio test wmdp/bio_questions.json multiple_choice
cais/wmdp wmdp-chem test wmdp/chem_questions.json multiple_choice
cais/wmdp wmdp-cyber test wmdp/cyber_questions.json multiple_choice
cais/mmlu all test mmlu/mmlu_test_union.jsonl.gz multiple_choice
# ARC: Clark et al. (arXiv 1803.05457); OpenBookQA: Mihaylov et al. (arXiv 1809.02789)
# CommonsenseQA: Talmor et al. (arXiv 1811.00937); TruthfulQA: Lin et al. (arXiv 2109.07958)
allenai/ai2_arc ARC-Easy test utility/arc_easy_test.jsonl.gz multiple_choice
allenai/ai2_arc ARC-Challenge test utility/arc_challenge_test.jsonl.gz multiple_choice
allenai/openbookqa main test utility/openbookqa_test.jsonl multiple_choice
tau/commonsense_qa - validation utility/commonsenseqa_dev.jsonl multiple_choice
truthfulqa/truthful_qa multiple_choice validation utility/truthfulqa_mc_task.json.gz multiple_choice
# Jin et al., "RWKU: Benchmarking Real-World Knowledge Unlearning" (arXiv 2406.10890)
jinzhuoran/RWKU forget_level1 test rwku/forget_level1.jsonl.gz question_answer
jinzhuoran/RWKU forget_level2 test rwku/forget_level2.jsonl.gz question_answer
jinzhuoran/RWKU forget_level3 test rwku/forget_level3.jsonl.gz question_answer
jinzhuoran/RWKU neighbor_level1 test rwku/neighbor_level1.jsonl.gz question_answer
jinzhuoran/RWKU neighbor_level2 test rwku/neighbor_level2.jsonl.gz question_answer
jinzhuoran/RWKU forget_target train rwku/forget_target.jsonl -
jinzhuoran/RWKU mia_forget test rwku/forget_mia_first15.jsonl.gz passage
jinzhuoran/RWKU mia_retain test rwku/retain_mia_first15.jsonl.gz passage
jinzhuoran/RWKU utility_fluency test rwku/utility_fluency.jsonl instruction
jinzhuoran/RWKU utility_truthfulness test rwku/utility_truthful.jsonl.gz multiple_choice
jinzhuoran/RWKU utility_factuality test rwku/utility_triviaqa.jsonl.gz question_answer
# Röttger et al., "XSTest" (arXiv 2308.01263): only prompts, labelled safe or unsafe; the first copy
# is the one that most evaluations name and needs a log-in, the second the first author's own
walledai/XSTest - test over_refusal/xstest_prompts.csv question_answer
Paul/XSTest - train over_refusal/xstest_prompts.csv question_answer
"""
_UNION = "the local file holds the rows of all 200 targets, without repeated rows"
_FIRST = "the local file holds the passages of the first 15 of 200 targets"
_NOTES = {
    "mmlu/mmlu_test_union.jsonl.gz": (
        "the local file holds 11,043 of the 14,042 test questions, of all 57 subjects"
    ),
    "utility/truthfulqa_mc_task.json.gz": (
        "the local file holds the 790 questions of the authors' later release; the hub, 817"
    ),
    "rwku/forget_mia_first15.jsonl.gz": _FIRST,
    "rwku/retain_mia_first15.jsonl.gz": _FIRST,
    "rwku/utility_fluency.jsonl": _UNION,
    "rwku/utility_truthful.jsonl.gz": f"{_UNION}; the right option is always the first",
    "rwku/utility_triviaqa.jsonl.gz": (
        "the local file holds a sample of 2,000 of the 9,350 different rows of all 200 targets"
    ),
}
_COLUMNS = {
    "rwku/utility_fluency.jsonl": {"answer": ""},
    "over_refusal/xstest_prompts.csv": {"question": "prompt", "answer": ""},
}


def _known(line: str) -> Benchmark:
    hub_id, config, split, file, kind = line.split()
    domain = None if kind == "-" else cast("Domain", kind)
    columns, note = _COLUMNS.get(file, {}), _NOTES.get(file, "")
    named = None if config == "-" else config
    return Benchmark(hub_id, named, split, file, domain, columns, note=note)


KNOWN = tuple(_known(line) for line in _TABLE.strip().split("\n") if not line.startswith("#"))
"""All known splits. MMLU has one entry, from which `find_benchmark` selects subjects."""


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
