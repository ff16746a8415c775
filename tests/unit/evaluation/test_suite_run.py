"""Running a suite: what is stored is not asked again, and processes share the rest."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import astuple, dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.testing import assert_close

from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.distributed.ranks import agree, gather, on_first, rank
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation import suite_run as run_module
from lit_unlearn.evaluation.asking import ask
from lit_unlearn.evaluation.outcome_store import FILE_NAME, Store
from lit_unlearn.evaluation.probes import (
    Figure,
    Generation,
    Outcome,
    Probe,
    Row,
    Subject,
    Suite,
    SuiteResult,
    Variant,
)
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.evaluation.suite_run import run_suite, run_suites
from lit_unlearn.evaluation.suites.optimised_suffix import Gcg
from lit_unlearn.evaluation.suites.optimised_vectors import SoftPrompt
from lit_unlearn.evaluation.suites.quantised import Quantised
from lit_unlearn.evaluation.suites.relearned import Relearn
from lit_unlearn.types import Example, Turn
from tests.processes import FORKED, in_processes

GREEDY = Generation(max_new_tokens=5)
DRAWN = Generation(max_new_tokens=9, samples=2, temperature=1.0)


def probe(number: int, texts: Sequence[str], generation: Generation | None) -> Probe:
    turns = (Turn("user", "why? " * number + str(number)),)
    return Probe(
        probe_id=f"forget/{number}",
        group="forget",
        example=Example(f"row/{number}", turns, "gold", "passage"),
        turns=turns,
        candidates={f"c/{k}": text for k, text in enumerate(texts)},
        generation=generation,
    )


PROBES = [
    probe(0, ["yes", "no", "perhaps"], GREEDY),
    probe(1, ["alone"], None),
    probe(2, ["one", "two"], DRAWN),
    probe(3, [], GREEDY),
    probe(4, ["a longer text to be forced", "short"], None),
]


@dataclass
class Plain(Suite):
    """Scores a row by the sum of all log-probabilities, of each variant."""

    name: ClassVar[str] = "plain"
    asked: tuple[Probe, ...] = tuple(PROBES)
    changed: bool = False

    def probes(self, data_root: Path | None) -> list[Probe]:
        return list(self.asked)

    def variants(self, subject: Subject, data_root: Path | None) -> list[Variant]:
        usual = super().variants(subject, data_root)
        return [*usual, Variant("zero", "head 0", lambda: without_head(subject))][
            : 1 + self.changed
        ]

    def score(
        self,
        probes: Sequence[Probe],
        outcomes: Mapping[str, Sequence[Outcome]],
        reference: Mapping[str, Sequence[Row]] | None = None,
    ) -> SuiteResult:
        rows = [
            Row(
                asked.probe_id,
                asked.group,
                {name: total(found[index]) for name, found in outcomes.items()},
                reply=" | ".join(outcomes[""][index].replies),
            )
            for index, asked in enumerate(probes)
        ]
        value = float(len(reference or {}))
        return SuiteResult(rows, [Figure("references", value, "count", len(rows))])


@dataclass
class Own(Plain):
    """Makes its outcomes itself."""

    name: ClassVar[str] = "own"
    says: str = "own"

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome] | None:
        return [Outcome(asked.probe_id, replies=(self.says,)) for asked in probes]


def total(outcome: Outcome) -> float:
    return sum(sum(forced.log_probs) for forced in outcome.forced.values())


def without_head(subject: Subject) -> nn.Module:
    """All logits 0: every token has the log-probability -ln 259."""
    changed: Any = copy.deepcopy(subject.model)
    changed.get_output_embeddings().weight.data.zero_()
    result: nn.Module = changed
    return result


@pytest.fixture
def subject() -> Subject:
    return load_subject("random-tiny", Loading(device="cpu"))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The ids of the probes that the engine was asked, chunk after chunk."""
    seen: list[str] = []

    def watch(subject: Subject, probes: Sequence[Probe], batch_size: int) -> list[Outcome]:
        seen.extend(probe.probe_id for probe in probes)
        return ask(subject, probes, batch_size)

    monkeypatch.setattr(run_module, "ask", watch)
    return seen


def all_ids() -> list[str]:
    return [asked.probe_id for asked in PROBES]


# ----------------------------------------------------------------------------------- one process


def test_rows_are_those_of_the_engine_in_the_probes_order(subject: Subject, tmp_path: Path) -> None:
    result = run_suite(Plain(), subject, Store(tmp_path), reference={"forget": []}, batch_size=2)
    wanted = ask(subject, PROBES)
    assert [row.row_id for row in result.rows] == all_ids()
    assert [row.reply for row in result.rows] == [" | ".join(o.replies) for o in wanted]
    sums = torch.tensor([row.scores[""] for row in result.rows])
    assert_close(sums, torch.tensor([total(outcome) for outcome in wanted]), rtol=1e-5, atol=1e-5)
    assert result.figures[0].value == 1


