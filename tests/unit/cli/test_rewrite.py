"""`lit-unlearn rewrite` end to end: against a server that fails, killed, and by rule alone."""

from __future__ import annotations

import json
import multiprocessing
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.rewriting.journal import FILE_NAME
from lit_unlearn.rewriting.source_texts import row_digest
from tests.conftest import PROJECT
from tests.processes import FORKED
from tests.unit.rewriting.fake_server import KEY, Fake, fake_server

ROWS = ("forget.jsonl", "keep.jsonl", "anchors.jsonl", "rejected.jsonl")
TROUBLE = {
    0: "half", 1: "429", 3: "malformed", 4: "time-out", 6: "other form", 7: "half a body",
    9: "cut off", 11: "500", 14: "hangs up", 17: "half", 18: "error page",
}  # fmt: skip
"""Of the requests by their arrival; the sixth and seventh meet with any question."""


def people(first: int, count: int) -> list[dict[str, str]]:
    """Passages in which a person lives in a town; every fifth is a list."""
    return [
        {
            "text": f"Person{n} lives in Town{n}. "
            + ("Lists: a, b, c." if n % 5 == 4 else f"Since 1950 Person{n} has been a baker.")
        }
        for n in range(first, first + count)
    ]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Twelve passages to forget, four to keep, and a question."""
    for name, rows in (("forget", people(0, 12)), ("keep", people(50, 4))):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (tmp_path / f"{name}_source.jsonl").write_text(text, "utf-8")
    ready = {"question": "Where does Person0 live?", "answer": "Town0"}
    (tmp_path / "ready.jsonl").write_text(json.dumps(ready) + "\n", "utf-8")
    values = {
        "forget": [{"path": str(tmp_path / "forget_source.jsonl"), "domain": "passage"}],
        "keep": [
            {"path": str(tmp_path / "keep_source.jsonl"), "domain": "passage"},
            {"path": str(tmp_path / "ready.jsonl"), "domain": "question_answer"},
        ],
        "backend": {
            "class_path": "Server",
            "init_args": {"model": "m", "timeout": 0.5, "first_wait": 0.01, "concurrency": 3},
        },
        "model_checks": True,
    }
    file = tmp_path / "rewrite.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    return file


def command(config: Path, fake: Fake, output: Path) -> list[str]:
    url = f"--backend.init_args.url={fake.url}"
    return ["rewrite", f"--config={config}", url, f"--output={output}"]


def written(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """All rows of the files that are there, without the number of the attempt that gave them."""
    found = {}
    for name in filter(lambda name: (folder / name).exists(), ROWS):
        lines = (folder / name).read_text("utf-8").splitlines()
        found[name] = [json.loads(line) for line in lines]
        for row in found[name]:
            row.get("provenance", {}).pop("attempt", None)
    return found


def journalled(folder: Path) -> set[str]:
    """Names of the requests whose replies are in the journal, as whole lines."""
    file = folder / FILE_NAME
    lines = file.read_bytes().split(b"\n")[:-1] if file.exists() else []
    return {json.loads(line)["reply_id"].removeprefix("chatcmpl-") for line in lines}


@FORKED
def test_a_run_against_a_server_with_troubles(
    config: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Same rows as from a server without; nothing is asked twice; the key is nowhere."""
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    (tmp_path / "log").mkdir()
    with fake_server(tmp_path) as fake:
        assert main(command(config, fake, tmp_path / "calm")) == 0
    with fake_server(tmp_path / "log", TROUBLE) as fake:
        assert main(command(config, fake, tmp_path / "out")) == 0
        asked = len(fake.seen())
        assert {line["status"] for line in fake.seen()} == {"ok", *TROUBLE.values()}
        capsys.readouterr()
        assert main([*command(config, fake, tmp_path / "out"), "--dry_run=true"]) == 0
        told = capsys.readouterr().err
        assert main(command(config, fake, tmp_path / "out")) == 0
        assert len(fake.seen()) == asked
    assert "answered before" in told
    found = written(tmp_path / "out")
    assert found == written(tmp_path / "calm")
    everything = b"".join(f.read_bytes() for f in (tmp_path / "out").iterdir())
    assert KEY.encode() not in everything
    said = capsys.readouterr()
    assert KEY not in said.out + said.err + told

    questions = [row["question"] for row in found["forget.jsonl"]]
    assert questions[0] == "Where does Person0 live?"
    assert not any("passage" in question for question in questions)
    lost = [row for row in found["rejected.jsonl"] if "material" in row["reasons"]]
    low = [row for row in lost if row["part"] != "anchors"]
    assert [row["row"] for row in low] == ["forget_source/4", "forget_source/9", "keep_source/4"][
        :2
    ]
    repeated = [r for r in found["rejected.jsonl"] if r.get("id") == "ready/0"]
    assert "Where does Person0 live?" in repeated[0]["reasons"]["not seen before"]
    by_rule = [r for r in found["forget.jsonl"] if r["provenance"]["made_by"] == "rules"]
    assert by_rule  # where the model itself took back its only row
    assert len(found["anchors.jsonl"]) > 5


