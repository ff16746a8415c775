"""`lit-unlearn erase` as a whole, on the tiny model: one request, killed, changed, repeated.

The tiny model knows nothing. So a request to it ends with "nothing to forget", unless the share
of known questions that counts as nothing is set below 0.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from threading import Thread
from typing import Any

import pytest
import yaml

from lit_unlearn.__main__ import main
from lit_unlearn.cli import erase as command
from lit_unlearn.cli.config import read_configs
from lit_unlearn.cli.erase import read_request
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.record_files import read_evaluation
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.requests import erase as erasing
from lit_unlearn.requests.audit import audit
from lit_unlearn.requests.folder import content_digest, read_steps
from lit_unlearn.requests.ledger import read_ledger
from lit_unlearn.requests.request import _NO_SHARE
from lit_unlearn.sweeping import jobs
from lit_unlearn.sweeping.jobs import LOG, Failure, Job
from lit_unlearn.utils.config_files import find_config
from tests.integration.test_configs import THIRD_PARTY
from tests.pictures import draw_nothing
from tests.processes import FORKED, forked

pytestmark = [pytest.mark.filterwarnings(text) for text in THIRD_PARTY]

FAST = {
    "trainer": {"max_steps": 2, "accelerator": "cpu", "logger": False, "callbacks": []},
    "model": {"gate": {"action": "warn", "sample": 1, "max_new_tokens": 2}},
    "data": {"max_length": 8192},
}
THRESHOLDS = [
    {"figure": "prefill/unattacked/recall", "at_most": 0.1},
    {"figure": "boundary/neighbor/correct", "at_least": 0.5, "of_start": True},
]


def example() -> dict[str, Any]:
    """The request that ships with the package, for the tiny model, with few rows."""
    request = yaml.safe_load(find_config(Path("requests/france.yaml")).read_text("utf-8"))
    keep = request["keep"]
    for source in (*request["forget"]["rows"], *keep["neighbors"], *keep["general"]):
        source["limit"] = 9
    changed = {"id": "tiny", "model": "random-tiny", "recipe": ["small.yaml", "fast.yaml"]}
    return {**request, **changed, "thresholds": THRESHOLDS}


ASKED = example()
QUESTION = {"question": "Who wrote Nana?", "answer": "Zola did.", "accepted": ["Zola"]}


class Here:
    """Working folder of a request, and what its training is replaced by: `fit` in this process."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fits = 0

    def run_jobs(self, given: Sequence[Job], **_: Any) -> list[Failure]:
        self.fits += 1
        (job,) = given
        assert main(list(job.arguments)) == 0
        return []

    def erase(self, request: dict[str, Any], *options: str) -> int:
        file = self.folder / "request.yaml"
        file.write_text(yaml.safe_dump(request), "utf-8")
        try:
            return main(["erase", str(file), *options])
        except SystemExit as stop:
            return int(stop.code or 0)

    @property
    def root(self) -> Path:
        return self.folder / "runs/erase/tiny"

    def verdict(self) -> dict[str, Any]:
        return json.loads((self.root / "verdict.json").read_text("utf-8"))


@pytest.fixture(scope="module")
def here(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Here]:
    found = Here(tmp_path_factory.mktemp("requests"))
    recipe = read_configs([Path("erase.yaml")]).values
    for name, data in recipe["data"]["objectives"].items():
        small = {"rows": 1, "evaluation_rows": 2}
        prefills = {"prefills": {"openers": ["Sure:"], "unprefilled": 1}}
        recipe["data"]["objectives"][name] = {
            **data,
            **small,
            **(prefills if "prefills" in data else {}),
        }
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(found.folder)
        draw_nothing(patch)
        patch.setattr(erasing, "run_jobs", found.run_jobs)
        patch.setattr(erasing, "check_fits", lambda jobs: [])
        patch.setattr("lit_unlearn.requests.battery._SAMPLES", 1)
        patch.setattr("lit_unlearn.requests.battery._SHORTEST", 4)
        patch.setattr("lit_unlearn.requests.battery._LONGEST", 4)
        (found.folder / "small.yaml").write_text(json.dumps(recipe), "utf-8")
        (found.folder / "fast.yaml").write_text(json.dumps(FAST), "utf-8")
        (found.folder / "damaged.jsonl").write_text("{}", "utf-8")
        yield found