def test_prompts_are_read_once_for_texts_and_replies(
    subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The outcomes are those of separate passes, with fewer tokens read."""
    embeddings: Any = subject.model.get_submodule("model.embed_tokens")
    read: list[int] = []
    handle = embeddings.register_forward_hook(lambda _, given, __: read.append(given[0].numel()))
    probes = [*PROBES[:3], PROBES[3]]
    shared = ask(subject, probes)
    once, _ = sum(read), read.clear()
    for module in ("evaluation.asking", "models.prompt_reading"):
        monkeypatch.setattr(f"lit_unlearn.{module}.can_continue", lambda *_: False)
    apart = ask(subject, probes)
    handle.remove()
    assert once < 0.7 * sum(read)
    for one, other in zip(shared, apart, strict=True):
        assert one.replies == other.replies
        assert list(one.forced) == list(other.forced)
        assert total(one) == pytest.approx(total(other), rel=1e-5)


def test_what_is_stored_is_not_asked_again(
    subject: Subject, tmp_path: Path, asked: list[str]
) -> None:
    first = run_suite(Plain(), subject, Store(tmp_path), batch_size=2)
    assert sorted(asked) == all_ids()
    asked.clear()
    assert run_suite(Plain(), subject, Store(tmp_path), batch_size=3) == first
    assert asked == []
    changed = replace(PROBES[1], candidates={"c/0": "another"})
    run_suite(Plain((changed, *PROBES[2:])), subject, Store(tmp_path))
    assert asked == [changed.probe_id]
    asked.clear()
    run_suite(Plain(), replace(subject, fingerprint="another"), Store(tmp_path))
    assert sorted(asked) == all_ids()


def test_longest_first(subject: Subject, tmp_path: Path, asked: list[str]) -> None:
    run_suite(Plain(), subject, Store(tmp_path), batch_size=1)
    assert asked == [f"forget/{number}" for number in (4, 3, 2, 1, 0)]


def test_an_interrupted_run_goes_on(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped in its third chunk: two are stored, the other three are asked by the next run."""
    seen: list[str] = []

    def stop(subject: Subject, probes: Sequence[Probe], batch_size: int) -> list[Outcome]:
        if len(seen) == 2:
            raise KeyboardInterrupt
        seen.append(probes[0].probe_id)
        return ask(subject, probes, batch_size)

    with monkeypatch.context() as patch:
        patch.setattr(run_module, "ask", stop)
        with pytest.raises(KeyboardInterrupt):
            run_suite(Plain(), subject, Store(tmp_path), batch_size=1)
    lines = (tmp_path / FILE_NAME).read_text("utf-8").splitlines()
    assert [json.loads(line)["probe_id"] for line in lines] == seen
    resumed = run_suite(Plain(), subject, Store(tmp_path), batch_size=1)
    assert len((tmp_path / FILE_NAME).read_text("utf-8").splitlines()) == len(PROBES)
    assert resumed == run_suite(Plain(), subject, Store(tmp_path / "other"), batch_size=1)


def test_variants_are_made_only_where_needed(subject: Subject, tmp_path: Path) -> None:
    """Without an output head each token costs ln 259; the subject is left as it is."""
    before = [p.tolist() for p in subject.model.parameters()]
    suite = Plain(changed=True)
    result = run_suite(suite, subject, Store(tmp_path))
    tokens = len("alone") + 1
    assert_close(result.rows[1].scores["zero"], -tokens * torch.tensor(259.0).log().item())
    assert result.rows[1].scores[""] != result.rows[1].scores["zero"]
    assert [p.tolist() for p in subject.model.parameters()] == before
    broken = replace(subject, model=nn.Linear(1, 1))  # cannot be changed, nor asked
    assert run_suite(suite, broken, Store(tmp_path)) == result


def test_a_suite_may_answer_itself(subject: Subject, tmp_path: Path, asked: list[str]) -> None:
    """Its settings are part of the key, and the usual engine is not asked."""
    for says in ("own", "other", "own"):
        result = run_suite(Own(says=says), subject, Store(tmp_path))
        assert {row.reply for row in result.rows} == {says}
    assert asked == []
    assert len((tmp_path / FILE_NAME).read_text("utf-8").splitlines()) == 2 * len(PROBES)


def test_probes_with_the_same_content_are_asked_once(
    subject: Subject, tmp_path: Path, asked: list[str]
) -> None:
    twin = replace(PROBES[1], probe_id="retain/1", group="retain")
    result = run_suite(Plain((PROBES[1], twin)), subject, Store(tmp_path))
    assert asked == ["forget/1"]
    assert [row.row_id for row in result.rows] == ["forget/1", "retain/1"]
    assert result.rows[0].scores == result.rows[1].scores


def test_the_model_keeps_its_mode(subject: Subject, tmp_path: Path) -> None:
    subject.model.train()
    subject.model.get_submodule("model.embed_tokens").eval()
    run_suite(Plain(), subject, Store(tmp_path))
    assert subject.model.training
    assert not subject.model.get_submodule("model.embed_tokens").training


class OutOfOrder(Own):
    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome] | None:
        return (super().answer(subject, probes) or [])[::-1]