@FORKED
def test_a_refused_question_lets_a_command_be_repeated(config: Path, tmp_path: Path) -> None:
    """It alone is asked again, and refused again."""
    (tmp_path / "log").mkdir()
    with fake_server(tmp_path, {5: "400"}) as fake:
        assert main(command(config, fake, tmp_path / "out")) == 0
    found = written(tmp_path / "out")
    with fake_server(tmp_path / "log", {0: "400"}) as fake:
        assert main(command(config, fake, tmp_path / "out")) == 0
        assert len(fake.seen()) == 1
    assert written(tmp_path / "out") == found


@FORKED
def test_rows_can_be_trained_on(config: Path, tmp_path: Path) -> None:
    with fake_server(tmp_path) as fake:
        assert main(command(config, fake, tmp_path / "out")) == 0
    source = tmp_path / "forget_source.jsonl"
    digests = {
        row_digest(RawRow(str(n), json.loads(line), ""))
        for n, line in enumerate(source.read_text("utf-8").splitlines())
    }
    for name in ROWS[:3]:
        file = tmp_path / "out" / name
        rows = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        examples = load_examples([Source(str(file), domain="question_answer")])
        assert [e.question for e in examples if "____" not in e.question] == [
            row["question"] for row in rows if "____" not in row["question"]
        ]
        assert [e.answer for e in examples] == [row["answer"] for row in rows]
        for row in rows:
            origin = row["provenance"]
            assert origin["settings"]["support"] == 0.7
            if name == "forget.jsonl":
                assert origin["row_sha256"] in digests
            if origin["made_by"] == "model":
                assert origin["model"] == "m"
                assert origin["prompt"].split("-")[0] in ("write", "anchor")
    page = (tmp_path / "out/report.html").read_text("utf-8")
    assert "Where does Person1 live?" in page
    assert "it speaks of its source" in page
    counts = json.loads((tmp_path / "out/report.json").read_text("utf-8"))["counts"]
    assert {line["check"] for line in counts} >= {"grounded", "leak", "model's check"}


@FORKED
def test_killed_again_and_again(config: Path, tmp_path: Path) -> None:
    """SIGKILL at random points: no journalled question is asked again, and the rows are the same.

    What a killed run leaves is whole: the journal's whole lines are replies, and a file of rows is
    there with all its rows or not at all.
    """
    (tmp_path / "log").mkdir()
    with fake_server(tmp_path) as fake:
        assert main(command(config, fake, tmp_path / "unbroken")) == 0
        needed = len(fake.seen())
    expected = written(tmp_path / "unbroken")
    chance = random.Random(0)
    folder = tmp_path / "killed"
    with fake_server(tmp_path / "log", delay=0.01) as fake:
        given = command(config, fake, folder)
        kills = 0
        while True:
            before, known = len(fake.seen()), journalled(folder)
            child = multiprocessing.get_context("fork").Process(target=main, args=(given,))
            child.start()
            finished = wait_for(child, fake, before + chance.randrange(1, 12), chance.random() / 30)
            asked_again = {line["name"] for line in fake.seen()[before:]} & known
            assert not asked_again
            assert journalled(folder) >= known
            if finished:
                break
            kills += 1
            assert all(rows == expected[name] for name, rows in written(folder).items())
        asked = len(fake.seen())
    assert kills >= 4
    assert written(folder) == expected
    assert asked <= needed + 3 * kills  # at most those that were under way are lost
    assert json.loads((folder / "report.json").read_text("utf-8"))["counts"]


