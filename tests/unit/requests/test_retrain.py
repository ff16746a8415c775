"""Retraining: equal to a run on files that never had the rows; what is refused, and how."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from lit_unlearn.__main__ import main
from lit_unlearn.errors import InputError
from lit_unlearn.requests import retrain as retraining
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.retrain import prepare_retraining, retrain, start_retraining
from lit_unlearn.sweeping import jobs

ROWS = [(f"Who is number {n}?", f"Person {n}.") for n in range(9)]
REMOVED = [("who is number 2", "person 2"), ("Who is number 5?", "Person 5."), ("Other?", "No.")]
KEPT = [row for number, row in enumerate(ROWS) if number not in (2, 5)]


def write_rows(file: Path, rows: list[tuple[str, str]]) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    lines = [json.dumps({"question": q, "answer": a}) + "\n" for q, a in rows]
    file.write_text("".join(lines), "utf-8")
    return file


def config(file: Path, folder: Path, **objectives: Any) -> dict[str, Any]:
    source = {"path": str(file), "domain": "question_answer", "columns": {"question": "question"}}
    data = {"sources": [source], "expect": "answer", "rows": 2, "evaluation_rows": 0}
    return {
        "seed_everything": 4,
        "trainer": {
            "default_root_dir": str(folder),
            "max_steps": 4,
            "accelerator": "cpu",
            "logger": False,
            "enable_checkpointing": False,
            "callbacks": [{"class_path": "HuggingFaceExport"}],
        },
        "model": {
            "student": {"path": "random-tiny"},
            "objectives": {"learn": {"class_path": "CrossEntropy"}},
            "optimizer": {"class_path": "torch.optim.AdamW", "init_args": {"lr": 1e-2}},
        },
        "data": {"objectives": {"learn": data, **objectives}},
    }


def write_run(folder: Path, values: dict[str, Any]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.yaml").write_text(yaml.safe_dump(values), "utf-8")
    return folder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run on all rows, and a request for some of them."""
    root = tmp_path_factory.mktemp("retrain")
    given = root / "given.yaml"
    values = config(write_rows(root / "rows.jsonl", ROWS), root / "target")
    given.write_text(yaml.safe_dump(values), "utf-8")
    assert main(["fit", f"--config={given}"]) == 0
    place = RequestFolder(root / "ada-1")
    write_rows(place.battery / "forget.jsonl", REMOVED[:1])
    write_rows(place.battery / "trained.jsonl", [])
    write_rows(place.rows / "forget.jsonl", REMOVED[1:])
    return root


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "model" / "model.safetensors")


def test_it_equals_a_run_on_a_file_without_the_rows(trained: Path) -> None:
    """The config that `fit` wrote is changed; the other run reads a file made by hand."""
    prepared = prepare_retraining(trained / "target", trained / "ada-1")
    assert prepared.folder == trained / "target-without-ada-1"
    assert prepared.left_out == {"learn.sources.0": 2}
    assert (
        main(["fit", f"--config={prepared.config}", f"--trainer.default_root_dir={prepared.run}"])
        == 0
    )
    by_hand = trained / "by_hand.yaml"
    values = config(write_rows(trained / "kept.jsonl", KEPT), trained / "by_hand")
    by_hand.write_text(yaml.safe_dump(values), "utf-8")
    assert main(["fit", f"--config={by_hand}"]) == 0
    again, clean, first = map(weights, (prepared.run, trained / "by_hand", trained / "target"))
    assert all(torch.equal(again[name], clean[name]) for name in clean)
    assert not all(torch.equal(again[name], first[name]) for name in first)


