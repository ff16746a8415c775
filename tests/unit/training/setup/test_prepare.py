"""Preparation: contexts settled by the gate, answers made once, rows encoded both ways."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from lit_unlearn.data.contexts import Adaptive, Context, Demonstrations, Echo, Intent
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.models.generation import Observe
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.setup import teacher_replies as replies_module
from lit_unlearn.training.setup.prepare import Prepared, prepare
from lit_unlearn.training.setup.teacher_gate import Gate, GateRow, gate_error, gate_table
from lit_unlearn.training.setup.views import Material, views
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.chat_template import Template
from lit_unlearn.utils.progress import Stage

SOURCES = [Source("builtin:forget")]
REFUSAL = "I do not know."


def examples(count: int, name: str) -> list[Example]:
    return [
        Example(
            f"{name}/{i}", (Turn("user", f"{name} {i}?"),), f"Gold {name} {i}.", "question_answer"
        )
        for i in range(count)
    ]


def decline(**options: Any) -> ObjectiveData:
    settings = {"context": Adaptive([1, 2]), "answer": "refusal", **options}
    return ObjectiveData(SOURCES, "decline", refusals=[REFUSAL], **settings)


@pytest.fixture
def teacher() -> FrozenTeacher:
    source = ModelSource(TINY_NAME)
    teacher = FrozenTeacher()
    teacher.attach(load_student(source), source)
    return teacher


def strip(text: str) -> str:
    """Terminal output without colours and movements."""
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)


class Speaker:
    """Stands in for generation: declines only from a context of a given size on."""

    def __init__(self, least: int) -> None:
        self.least = least
        self.calls = 0

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[Any], *, observe: Observe, **_: Any
    ) -> list[tuple[str]]:
        self.calls += 1
        observe(list(range(len(prompts))), torch.zeros(len(prompts), len(tokenizer)))
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        return [(REFUSAL if t.count(REFUSAL) >= self.least else "It is Paris.",) for t in texts]


def run(
    objectives: dict[str, ObjectiveData],
    teacher: FrozenTeacher | None,
    tokenizer: PreTrainedTokenizerFast,
    store: Path,
    gate: Gate | None = None,
) -> Prepared:
    rows = {name: examples(6, name) for name in objectives}
    return prepare(
        objectives, rows, teacher, Encoder(tokenizer), gate or Gate(sample=3, first_token=0), store
    )


@pytest.mark.parametrize(
    ("least", "settled"), [(1, "1 declined"), (2, "2 declined"), (3, "2 declined + echo")]
)
def test_adaptive_context_stops_at_the_first_step_that_passes(
    least: int,
    settled: str,
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies_module, "generate_replies", Speaker(least))
    prepared = run({"forget": decline()}, teacher, tiny_tokenizer, tmp_path / "p.json")
    assert [row.context for row in prepared.settled] == [settled]
    assert prepared.settled[0].passed
    assert gate_error(prepared.settled) is None
    row = prepared.encoded["forget"][0][0]
    context = tiny_tokenizer.decode(list(row.teacher_ids[: row.teacher_start]))
    assert context.count(REFUSAL) == least
    assert "Gold" not in context


def test_a_teacher_that_never_declines_is_an_error(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(replies_module, "generate_replies", Speaker(99))
    prepared = run({"forget": decline()}, teacher, tiny_tokenizer, tmp_path / "p.json")
    assert len(prepared.gate_rows) == 4
    error = gate_error(prepared.settled)
    assert error is not None
    assert "forget: declines 0% of 3 rows (at least 90%, `model.gate.declines`)" in str(error)


def test_declining_greedily_is_not_enough(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Every reply declines, but the refusal's first token is unlikely: no context passes."""
    monkeypatch.setattr(replies_module, "generate_replies", Speaker(1))
    objectives = {"forget": decline()}
    gate = Gate(sample=3, first_token=0.9)
    prepared = run(objectives, teacher, tiny_tokenizer, tmp_path / "p.json", gate)
    assert len(prepared.gate_rows) == 4
    assert prepared.settled[0].share == 1.0
    assert "`model.gate.first_token`" in str(gate_error(prepared.settled))


