"""Known data sets, read from the real files: their numbers of rows, and parts of them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from _pytest.mark import ParameterSet

from lit_unlearn.data.benchmarks import KNOWN, find_benchmark, known_names
from lit_unlearn.data.sources import Source, read_rows
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from tests.conftest import DATA_ROOTS, EXCERPTS, FULL

# hub id, config, split -> rows, as the README of the data folder states them
REAL_COUNTS = [
    ("locuslab/TOFU", "full", "train", 4000),
    ("locuslab/TOFU", "forget01", "train", 40),
    ("locuslab/TOFU", "forget10", "train", 400),
    ("locuslab/TOFU", "retain90", "train", 3600),
    ("locuslab/TOFU", "retain99", "train", 3960),
    ("locuslab/TOFU", "forget01_perturbed", "train", 40),
    ("locuslab/TOFU", "forget10_perturbed", "train", 400),
    ("locuslab/TOFU", "retain_perturbed", "train", 400),
    ("locuslab/TOFU", "real_authors", "train", 100),
    ("locuslab/TOFU", "real_authors_perturbed", "train", 100),
    ("locuslab/TOFU", "world_facts", "train", 117),
    ("locuslab/TOFU", "world_facts_perturbed", "train", 117),
    ("muse-bench/MUSE-News", "knowmem", "forget_qa", 100),
    ("muse-bench/MUSE-News", "knowmem", "retain_qa", 100),
    ("muse-bench/MUSE-News", "knowmem", "forget_qa_icl", 10),
    ("muse-bench/MUSE-News", "knowmem", "retain_qa_icl", 10),
    ("muse-bench/MUSE-Books", "knowmem", "forget_qa", 100),
    ("muse-bench/MUSE-Books", "knowmem", "retain_qa", 100),
    ("muse-bench/MUSE-Books", "knowmem", "forget_qa_icl", 10),
    ("muse-bench/MUSE-Books", "knowmem", "retain_qa_icl", 10),
    ("cais/wmdp", "wmdp-bio", "test", 1273),
    ("cais/wmdp", "wmdp-chem", "test", 408),
    ("cais/wmdp", "wmdp-cyber", "test", 1987),
    ("cais/mmlu", "all", "test", 11043),
    ("allenai/ai2_arc", "ARC-Easy", "test", 2376),
    ("allenai/ai2_arc", "ARC-Challenge", "test", 1172),
    ("allenai/openbookqa", "main", "test", 500),
    ("tau/commonsense_qa", None, "validation", 1221),
    ("truthfulqa/truthful_qa", "multiple_choice", "validation", 790),
    ("jinzhuoran/RWKU", "forget_target", "train", 200),
    ("jinzhuoran/RWKU", "forget_level1", "test", 3268),
    ("jinzhuoran/RWKU", "forget_level2", "test", 2879),
    ("jinzhuoran/RWKU", "forget_level3", "test", 6984),
    ("jinzhuoran/RWKU", "neighbor_level1", "test", 5846),
    ("jinzhuoran/RWKU", "neighbor_level2", "test", 5533),
    ("jinzhuoran/RWKU", "mia_forget", "test", 580),
    ("jinzhuoran/RWKU", "mia_retain", "test", 562),
    ("jinzhuoran/RWKU", "utility_fluency", "test", 805),
    ("jinzhuoran/RWKU", "utility_truthfulness", "test", 817),
    ("jinzhuoran/RWKU", "utility_factuality", "test", 2000),
    ("walledai/XSTest", None, "test", 450),
    ("Paul/XSTest", None, "train", 450),
]


FURTHER_COUNTS = [
    ("utility/wikitext2_test.txt.gz", 2891),
    ("utility/wikitext2_valid.txt.gz", 2461),
    ("utility/truthfulqa.csv", 790),
    ("mmlu/zero_shot_mmlu_val.json.gz", 1531),
    ("wmdp/corpus_filyp/deebs_corpus.jsonl.gz", 2355),
    ("over_refusal/coconot_eval.jsonl", 1001),
]
"""Files that are no known benchmark, named by their path in the data root."""


def documented_excerpts() -> dict[str, tuple[int, int]]:
    """Rows of the excerpt and of the full file, by file, from the table of the README."""
    text = (EXCERPTS.parent / "README.md").read_text("utf-8")
    found = re.findall(r"^\| `benchmarks/(\S+)` \| (\d+) of (\d+) \|", text, re.MULTILINE)
    return {file: (int(rows), int(full)) for file, rows, full in found}


def counted_files() -> list[ParameterSet]:
    """Data root, source and its number of rows, for each file that is there."""
    sources = [(Source(*row[:3]), find_benchmark(*row[:3]).file, row[3]) for row in REAL_COUNTS]
    sources += [(Source(file), file, count) for file, count in FURTHER_COUNTS]
    documented = documented_excerpts()
    cases = []
    for name, root in DATA_ROOTS.items():
        for source, file, count in sources:
            if (root / file).is_file():
                expected = documented[file][0] if root == EXCERPTS else count
                cases.append(pytest.param(root, source, expected, id=f"{name}-{source.name}"))
    return cases


@pytest.mark.parametrize(("root", "source", "count"), counted_files())
def test_real_files_have_the_documented_number_of_rows(
    root: Path, source: Source, count: int
) -> None:
    rows = read_rows(source, root)
    assert len(rows) == len({row.row_id for row in rows}) == count


def test_every_excerpt_is_documented() -> None:
    documented = documented_excerpts()
    files = {str(p.relative_to(EXCERPTS)) for p in EXCERPTS.rglob("*") if p.is_file()}
    assert documented.keys() == files
    counts = {find_benchmark(*row[:3]).file: row[3] for row in REAL_COUNTS} | dict(FURTHER_COUNTS)
    assert all(counts.get(file, full) == full for file, (_, full) in documented.items())


def test_every_known_benchmark_with_a_file_is_counted_above() -> None:
    counted = {row[:3] for row in REAL_COUNTS}
    present = {
        root: {(k.hub_id, k.config, k.split) for k in KNOWN if (root / k.file).is_file()}
        for root in DATA_ROOTS.values()
    }
    assert present[EXCERPTS] == counted - {
        ("jinzhuoran/RWKU", "utility_fluency", "test"),  # its licence excludes commercial use
        ("locuslab/TOFU", "retain99", "train"),  # retain90 and 360 rows more
    }
    assert present.get(FULL, counted) == counted


@pytest.mark.parametrize(
    "source",
    [
        Source("allenai/ai2_arc", "ARC-Easy", "test"),
        Source("allenai/openbookqa", "main", "test"),
        Source("tau/commonsense_qa", split="validation"),
        Source("truthfulqa/truthful_qa", "multiple_choice", "validation"),
    ],
)
def test_every_row_of_general_multiple_choice_is_usable(
    benchmark_data: Path, source: Source
) -> None:
    examples = load_examples([source], benchmark_data)
    assert len(examples) == len(read_rows(source, benchmark_data))
    assert all(example.answer and example.distractors for example in examples)


def test_a_subject_of_mmlu_is_a_configuration(
    benchmark_data: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows = read_rows(Source("cais/mmlu", "astronomy", "test"), benchmark_data)
    assert {row.values["subject"] for row in rows} == {"astronomy"}
    assert "11,043 of the 14,042" in caplog.text
    with pytest.raises(InputError, match=r"'astronmy'.*did you mean astronomy"):
        read_rows(Source("cais/mmlu", "astronmy", "test"), benchmark_data)


def test_rows_of_one_target_and_the_safe_half(benchmark_data: Path) -> None:
    source = Source("jinzhuoran/RWKU", "forget_level2", "test", where={"subject": ["Stephen King"]})
    king = read_rows(source, benchmark_data)
    assert king
    assert {row.values["subject"] for row in king} == {"Stephen King"}
    safe = Source("walledai/XSTest", split="test", where={"label": ["safe"]})
    rows = read_rows(safe, benchmark_data)
    assert len(rows) == 250
    assert all(row.answerless for row in rows)


def test_a_real_folder_of_the_same_layout(benchmark_data: Path) -> None:
    assert len(read_rows(Source(str(benchmark_data / "tofu"), "forget01"))) == 40
    muse = Source(str(benchmark_data / "muse" / "books"), "knowmem", "forget_qa")
    assert len(read_rows(muse)) == 100


def test_known_names() -> None:
    assert find_benchmark("cais/wmdp", "wmdp-bio", "train") is None
    assert find_benchmark("nobody/nothing", None, "train") is None
    assert known_names("paul/xstest") == ["split=train"]
    assert len({(k.hub_id, k.config, k.split) for k in KNOWN}) == len(KNOWN)