@pytest.fixture(scope="module")
def first(here: Here) -> int:
    """Status of the request to a model that knows nothing."""
    return here.erase(ASKED)


def test_nothing_to_forget_is_a_verdict(
    here: Here, first: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert (first, here.verdict()["verdict"]) == (0, "nothing to forget")
    assert (here.fits, (here.root / "run").exists()) == (0, False)
    assert here.erase(ASKED) == 0
    printed = capsys.readouterr()
    assert "Verdict: nothing to forget" in printed.out
    assert printed.err.count("(done before)") == 2


@pytest.fixture(scope="module")
def killed(here: Here, first: int) -> int:
    """Number of steps that are finished when the second evaluation is killed."""

    def stop(*given: Any, **options: Any) -> Any:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
        patch.setattr(erasing, "evaluate", stop)
        assert here.erase(ASKED) == 130
    return sum(step.state == "finished" for step in read_steps(here.root).values())


def test_a_killed_request_goes_on(
    here: Here, killed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows, the first evaluation and the training are not repeated; the verdict is not met."""
    assert (killed, here.fits) == (3, 1)
    monkeypatch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
    assert here.erase(ASKED) == 3
    printed = capsys.readouterr()
    assert here.fits == 1
    assert printed.err.count("(done before)") == 3
    assert "Before and after" in printed.out
    assert "Verdict: not met" in printed.out
    assert "The teacher does not do enough" in " ".join(printed.out.split())
    outcomes = {each["figure"]: each["outcome"] for each in here.verdict()["checks"]}
    assert outcomes["boundary/neighbor/correct"] == "not measured"  # the tiny model answers none
    before, after = read_evaluation(here.root / "before"), read_evaluation(here.root / "after")
    assert before.fingerprint != after.fingerprint
    figures = [*after.balance, *(each for s in after.suites.values() for each in s.figures)]
    others = [f.name for f in figures if "share" not in f.unit and "0 to 1" not in f.unit]
    assert set(others) == {f"unattacked{_NO_SHARE}"}
    assert list(before.suites) == list(after.suites)
    asked = {row.question for row in after.suites["prefill"].rows}
    trained = (here.root / "rows/forget.jsonl").read_text("utf-8")
    assert not any(json.dumps(text) in trained for text in asked)


def test_the_same_request_again_repeats_the_verdict(
    here: Here, killed: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
    here.erase(ASKED)
    capsys.readouterr()
    assert here.erase(ASKED) == 3
    assert capsys.readouterr().err.count("(done before)") == 4
    assert here.fits == 1


def test_another_seed_begins_anew_and_keeps_the_old(
    here: Here, killed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = (here.root / "rows/forget.jsonl").read_text("utf-8")
    assert here.erase({**ASKED, "seed": 1}) == 0  # the tiny model knows nothing
    assert (here.root / "rows/forget.jsonl").read_text("utf-8") != first
    assert (here.root / "rows.1/forget.jsonl").read_text("utf-8") == first
    assert (here.root / "before.1/metrics.json").is_file()
    assert (here.root / "request.yaml.1").is_file()


@pytest.fixture(scope="module")
def one(here: Here) -> dict[str, Any]:
    """A request with one question, carried out."""
    sources = [{"path": "builtin:neighbor", "limit": 2}]
    request = {**ASKED, "forget": {"questions": [QUESTION]}, "keep": {"neighbors": sources}}
    request["keep"]["general"] = [{"path": "builtin:general", "limit": 2}]
    request["ledger"] = "ledger.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
        assert here.erase({**request, "id": "one"}, "--output", "one") == 3
    return request


def test_one_question_is_enough(here: Here, one: dict[str, Any]) -> None:
    """Fewer rows than a step takes, and than a context shows; the trained question is asked."""
    (question,) = one["forget"]["questions"]
    found = json.loads((here.folder / "one/verdict.json").read_text("utf-8"))
    assert any("No question is held out" in note for note in found["notes"])
    record = read_evaluation(here.folder / "one/after")
    asked = {row.question for row in record.suites["prefill"].rows}
    assert asked == {question["question"]}
    assert main(["audit", "--verify", "one"]) == 0
    evidence = (here.folder / "one/dossier.html").read_text("utf-8")
    evidence += (here.folder / "one/manifest.json").read_text("utf-8")
    assert not any(text in evidence for text in ("Nana", "Zola"))
    (entry,) = read_ledger("ledger.jsonl")
    assert (entry.request, entry.folder, entry.verdict) == ("one", "one", "not met")
    (again,) = audit("one/run/model", "ledger.jsonl").requests
    assert [check.value for check in again.checks] == [c["value"] for c in found["checks"]]
    assert not again.came_back


def test_rows_of_an_earlier_request_join_a_later_one(
    here: Here,
    one: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The ledger says that the start model is that of `one`; only that name is in the evidence."""
    monkeypatch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
    question = {"question": "Who wrote Emma?", "answer": "Austen did.", "accepted": ["Austen"]}
    later = {**one, "id": "two", "model": "one/run/model", "forget": {"questions": [question]}}
    assert here.erase(later, "--output", "two") == 3
    root = here.folder / "two"
    assert "Nana" in (root / "rows/earlier.jsonl").read_text("utf-8")
    used = yaml.safe_load((root / "run/config.yaml").read_text("utf-8"))
    assert "earlier" in used["model"]["objectives"]
    assert used["model"]["teacher"]["init_args"]["path"] == one["model"]
    evidence = [root / name for name in ("verdict.json", "manifest.json", "dossier.html")]
    texts = [file.read_text("utf-8") for file in evidence]
    assert all("join the training: 1 (one)" in text for text in texts)
    assert all("teacher is the model from before request one" in text for text in texts)
    assert not any(word in text for text in texts for word in ("Nana", "Zola", "Emma"))
    fits = here.fits
    assert here.erase(later, "--output", "two") == 3  # the ledger now has the request itself
    assert here.fits == fits
    (root / "rows/forget.jsonl").unlink()
    capsys.readouterr()
    assert here.erase({**later, "id": "three", "model": "two/run/model"}, "--output", "3") == 2
    assert "two/rows/forget.jsonl is missing" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": "no/such/model"}, "`model` = 'no/such/model'"),
        ({"writer": "nowhere/at/all"}, "`writer` = 'nowhere/at/all'"),
        ({"forget": {"rows": [{"path": "missing.jsonl"}]}}, "missing.jsonl"),
        ({"keep": {"neighbors": [{"path": "builtin:forget"}]}}, "remove them from one"),
        ({"model": "runs/erase/other/run/model"}, "should hold nothing that the command reads"),
        ({"ledger": "runs/erase/other/rows/ledger"}, "should hold nothing that the command reads"),
        ({"recipe": "quickstrat.yaml"}, "recipe: quickstrat.yaml: no such file"),
        ({"recipe": "rewrite.yaml"}, "an objective that expects `decline`"),
        ({"thresholds": [{"figure": "prefill/recall", "at_most": 0}]}, "should name figures"),
        ({"ledger": "damaged.jsonl"}, "damaged.jsonl.head should hold"),
    ],
)
def test_a_request_that_cannot_be_carried_out(
    change: dict[str, Any],
    message: str,
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """One line, status 2, and no model is loaded."""
    monkeypatch.setattr(erasing, "evaluate", None)
    save_folder(tiny_model(), tiny_tokenizer(), here.folder / "runs/erase/other/run/model")
    assert here.erase({**ASKED, "id": "other", **change}) == 2
    errors = [line for line in capsys.readouterr().err.splitlines() if "error:" in line]
    assert len(errors) == 1
    assert message in errors[0]


UNUSABLE = [
    {"forget": {"questions": [QUESTION], "rows": [{"path": "missing.jsonl"}]}},
    {"forget": {"questions": [QUESTION], "rows": [{"path": "builtin:missing"}]}},
    {"keep": {"neighbors": [{"path": "missing.jsonl"}]}},
    {"keep": {"neighbors": [{"path": "builtin:forget"}]}},
    {"recipe": "rewrite.yaml"},
    {"thresholds": [{"figure": "prefill/recall", "at_most": 0}]},
    {"seed": 1},  # `fit` refuses the recipe
]


@pytest.mark.parametrize("change", UNUSABLE)
def test_a_refused_request_leaves_nothing(
    change: dict[str, Any],
    here: Here,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def refuse(jobs: Sequence[Job]) -> list[float]:
        raise InputError("new/refused/run.yaml:9: trainer.max_stepz: unknown key")

    monkeypatch.setattr(erasing, "check_fits", refuse)
    assert here.erase({**ASKED, **change}, "--output", "new/refused") == 2
    assert not (here.folder / "new").exists()
    printed = capsys.readouterr().err
    assert "new/refused" not in printed
    assert ("recipe: trainer.max_stepz" in printed) == (change == UNUSABLE[-1])


def test_reasons_that_a_message_names_stay(here: Here, capsys: pytest.CaptureFixture[str]) -> None:
    assert here.erase({**ASKED, "forget": {"texts": ["hm, hm."]}}, "--output", "unclear") == 2
    assert "unclear/rewriting/rejected.jsonl says why" in capsys.readouterr().err
    assert (here.folder / "unclear/rewriting/rejected.jsonl").is_file()


@pytest.mark.parametrize("change", UNUSABLE[:5])
def test_a_refused_request_changes_no_earlier_step(
    change: dict[str, Any], here: Here, first: int
) -> None:
    before = content_digest(here.root)
    assert here.erase({**ASKED, **change}) == 2
    assert content_digest(here.root) == before


def test_unknown_figures_do_not_replace_the_text_of_a_request(here: Here, first: int) -> None:
    """The text is evidence; figures are known only when there is a battery."""
    before = {file: file.read_text("utf-8") for file in here.root.glob("request.yaml*")}
    assert here.erase({**ASKED, **UNUSABLE[5]}) == 2
    assert {file: file.read_text("utf-8") for file in here.root.glob("request.yaml*")} == before


def test_the_example_is_found_by_its_name() -> None:
    request = read_request(Path("requests/france.yaml"))
    assert (request.id, request.recipes) == ("france", ["erase.yaml"])


@pytest.mark.slow
@FORKED
def test_a_request_that_is_killed_while_training(
    here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With real processes: SIGTERM ends both, and the training goes on from its checkpoint."""
    for name in ("run_jobs", "check_fits"):
        monkeypatch.setattr(erasing, name, getattr(jobs, name))
    monkeypatch.setattr(erasing, "KNOWN_AT_MOST", -1.0)
    long = {"trainer": {"max_steps": 40, "callbacks": ["GradientMonitor"]}}
    (here.folder / "long.yaml").write_text(json.dumps(long), "utf-8")
    request = {**ASKED, "id": "long", "recipe": [*ASKED["recipe"], "long.yaml"]}
    run = here.folder / "long/run"

    def kill() -> None:
        while not (run / "gradients.jsonl").is_file():
            time.sleep(0.1)
        os.kill(os.getpid(), signal.SIGTERM)

    def work() -> int:
        Thread(target=kill, daemon=True).start()
        return here.erase(request, "--output", "long")

    assert forked(work) == 128 + signal.SIGTERM
    assert list(run.glob("unfinished/step_*"))
    assert forked(lambda: here.erase(request, "--output", "long")) == 3
    assert "Resuming after step" in (run / LOG).read_text("utf-8")
    lines = (run / "gradients.jsonl").read_text("utf-8").splitlines()
    steps = [json.loads(line)["step"] for line in lines]
    assert steps == sorted(set(steps))  # none is repeated
    assert steps[-1] >= 35


def test_a_request_may_have_the_name_of_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another local file of that name is a recipe of the user's."""
    monkeypatch.chdir(tmp_path)
    shipped = find_config(Path("erase.yaml"))
    request = Path("erase.yaml")
    request.write_text(yaml.safe_dump(ASKED), "utf-8")
    assert command._recipe_file("erase.yaml", request) == shipped
    assert command._recipe_file("erase.yaml", tmp_path / "other.yaml") == request
