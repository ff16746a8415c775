"""The suite depth: what only looks forgotten is seen through, and what was never known is not."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from lit_unlearn.data.answer_spans import span_tokens, spans_of
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import Evaluation, evaluate
from lit_unlearn.evaluation.limited import limited
from lit_unlearn.evaluation.probes import Reference, Start, Subject, SuiteResult
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.report.evaluation_gallery import gallery
from lit_unlearn.types import Example, Turn

FACTS = [("Who?", "Ada"), ("Where?", "Rome"), ("When?", "1912"), ("Why?", "envy")]
TOKENIZER = tiny_tokenizer()
ENCODER = Encoder(TOKENIZER)
CPU = Loading(device="cpu")


@dataclass(frozen=True)
class Made:
    """A model that knows the facts, one that never did, and the suite about them."""

    start: Subject
    retain: Subject
    suite: Depth
    entities: Path
    rows: Path

    def score(self, model: Any, suite: Depth | None = None, **options: Any) -> SuiteResult:
        own = (suite or self.suite).with_start(as_start(self.start))
        return run_suite(own, subject(model), reference=self.reference(own), **options)

    def reference(self, suite: Depth) -> Reference:
        return {"forget": run_suite(suite, self.retain).rows}


def subject(model: PreTrainedModel | Subject, name: str = "") -> Subject:
    if isinstance(model, Subject):
        return model
    return Subject(name, model.eval(), TOKENIZER, ENCODER, f"model {name or id(model)}")


def as_start(given: Subject) -> Start:
    return Start(given.name, lambda: given.fingerprint, lambda: given)


def values(result: SuiteResult) -> dict[str, float]:
    return {f.name.removeprefix("forget/"): f.value for f in result.figures}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """The third block of all models adds nothing, so that two blocks know or do not know."""
    folder = tmp_path_factory.mktemp("depth")
    file = folder / "rows.jsonl"
    rows = [{"question": q, "answer": f"It is {a}."} for q, a in FACTS]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    entities = folder / "entities.json"
    entities.write_text(json.dumps([{"question": q, "entity": a} for q, a in FACTS]), "utf-8")
    suite = Depth([Source(str(file), domain="question_answer")], [Source(str(entities))])
    retain = tiny_model(1, layers=3)
    silence(retain.model.layers[2])
    knowing = copy.deepcopy(retain)
    learn(knowing, suite)
    return Made(subject(knowing, "start"), subject(retain, "retain"), suite, entities, file)


def silence(block: Any) -> None:
    for part in (block.self_attn.o_proj, block.mlp.down_proj):
        part.weight.data.zero_()
        part.weight.requires_grad_(False)


def learn(model: Any, suite: Depth) -> None:
    batch = [ENCODER.encode(p.example, p.example.answer) for p in suite.probes(None)]
    optimizer = torch.optim.AdamW((p for p in model.parameters() if p.requires_grad), lr=1e-2)
    for _ in range(40):
        for row in batch:
            assert row is not None
            labels = torch.tensor([row.student_ids])
            labels[:, : row.student_start] = -100
            model(input_ids=torch.tensor([row.student_ids]), labels=labels).loss.backward()
        optimizer.step()
        optimizer.zero_grad()


def changed(made: Made, change: str) -> PreTrainedModel:
    """A copy of the start model that says something else."""
    model: Any = copy.deepcopy(made.start.model)
    torch.manual_seed(3)
    if change == "last block":
        for part in (model.model.layers[2].self_attn.o_proj, model.model.layers[2].mlp.down_proj):
            part.weight.data.normal_(std=2.0)
    else:
        head = torch.nn.Linear(32, len(TOKENIZER), bias=False)
        model.lm_head = head
    return model


# ------------------------------------------------------------------------------------ what is seen


def test_a_model_beside_itself(made: Made) -> None:
    """The start model has lost nothing, the retain model all that it lacks."""
    start, retain = values(made.score(made.start)), values(made.score(made.retain))
    assert start["probability"] > 0.9
    assert start["lens"] >= start["probability"]
    assert [start["uds"], start["lens_erasure"]] == pytest.approx([0, 0], abs=1e-4)
    assert [retain["uds"], retain["lens_erasure"]] == pytest.approx([1, 1])
    assert retain["lens"] < 0.5


@pytest.mark.parametrize("change", ["last block", "head"])
def test_a_change_at_the_end_alone_is_seen_through(made: Made, change: str) -> None:
    """The model no longer says the answers, and blocks below still hold them."""
    found = values(made.score(changed(made, change)))
    assert found["probability"] < 0.1
    assert found["lens"] > 0.9
    assert found["uds"] < 0.7
    if change == "head":  # the states are the start model's
        assert found["uds"] == pytest.approx(0, abs=1e-4)


def test_without_a_start_model_the_lens_is_the_models_own(made: Made) -> None:
    found = run_suite(made.suite, subject(changed(made, "last block")))
    own = values(found)
    assert own["lens"] > 0.9
    assert own["uds"] != own["uds"]
    notes = {f.name: f.note for f in found.figures}
    assert "--start" in notes["forget/uds"]
    assert list(found.maps) == ["logit lens", "linear probe"]


# -------------------------------------------------------------------------------------- properties


def test_neither_batches_nor_the_order_of_rows_nor_parts_count(made: Made, tmp_path: Path) -> None:
    turned = tmp_path / "rows.jsonl"
    turned.write_text("\n".join(made.rows.read_text("utf-8").splitlines()[::-1]), "utf-8")
    model = changed(made, "last block")
    whole = made.score(model)
    apart = made.score(model, replace(made.suite, batch_size=1), batch_size=1)
    assert values(apart) == pytest.approx(values(whole), abs=1e-5)
    other = Depth([Source(str(turned), domain="question_answer")], made.suite.spans)
    backward = made.score(model, other)
    for name in ("probability", "lens", "lens_erasure", "uds"):
        assert values(backward)[name] == pytest.approx(values(whole)[name], abs=1e-5)
    few = made.score(model, limit=2)
    kept = {row.row_id: row.scores["uds"] for row in few.rows}
    assert len(kept) == 2
    assert {r.row_id: r.scores["uds"] for r in whole.rows if r.row_id in kept} == pytest.approx(
        kept
    )


@pytest.fixture(scope="module")
def written(made: Made, tmp_path_factory: pytest.TempPathFactory) -> tuple[Evaluation, Path]:
    folder = tmp_path_factory.mktemp("written")
    for heading, model in (("start", made.start.model), ("retain", made.retain.model)):
        saved: Any = model
        saved.save_pretrained(folder / heading)
        TOKENIZER.save_pretrained(folder / heading)
    found = evaluate(
        (changed(made, "last block"), TOKENIZER),
        made.suite,
        start=folder / "start",
        reference=folder / "retain",
        output=folder / "out",
        loading=CPU,
    )
    return found, folder


def test_evaluate_hands_in_start_and_reference(written: tuple[Evaluation, Path]) -> None:
    found, folder = written
    figures = {
        heading: {f.name: f.value for f in record.suites["depth"].figures}
        for heading, record in found.records.items()
    }
    assert figures["start"]["forget/uds"] == pytest.approx(0, abs=1e-4)
    assert 0.1 < figures["model"]["forget/uds"] < 0.7
    read = read_evaluation(folder / "out").suites["depth"]
    assert read.maps == found.records["model"].suites["depth"].maps
    assert read.maps["logit lens"].blocks == [1, 2, 3]
    pictures = gallery(found.records)
    titles = ["logit lens", "fall when put into the start model", "linear probe"]
    assert list(pictures) == ["depth", *(f"depth {title}" for title in titles)]
    panels = [axes.get_title(loc="left") for axes in pictures["depth logit lens"].axes]
    assert panels[:3] == ["start", "model", "reference"]


def test_earlier_evaluations_stand_for_both_models(
    made: Made, written: tuple[Evaluation, Path]
) -> None:
    first, folder = written
    model = (changed(made, "last block"), TOKENIZER)
    places = {name: folder / "out" / name for name in ("start", "reference")}
    again = evaluate(model, made.suite, **places, loading=CPU)
    rows = [each.records["model"].suites["depth"].rows for each in (first, again)]
    assert rows[0] == rows[1]


# ------------------------------------------------------------------------------------------- input


def example(question: str, answer: str, *accepted: str) -> Example:
    return Example("1", (Turn("user", question),), answer, "question_answer", accepted)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (
            example("Whose job?", "He is a civil engineer.", "Civil engineer", "x"),
            ["civil engineer"],
        ),
        (example("Is Bo a poet?", "Bo is a poet from Graz.", "Bo"), ["from", "Graz"]),
        (example("Yes or no?", "Yes."), ["Yes."]),
        (example("Who?", "\u6625\u5929\u662f\u7eff"), ["\u6625\u5929\u662f\u7eff"]),
    ],
)
def test_spans(row: Example, expected: list[str]) -> None:
    found = [row.answer[a:b] for a, b in spans_of(row)]
    assert found == expected
    encoded = ENCODER.encode(row, row.answer)
    assert encoded is not None
    answer = encoded.student_ids[encoded.student_start :]
    tokens = span_tokens(TOKENIZER, answer, row.answer, spans_of(row))
    assert TOKENIZER.decode([answer[index] for index in tokens]) == "".join(expected)


def test_a_span_that_is_not_in_the_tokens_is_the_whole_answer() -> None:
    assert span_tokens(TOKENIZER, TOKENIZER("abc<|im_end|>")["input_ids"], "xyz", [(0, 1)]) == [
        0,
        1,
        2,
    ]


def test_mistakes(made: Made) -> None:
    started = made.suite.with_start(as_start(made.start))
    theirs = made.reference(started)
    other = made.suite.with_start(as_start(subject(tiny_model(5, layers=3), "other")))
    with pytest.raises(InputError, match="read beside the same start model"):
        run_suite(other, made.start, reference=theirs)
    with pytest.raises(InputError, match="the same `blocks`"):
        run_suite(
            replace(made.suite, blocks=1).with_start(as_start(made.start)),
            made.start,
            reference=theirs,
        )
    probes = limited(started.probes(None), None)
    plain = {"forget": [replace(row, scores={}) for row in (theirs or {})["forget"]]}
    with pytest.raises(InputError, match="was read beside a start model"):
        started.check(probes, plain)
    with pytest.raises(InputError, match="same 4 rows of the suite depth"):
        started.check(probes, {"forget": list((theirs or {})["forget"])[:2]})
    small = made.suite.with_start(as_start(subject(tiny_model(layers=2), "small")))
    with pytest.raises(InputError, match=r"number of blocks of retain \(3\). Found 2"):
        run_suite(small, made.retain)
    lost = Depth(made.suite.sources, [Source("builtin:general", split="eval")])
    with pytest.raises(InputError, match="`question` and `entity`"):
        lost.probes(None)
