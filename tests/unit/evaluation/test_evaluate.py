"""`evaluate`: any model, from a path or loaded, with and without files."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.evaluate import evaluate
from lit_unlearn.evaluation.record_files import METRICS, read_evaluation
from lit_unlearn.evaluation.subjects import Loading
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.evaluation.suites.input_attacks import Prefill
from lit_unlearn.utils.chat_template import RECORD, Template

CPU = Loading(device="cpu", plain_chat=True)


def boundary() -> Boundary:
    return Boundary(max_new_tokens=1)


def prefill() -> Prefill:
    rows = [Source("builtin:forget", split="eval")]
    return Prefill(rows, max_new_tokens=1, openers=["Sure,"], answer_words=[1])


def test_a_loaded_model_without_files(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """It gets the rows that its folder gets, and nothing is written."""
    monkeypatch.chdir(tmp_path)
    found = evaluate((tiny_model, tiny_tokenizer), boundary(), limit=1, loading=CPU)
    assert list(found.records) == ["model"]
    assert (found.folder, found.balance, found.remarks) == (None, (), [])
    assert found.records["model"].model == type(tiny_model).__name__
    assert not list(tmp_path.iterdir())
    tiny_model.save_pretrained("saved")
    tiny_tokenizer.save_pretrained("saved")
    from_folder = evaluate(Path("saved"), {"boundary": boundary()}, limit=1, loading=CPU)
    loaded, read = (each.records["model"].suites["boundary"] for each in (found, from_folder))
    assert loaded.rows == read.rows
    assert loaded.figures == read.figures


def test_prompts_are_those_of_the_run_that_made_a_model(
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    """Of the model's folder, for its start too; those that are given come first."""
    words = copy.deepcopy(tiny_tokenizer)
    words.init_kwargs[RECORD] = asdict(Template(system="Be kind."))
    tiny_model.save_pretrained(tmp_path / "model")
    words.save_pretrained(tmp_path / "model")
    model, rows = str(tmp_path / "model"), tmp_path / "rows.jsonl"
    rows.write_text(json.dumps({"question": "<|im_end|>?", "answer": "Yes."}), "utf-8")
    sources = [Source(str(rows), domain="question_answer")]
    suite = Boundary(sources, sources, max_new_tokens=1)

    def asked(loading: Loading) -> list[tuple[str, str]]:
        found = evaluate(model, suite, start="random-tiny", limit=1, loading=loading)
        records = found.records.values()
        return [(str(r.settings["template"]["system"]), r.fingerprint) for r in records]

    (first, start), (second, _) = asked(CPU)
    assert (first, second) == ("Be kind.", "Be kind.")
    assert "Suite boundary: 2 rows hold the text of a control token" in caplog.text
    (first, plain), _ = asked(replace(CPU, template=Template()))
    assert first == "None"
    assert plain != start


def test_start_and_reference_have_folders_of_their_own(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found = evaluate(
        "random-tiny",
        [boundary(), prefill(), Depth(blocks=1)],
        start="random-tiny",
        reference="random-tiny",
        output=tmp_path,
        limit=1,
        loading=CPU,
    )
    assert list(found.records) == ["start", "model", "reference"]
    stages = [line.partition(":")[0] for line in capsys.readouterr().err.splitlines()]
    assert stages == ["boundary", "prefill", "depth"] * 3
    assert found.balance[0].name == "balance"
    assert found.folder == tmp_path
    for heading, folder in (("model", ""), ("start", "start"), ("reference", "reference")):
        read, made = read_evaluation(tmp_path / folder), found.records[heading]
        assert repr(read.suites) == repr(made.suites)
        assert (read.model, read.settings) == (made.model, made.settings)
        assert len(read.balance) == len(made.balance)


def test_a_stopped_evaluation_resumes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = evaluate("random-tiny", boundary(), output=tmp_path, limit=1, loading=CPU)
    (tmp_path / METRICS).unlink()
    monkeypatch.setattr("lit_unlearn.evaluation.suite_run.ask", None)  # nothing may be asked again
    again = evaluate("random-tiny", boundary(), output=tmp_path, limit=1, loading=CPU)
    rows = [each.records["model"].suites["boundary"].rows for each in (first, again)]
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"suites": []}, "`suites` should hold at least one suite"),
        ({"suites": [boundary(), boundary()]}, "different names"),
        ({"limit": 0}, "`limit` should be at least 1"),
        ({"batch_size": 0}, "`batch_size` should be at least 1"),
        (
            {"start": "no/such/folder"},
            r"^Parameter `start` = 'no/such/folder'.* `start` may also be the folder of an earlier",
        ),
        (
            {"reference": "./none"},
            r"^Parameter `reference` = './none'.* `reference` may also be the folder of an earlier",
        ),
    ],
)
def test_mistakes(given: dict[str, object], message: str) -> None:
    arguments = {"suites": boundary(), "loading": CPU} | given
    with pytest.raises(InputError, match=message):
        evaluate("random-tiny", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("heading", ["model", "start", "reference"])
def test_a_damaged_model_is_named_as_it_was_given(
    tmp_path: Path,
    heading: str,
    tiny_model: PreTrainedModel,
    tiny_tokenizer: PreTrainedTokenizerFast,
) -> None:
    tiny_model.save_pretrained(tmp_path)
    tiny_tokenizer.save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(b"cut")
    given = {"model": "random-tiny", heading: str(tmp_path)}
    with pytest.raises(InputError, match=f"^Parameter `{heading}` = "):
        evaluate(**given, suites=boundary(), limit=1, loading=CPU)  # type: ignore[arg-type]