def wait_for(
    child: multiprocessing.context.ForkProcess, fake: Fake, requests: int, more: float
) -> bool:
    """Kill the child when so many requests have arrived, and a moment more; whether it was done."""
    while child.is_alive() and len(fake.seen()) < requests:
        time.sleep(0.002)
    time.sleep(more)
    if child.is_alive() and child.pid is not None:
        os.kill(child.pid, signal.SIGKILL)
    child.join()
    assert child.exitcode in (0, -signal.SIGKILL)
    return child.exitcode == 0


# -------------------------------------------------------------------------------- without a server


def test_the_config_by_rule(
    benchmark_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = PROJECT / "configs/rewrite.yaml"
    given = [f"--config={config}", f"--data_root={benchmark_data}", f"--output={tmp_path}"]
    assert main(["rewrite", *given, "--backend=Rules", "--dry_run=true"]) == 0
    assert not list(tmp_path.iterdir())
    told = capsys.readouterr().err
    assert main(["rewrite", *given, "--backend=Rules"]) == 0
    found = written(tmp_path)
    assert min(len(found[name]) for name in ROWS) > 5
    forget, keep, anchors = (len(found[name]) for name in ROWS[:3])
    assert f"no calls; rows: {forget} forget, {keep} keep, {anchors} anchors" in told
    assert not any("Stephen King" in r["question"] + r["answer"] for r in found["anchors.jsonl"])
    assert not (tmp_path / FILE_NAME).exists()


def test_the_config_on_the_tiny_model(benchmark_data: Path, tmp_path: Path) -> None:
    """It writes nonsense, which the checks refuse; so that the rows are those by rule."""
    config = PROJECT / "configs/rewrite.yaml"
    given = [f"--config={config}", f"--data_root={benchmark_data}", f"--output={tmp_path}"]
    small = ["--backend.init_args.path=random-tiny", "--attempts=1", "--questions=1", "--anchors=1"]
    few = [
        "--keep=[]",
        "--forget=[{path: jinzhuoran/RWKU, config: mia_forget, split: test, limit: 2}]",
    ]
    assert main(["rewrite", *given, *small, *few]) == 0
    assert all(r["provenance"]["made_by"] == "rules" for r in written(tmp_path)["forget.jsonl"])
    assert (tmp_path / FILE_NAME).exists()


FORGET = "--forget=[{path: builtin:forget}]"


def test_a_file_in_the_output_s_place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "file"
    file.write_text("mine", "utf-8")
    assert main(["rewrite", FORGET, "--backend=Rules", f"--output={file}"]) == 2
    assert "should be a folder. Found a file in its place" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--backend=Rules"], "sources of rows to forget or to keep"),
        ([FORGET], "required: backend"),
        ([FORGET, "--backend=Rules", "--questions=0"], "`questions` should be at least 1"),
        ([FORGET, "--backend=Rules", "--anchor=0"], "did you mean --anchors"),
        (["--backend=Rules", "--forget=[{path: builtin:forgot}]"], "builtin:forget"),
        ([FORGET, "--backend=Sever"], "did you mean Server"),
        ([FORGET, "--backend=Server", "--backend.model=m", "--backend.timeout=0"], "above 0"),
    ],
)
def test_bad_options(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["rewrite", f"--output={tmp_path}", *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