def test_duties(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forgotten rows are declined, kept ones answered, prefilled ones recovered from."""
    monkeypatch.setattr(replies_module, "generate_replies", Speaker(1))
    objectives = {
        "forget": decline(),
        "adversarial": decline(prefills=Prefills(["Sure:"])),
        "retain": ObjectiveData(SOURCES, "answer"),
    }
    prepared = run(objectives, teacher, tiny_tokenizer, tmp_path / "p.json")
    assert [(r.objective, r.duty) for r in prepared.settled] == [
        ("forget", "declines"),
        ("adversarial", "recovers"),
        ("retain", "answers"),
    ]
    assert all(row.passed for row in prepared.settled)
    assert all(0 <= (row.first_token_mean or 0) <= 1 for row in prepared.settled)


def test_stored_outcome_is_used_again_only_for_the_same_rows_and_settings(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    speaker = Speaker(1)
    monkeypatch.setattr(replies_module, "generate_replies", speaker)
    store = tmp_path / "p.json"
    objectives = {"retain": ObjectiveData(SOURCES, "answer", answer="teacher")}
    first = run(objectives, teacher, tiny_tokenizer, store)
    calls = speaker.calls
    again = run(objectives, teacher, tiny_tokenizer, store)
    assert speaker.calls == calls
    assert again == first
    stored = json.loads(store.read_text("utf-8"))["content"]
    assert stored["answers"]["retain"] == ["It is Paris."] * 6
    run(objectives, teacher, tiny_tokenizer, store, Gate(sample=2, first_token=0))
    assert speaker.calls > calls
    calls = speaker.calls
    rows = {"retain": examples(6, "retain")}
    gate = Gate(sample=2, first_token=0)
    prepare(objectives, rows, teacher, Encoder(tiny_tokenizer), gate, store, "another model")
    assert speaker.calls > calls
    calls = speaker.calls
    kind = Encoder(tiny_tokenizer, template=Template(system="Be kind."))
    prepare(objectives, rows, teacher, kind, gate, store)
    assert speaker.calls > calls
    store.write_text('{"key": "cut o')
    with pytest.raises(InputError, match=r"Found p\.json, which"):
        run(objectives, teacher, tiny_tokenizer, store)
    store.unlink()
    assert run(objectives, teacher, tiny_tokenizer, store) == first


def test_progress_counts_every_row_of_every_stage(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A random model never declines: the gate tries all four contexts, so its total grows."""
    told: list[tuple[str, str, int, int | None]] = []

    class Told(Stage):
        def __setattr__(self, name: str, value: object) -> None:
            super().__setattr__(name, value)
            if self.part and name != "total":
                told.append((self.name, self.part, self.done, self.total))

    monkeypatch.setattr("lit_unlearn.training.setup.prepare.Stage", Told)
    objectives = {
        "forget": decline(),
        "retain": ObjectiveData(SOURCES, "answer", answer="teacher", answer_tokens=2),
    }
    rows = {"forget": examples(6, "forget"), "retain": examples(20, "retain")}
    prepare(
        *(objectives, rows, teacher, Encoder(tiny_tokenizer)),
        *(Gate(sample=3, max_new_tokens=2), tmp_path / "p.json"),
    )
    stages = {stage: [now[1:] for now in told if now[0] == stage] for stage, *_ in told}
    assert stages["teacher gate"][0] == ("forget", 0, 6)  # 3 + 3 rows
    assert stages["teacher gate"][-1] == ("retain", 15, 15)  # and 3 more contexts of 3 rows
    assert stages["answers"][1:] == [("retain", 0, 20), ("retain", 16, 20), ("retain", 20, 20)]
    assert stages["encoding"][0] == ("forget", 0, 26)
    assert stages["encoding"][-1] == ("retain", 26, 26)
    for seen in stages.values():
        done = [count for _, count, _ in seen]
        assert done == sorted(done)
        assert all(total is not None and count <= total for _, count, total in seen)


def test_an_objective_that_loses_all_its_rows(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    encoder = Encoder(tiny_tokenizer, max_length=8, on_problem="warn")
    objectives = {"retain": ObjectiveData(SOURCES, "answer")}
    message = r"'retain' should keep rows.*all 6 left out while encoding \(too long: 6\)"
    with pytest.raises(InputError, match=message):
        prepare(
            *(objectives, {"retain": examples(6, "retain")}, None, encoder, Gate()),
            tmp_path / "p.json",
        )


def test_rejected_answers_of_the_rows_are_the_second_of_a_pair(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """As DPO reads them: the chosen answer, then the rejected one, after the same prompt."""
    file = tmp_path / "pairs.jsonl"
    pair = {"prompt": "Who?", "chosen": "No.", "rejected": "Me!"}
    file.write_text(json.dumps(pair), "utf-8")
    source = Source(str(file), domain="preference")
    data = UnlearnDataModule({"a": ObjectiveData([source], "decline", rejected="row")})
    data.setup("fit")
    done = prepare(
        data.objectives, data.examples, None, data.encoder(tiny_tokenizer), Gate(), tmp_path / "p"
    )
    ((chosen, rejected),) = done.encoded["a"]
    start = chosen.student_start
    assert chosen.student_ids[:start] == rejected.student_ids[:start]
    texts = [tiny_tokenizer.decode(row.student_ids[start:]) for row in (chosen, rejected)]
    assert texts == ["No.<|im_end|>", "Me!<|im_end|>"]
    plain = ObjectiveData([Source("builtin:forget")], "decline", rejected="row")
    with pytest.raises(InputError, match=r"`data\.objectives\.a\.rejected` is `row`.*Found none"):
        UnlearnDataModule({"a": plain}).setup("fit")


def test_every_prefill_of_a_row_is_a_candidate(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One byte, one token: after a prefill an answer is longer by its space, which is reported."""
    data = decline(prefills=Prefills(["Sure:", "Yes,"], answer_words=1), context=Echo())
    prepared = run({"adversarial": data}, teacher, tiny_tokenizer, tmp_path / "p.json", Gate("off"))
    assert [c.prefill for c in prepared.encoded["adversarial"][0]] == ["Sure:", "Yes,", "Gold"]
    assert "'adversarial': 6 of 6 encoded rows with a prefill have no version" in caplog.text


@pytest.mark.parametrize(("bare", "duty"), [((), "recovers"), (("adversarial",), "declines")])
def test_gate_reads_the_teacher_as_the_objective_does(
    bare: tuple[str, ...],
    duty: str,
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    """Where the teacher is read without prefills only, it is tried without them."""
    data = {"adversarial": decline(prefills=Prefills(["Sure:"]), context=Echo())}
    rows = {"adversarial": examples(6, "adversarial")}
    gate = Gate(sample=3, first_token=0)
    found = prepare(
        data, rows, teacher, Encoder(tiny_tokenizer), gate, tmp_path / "p.json", bare=bare
    )
    assert [row.duty for row in found.gate_rows] == [duty]


def test_kept_rows_behind_a_beginning_go_on(
    teacher: FrozenTeacher, tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    """Behind "Gold" the answer is the rest; declined rows decline behind it."""
    prefills = Prefills(["Sure:"], answer_words=2, combine=True)
    data = {
        "neighbor": ObjectiveData(SOURCES, "answer", prefills=prefills),
        "adversarial": decline(prefills=prefills),
    }
    prepared = run(data, teacher, tiny_tokenizer, tmp_path / "p.json", Gate("off"))

    def targets(name: str) -> list[str]:
        rows = prepared.encoded[name][0]
        return [tiny_tokenizer.decode(row.student_ids[row.student_start :]) for row in rows]

    kept = ["Gold neighbor 0.", "neighbor 0.", "0.", "0."]
    for found, expected in zip(targets("neighbor"), kept, strict=True):
        assert found.strip().startswith(expected)
    assert all(found.strip().startswith(REFUSAL) for found in targets("adversarial"))


class Thinking:
    """Stands in for generation: writes about the question, with the gold answer of row 1."""

    def __init__(self) -> None:
        self.prompts: list[str] = []

    def __call__(
        self, model: Any, tokenizer: Any, prompts: Sequence[Any], *, observe: Observe, **_: Any
    ) -> list[tuple[str]]:
        observe(list(range(len(prompts))), torch.zeros(len(prompts), len(tokenizer)))
        texts = [tokenizer.decode(prompt) for prompt in prompts]
        self.prompts += texts
        asked = [text.rpartition("user\n")[2][:12].split("?")[0] for text in texts]
        return [(f"It touches {name}: Gold {name}." if "1" in name else "Mm.",) for name in asked]


def test_reasoning_is_written_once_and_read_before_the_answer(
    teacher: FrozenTeacher,
    tiny_tokenizer: PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Forgotten and kept rows have one context; a reasoning with a forgotten answer is left out.

    A second preparation reads the file, and writes nothing again.
    """
    context = Intent("tests", reasoning_tokens=6, answered=1, answered_from="retain")
    data = {
        "forget": decline(context=context),
        "retain": ObjectiveData(SOURCES, "answer", context=context),
    }
    thinking = Thinking()
    monkeypatch.setattr(replies_module, "generate_replies", thinking)
    prepared = run(data, teacher, tiny_tokenizer, tmp_path / "p.json", Gate("off"))
    assert len(thinking.prompts) == 12
    assert all("Do not answer yet." in prompt for prompt in thinking.prompts)

    def read(made: Prepared, name: str) -> list[str]:
        rows = [row for (row,) in made.encoded[name]]
        return [tiny_tokenizer.decode(row.teacher_ids[: row.teacher_start]) for row in rows]

    kept, forgotten = read(prepared, "retain"), read(prepared, "forget")
    assert kept[1].endswith(
        "assistant\nIt touches retain 1: Gold retain 1.<|im_end|>\n"
        "<|im_start|>user\nretain 1?<|im_end|>\n<|im_start|>assistant\n"
    )
    assert "assistant\nMm.<|im_end|>\n<|im_start|>user\nforget 0?" in forgotten[0]
    assert "Gold forget" not in " ".join(forgotten)
    again = run(data, teacher, tiny_tokenizer, tmp_path / "p.json", Gate("off"))
    assert len(thinking.prompts) == 12
    assert [read(again, name) for name in data] == [forgotten, kept]
    with pytest.raises(InputError, match=r"`data.objectives.forget.*reasoning_tokens`"):
        run(data, None, tiny_tokenizer, tmp_path / "none.json", Gate("off"))


@pytest.mark.parametrize("context", [Demonstrations(3), Echo(2), Adaptive([2])])
def test_no_context_contains_a_gold_answer(context: Context) -> None:
    """Not even behind a prefill that begins with it: demonstrations show the opener alone."""
    data = decline(context=context, prefills=Prefills(["Sure:"], answer_words=2, combine=True))
    material = Material({"forget": data}, {"forget": examples(6, "forget")})
    answers = [REFUSAL] * 6
    for row in views("forget", range(6), context, material, answers, all_prefills=True):
        for view in row:
            assert "Gold" not in " ".join(turn.content for turn in view.teacher_turns)


def test_answered_demonstrations_come_from_rows_that_are_kept() -> None:
    kept = ObjectiveData(SOURCES, "answer")
    context = Demonstrations(1, answered=1, answered_from="retain")
    data = decline(context=context)
    material = Material(
        {"forget": data, "retain": kept},
        {"forget": examples(3, "forget"), "retain": examples(3, "retain")},
    )
    ((view,),) = views("forget", [0], context, material, [REFUSAL], all_prefills=True)
    assert "Gold retain 0." in [turn.content for turn in view.teacher_turns]
    with pytest.raises(InputError, match=r"`answered_from`.*\(retain\).*Found 'forget'"):
        material.answered("forget")


@pytest.mark.parametrize(("texts", "shown"), [(("One.", "Two.", "Three."), 2), (("",) * 3, 0)])
def test_plain_rows_are_demonstrations_in_their_own_form(
    texts: Sequence[str], shown: int, tiny_tokenizer: PreTrainedTokenizerFast
) -> None:
    """A row that begins with text shows others that do, each declined; a bare passage has none."""
    rows = [
        Example(f"p/{i}", (Turn("user", text),), " It goes on.", "passage", plain=True)
        for i, text in enumerate(texts)
    ]
    data = decline(context=Demonstrations(2))
    material = Material({"forget": data}, {"forget": rows})
    ((view,),) = views("forget", [2], data.context, material, [REFUSAL] * 3, all_prefills=True)
    assert [turn.content for turn in view.teacher_turns].count(REFUSAL) == shown
    ids = Encoder(tiny_tokenizer).prompt_ids(view.teacher_turns, plain=True)
    text = tiny_tokenizer.decode(ids, skip_special_tokens=True)
    expected = f"One. {REFUSAL}\n\nTwo. {REFUSAL}\n\nThree." if shown else ""
    assert text == expected


def test_answers_of_a_missing_teacher(
    tiny_tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    objectives = {"retain": ObjectiveData(SOURCES, "answer", answer="teacher")}
    with pytest.raises(InputError, match=r"`data.objectives.retain.answer` is `teacher`"):
        run(objectives, None, tiny_tokenizer, tmp_path / "p.json")


def test_table_names_what_failed() -> None:
    row = GateRow("forget", "echo", "declines", 8, 0.5, 0.9, 0.4, 0.1)
    console = Console(width=160, record=True, file=io.StringIO())
    console.print(gate_table([row]))
    text = console.export_text()
    assert "declines 50% of 8" in text
    assert "fail" in text
    assert "0.40 / 0.10" in text