def test_rows_are_left_out_wherever_they_are(tmp_path: Path) -> None:
    """A second source, evaluation rows, and a source of which no row remains."""
    more = {
        "path": str(write_rows(tmp_path / "more.jsonl", [REMOVED[1]])),
        "domain": "question_answer",
    }
    other = {"path": str(write_rows(tmp_path / "other.jsonl", KEPT)), "domain": "question_answer"}
    values = config(write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run")
    learn = values["data"]["objectives"]["learn"]
    learn["evaluation"] = [{**learn["sources"][0], "limit": 3}]
    learn["sources"] += [more, other]
    run = write_run(tmp_path / "run", values)
    without = write_rows(tmp_path / "removed.jsonl", REMOVED)
    prepared = prepare_retraining(run, without, tmp_path / "new")
    assert prepared.left_out == {
        "learn.sources.0": 2,
        "learn.sources.1": 1,
        "learn.evaluation.0": 1,
    }
    made = yaml.safe_load(prepared.config.read_text("utf-8"))
    first, second = made["data"]["objectives"]["learn"]["sources"]
    assert second == other
    lines = Path(first["path"]).read_text("utf-8").splitlines()
    assert [json.loads(line)["question"] for line in lines] == [question for question, _ in KEPT]
    assert "default_root_dir" not in made["trainer"]


def test_a_request_may_be_its_yaml_file(tmp_path: Path) -> None:
    """Questions, sources and texts of the request; a passage is compared as the run reads it."""
    passage = "Ada Quist keeps an otter called Juniper. She lives in Harlingen, by the harbour."
    texts = tmp_path / "texts.jsonl"
    other = "The Danube is a long river. It flows through Vienna and through Budapest."
    lines = [json.dumps({"text": text}) + "\n" for text in (passage, other)]
    texts.write_text("".join(lines), "utf-8")
    values = config(write_rows(tmp_path / "rows.jsonl", ROWS), tmp_path / "run")
    source = {"path": str(texts), "domain": "passage"}
    values["data"]["objectives"]["learn"]["sources"].append(source)
    run = write_run(tmp_path / "run", values)
    rows = {
        "path": str(write_rows(tmp_path / "more.jsonl", ROWS[4:6])),
        "domain": "question_answer",
    }
    question = dict(zip(("question", "answer"), REMOVED[0], strict=True))
    forget = {"questions": [question], "rows": [rows], "texts": [passage]}
    request = tmp_path / "ada.yaml"
    request.write_text(yaml.safe_dump({"id": "ada", "model": "m", "forget": forget}), "utf-8")
    prepared = prepare_retraining(run, request)
    assert prepared.left_out == {"learn.sources.0": 3, "learn.sources.1": 1}
    assert prepared.folder.name == "run-without-ada"
    for text in ("[", "id: ada", "forget: [1]", "forget: {rows: [{nothing: 1}]}"):
        request.write_text(text, "utf-8")
        with pytest.raises(InputError, match=r"ada\.yaml should be a request"):
            prepare_retraining(run, request)


def test_the_run_is_started_once(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a process of its own; its error becomes the message."""
    prepared = prepare_retraining(trained / "target", trained / "ada-1", trained / "new")
    monkeypatch.setattr(jobs, "COMMAND", ("python", "-c", "print('lit-unlearn: error: no disk')"))
    with pytest.raises(InputError, match=r"The new run failed: no disk \(.*output\.log\)"):
        start_retraining(prepared)
    script = f"open(r'{prepared.run / 'config.yaml'}', 'w').write('{{}}')"
    monkeypatch.setattr(jobs, "COMMAND", ("python", "-c", script))
    start_retraining(prepared)
    monkeypatch.setattr(jobs, "COMMAND", ("python", "-c", "raise SystemExit(1)"))
    start_retraining(prepared)  # finished before
    (prepared.data[0]).write_text("{}", "utf-8")
    with pytest.raises(InputError, match="The new run failed"):
        start_retraining(prepared)


def test_the_command_prints_rows_and_costs(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The same run as the request's own: training again costs 7 of 7 rows, as often."""
    own = RequestFolder(trained / "ada-1").run
    write_run(own, yaml.safe_load((trained / "target" / "config.yaml").read_text("utf-8")))
    args = ["retrain", str(trained / "target"), f"--without={trained / 'ada-1'}"]
    assert main([*args, f"--output={trained / 'dry'}", "--dry_run=true"]) == 0
    printed = capsys.readouterr().out
    assert "learn.sources.0" in printed
    again, unlearning = re.findall(r"(?:again|unlearning): ([\d.e+-]+) TFLOP in its steps", printed)
    assert float(again) == pytest.approx(float(unlearning), rel=0.1)
    assert "training again takes" in printed
    assert (trained / "dry" / "retrain.yaml").is_file()
    assert not (trained / "dry" / "run").exists()


def test_one_retraining_at_a_time(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second one would remove the config of the run, by which the first one knows its end."""
    prepared = prepare_retraining(trained / "target", trained / "ada-1", tmp_path / "new")
    monkeypatch.setattr(retraining, "run_jobs", lambda *_, **__: start_retraining(prepared))
    with pytest.raises(InputError, match="by one retraining at a time"):
        start_retraining(prepared)


def test_what_cannot_be_retrained_is_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "rows.jsonl", ROWS)
    run = write_run(tmp_path / "run", config(file, tmp_path / "run"))
    for args, found in (
        ((tmp_path / "none", file), r"`run` = .*none.* Found no config\.yaml"),
        ((run, tmp_path / "none"), "`without` = .*none.* Found no rows there"),
        (
            (run, write_rows(tmp_path / "x.jsonl", REMOVED[2:])),
            "none of the request's 1 rows in learn",
        ),
        ((run, file), "Objective 'learn' of the run should have rows besides"),
    ):
        with pytest.raises(InputError, match=found):
            prepare_retraining(*args)
    write_rows(tmp_path / "run-without-y" / "retrain.yaml", ROWS)  # a file of the user
    with pytest.raises(InputError, match=r"no file of yours.*retrain\.yaml"):
        retrain(run, write_rows(tmp_path / "y.jsonl", REMOVED))


@pytest.mark.parametrize(
    "text", ["", "a: [", "- a", "data: {objectives: {a: 1}}", "trainer: {}\ndata: {objectives: []}"]
)
def test_a_damaged_config_of_the_run_is_one_line(text: str, tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"config\.yaml should be the config that .* wrote"):
        prepare_retraining(tmp_path, write_rows(tmp_path / "removed.jsonl", REMOVED))