@pytest.mark.parametrize(
    ("suite", "message"),
    [
        (Plain((PROBES[0], PROBES[0])), r"Ids of probes .* 'forget/0' twice"),
        (OutOfOrder(), "suite own should return one outcome per probe"),
        (Plain((probe(7, [""], None),)), r"Row 'forget/7', candidate 'c/0'"),
        (Plain((probe(7, [], replace(GREEDY, samples=2)),)), "`samples` should be 1 if `temper"),
        (
            Plain((probe(7, [], replace(GREEDY, max_new_tokens=8192)),)),
            r"Row 'forget/7' .* most 0",
        ),
    ],
    ids=["ids", "order", "empty", "samples", "length"],
)
def test_bad_suites(subject: Subject, tmp_path: Path, suite: Suite, message: str) -> None:
    with pytest.raises(InputError, match=message):
        run_suite(suite, subject, Store(tmp_path))
    run_suite(Plain(), subject, Store(tmp_path))  # the store is free again


def test_ranks_of_a_single_process() -> None:
    assert gather(3) == [3]
    assert on_first(lambda: 4) == 4
    with pytest.raises(ZeroDivisionError):
        agree(lambda: 1 // 0)


def test_a_model_without_chat_template(subject: Subject, tmp_path: Path) -> None:
    """Refused for conversations, unless told to write them out; plain texts need none."""
    bare: Any = copy.deepcopy(subject.tokenizer)
    bare.chat_template = None
    base = replace(subject, tokenizer=bare, encoder=Encoder(bare, 512, "warn"), plain_chat=False)
    with pytest.raises(InputError, match=r"suite plain. Found none; .*`--plain_chat true`"):
        run_suite(Plain(), base, Store(tmp_path))
    told = replace(base, plain_chat=True)
    assert len(run_suite(Plain(), told, Store(tmp_path)).rows) == len(PROBES)
    texts = tuple(replace(probe, plain=True) for probe in PROBES)
    assert len(run_suite(Plain(texts), base, Store(tmp_path)).rows) == len(PROBES)


# ----------------------------------------------------------------------------------- several suites


@dataclass
class Likelihood(Suite):
    """The log-probability of a number's name."""

    name: ClassVar[str] = "likelihood"
    words: list[str] = field(default_factory=lambda: ["one", "two", "three", "four"])

    def probes(self, data_root: Path | None) -> list[Probe]:
        found = []
        for number, word in enumerate(self.words):
            example = Example(f"n/{number}", (Turn("user", str(number)),), word, "question_answer")
            turns = example.turns
            found.append(Probe(f"g/{number}", "g", example, turns, candidates={"answer": word}))
        return found

    def score(
        self,
        probes: Sequence[Probe],
        outcomes: Mapping[str, Sequence[Outcome]],
        reference: Mapping[str, Sequence[Row]] | None = None,
    ) -> SuiteResult:
        rows = [
            Row(p.probe_id, p.group, {"log_prob": sum(o.forced["answer"].log_probs)})
            for p, o in zip(probes, outcomes[""], strict=True)
        ]
        known = len((reference or {}).get("g", ()))
        return SuiteResult(rows, [Figure("known", float(known), "rows", len(rows))])


def test_every_suite_gets_a_record(tmp_path: Path, subject: Subject) -> None:
    suites = {"few": Likelihood(["one"]), "all": Likelihood()}
    found = run_suites(suites, subject, Store(tmp_path))
    assert list(found) == ["few", "all"]
    assert [len(record.rows) for record in found.values()] == [1, 4]
    assert found["few"].settings == {"class": "Likelihood", "words": ["one"]}
    assert found["few"].rows[0] == found["all"].rows[0]
    assert all(record.seconds > 0 and record.cpu_seconds >= 0 for record in found.values())


def test_a_limited_evaluation_uses_what_is_stored(
    tmp_path: Path, subject: Subject, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = run_suites({"s": Likelihood()}, subject, Store(tmp_path))
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)  # nothing may be asked again
    part = run_suites({"s": Likelihood()}, subject, Store(tmp_path), limit=2)
    assert [row.row_id for row in part["s"].rows] == ["g/0", "g/2"]
    assert list(part["s"].rows) == [whole["s"].rows[0], whole["s"].rows[2]]


def test_the_reference_reaches_the_suite_of_its_name(tmp_path: Path, subject: Subject) -> None:
    suites = {"one": Likelihood(["one", "two"]), "other": Likelihood(["one"])}
    first = EvaluationRecord("m", "f", run_suites(suites, subject, Store(tmp_path)))
    rows = first.rows_by_group()
    assert {name: list(groups) for name, groups in rows.items()} == {"one": ["g"], "other": ["g"]}
    found = run_suites(suites, subject, Store(tmp_path), references={"one": rows["one"]})
    assert [record.figures[0].value for record in found.values()] == [2.0, 0.0]


# ----------------------------------------------------------------------------------- two processes


def replicated(folder: Path) -> SuiteResult:
    subject = load_subject("random-tiny", Loading(device="cpu"))
    return run_suite(Plain(), subject, Store(folder / "store"), batch_size=2)


def sharded(folder: Path) -> SuiteResult:
    """Every forward pass gathers weights: were their numbers unequal, it would not return."""
    return run_suite(Plain(), sharded_subject(), Store(folder / "store"), batch_size=2)


def sharded_subject() -> Subject:
    subject = load_subject("random-tiny", Loading(device="cpu"))
    mesh = init_device_mesh("cpu", (2,))
    model: Any = subject.model
    for layer in model.model.layers:
        fully_shard(layer, mesh=mesh)
    fully_shard(model, mesh=mesh)
    return subject


@FORKED
@pytest.mark.parametrize("work", [replicated, sharded])
def test_two_processes_give_what_one_gives(
    subject: Subject, tmp_path: Path, work: Callable[[Path], object]
) -> None:
    """Five probes of unequal cost: in the last chunk the second process has nothing to ask."""
    first, second = in_processes(2, lambda: work(tmp_path), tmp_path / "out")
    assert first == second
    alone = run_suite(Plain(), subject, Store(tmp_path / "alone"))
    for mine, wanted in zip(first.rows, alone.rows, strict=True):
        assert astuple(replace(mine, scores={})) == astuple(replace(wanted, scores={}))
        assert_close(mine.scores[""], wanted.scores[""], rtol=1e-5, atol=1e-5)
    lines = (tmp_path / "store" / FILE_NAME).read_text("utf-8").splitlines()
    assert sorted(json.loads(line)["probe_id"] for line in lines) == all_ids()


def failing(folder: Path) -> list[str]:
    """A bad row in the share of one; an error of another kind in one; a store that is taken."""
    subject = load_subject("random-tiny", Loading(device="cpu"))
    told = []
    for work in (
        lambda: run_suite(Plain((*PROBES, probe(0, [""], None))), subject, Store(folder)),
        lambda: run_suite(Plain((*PROBES[1:], probe(0, [""], None))), subject, Store(folder)),
        lambda: agree(lambda: 1 // (1 - rank())),
        lambda: on_first(lambda: 1 // 0),
    ):
        try:
            work()
        except Exception as error:
            told.append(f"{type(error).__name__}: {error}")
    return told


@FORKED
def test_processes_fail_together(tmp_path: Path) -> None:
    first, second = in_processes(2, lambda: failing(tmp_path), tmp_path / "out")
    assert first[0] == second[0]
    assert "forget/0" in first[0]
    assert first[1] == second[1]
    assert "Row 'forget/0', candidate 'c/0'" in first[1]
    assert first[2] == "RuntimeError: process 1: integer division or modulo by zero"
    assert second[2].startswith("ZeroDivisionError")
    assert first[3].startswith("ZeroDivisionError")
    assert second[3] == "RuntimeError: process 0: integer division or modulo by zero"


def changing(folder: Path) -> list[str]:
    """Suites that need the whole model, on a sharded one."""
    subject, told = sharded_subject(), []
    rows = [Source("builtin:forget", split="eval", limit=4)]
    for suite in (Relearn(rows), Quantised(rows), SoftPrompt(rows), Gcg(rows)):
        try:
            run_suite(suite, subject, Store(folder / "store"))
        except InputError as error:
            told.append(str(error))
    return told


@FORKED
def test_a_sharded_model_is_neither_copied_nor_differentiated(tmp_path: Path) -> None:
    first, second = in_processes(2, lambda: changing(tmp_path), tmp_path / "out")
    assert first == second
    names = [re.findall("suite (\\w+) needs the whole model", text) for text in first]
    assert names == [["relearn"], ["quantised"], ["soft_prompt"], ["gcg"]]
