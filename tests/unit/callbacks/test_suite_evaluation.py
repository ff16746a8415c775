"""SuiteEvaluation: at steps of training and in ``lit-unlearn test``, without leaving a trace."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import yaml
from lightning import LightningDataModule, LightningModule
from lightning.pytorch.callbacks import ModelCheckpoint
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from lit_unlearn.__main__ import main
from lit_unlearn.attacks.soft_prompt import Descent
from lit_unlearn.callbacks import SuiteEvaluation
from lit_unlearn.callbacks.suite_evaluation import scalars, undisturbed
from lit_unlearn.data.sources import Source
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.balancing import balance_figures
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.evaluation.probes import Figure, Outcome, Probe, Row, Subject, Suite, SuiteResult
from lit_unlearn.evaluation.record_files import METRICS, read_evaluation
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.boundary import Boundary
from lit_unlearn.evaluation.suites.input_attacks import Prefill
from lit_unlearn.evaluation.suites.optimised_vectors import SoftPrompt
from lit_unlearn.evaluation.suites.relearned import Relearn
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.types import Example, Turn
from lit_unlearn.utils.chat_template import Template
from tests.processes import FORKED, in_processes
from tests.small_runs import module, trainer
from tests.unit.callbacks.test_callbacks import fit
from tests.unit.evaluation.test_balancing import FORGETS, START_MODEL
from tests.unit.report.records import evaluation, suite

pytestmark = [
    pytest.mark.usefixtures("undrawn"),
    pytest.mark.filterwarnings(
        "ignore:`isinstance\\(treespec, LeafSpec\\)`",  # lightning 2.6 with torch 2.13
    ),
]


BALANCE = "eval/balance/balance"


@dataclass
class Disturbing(Suite):
    """Answers by itself: draws random numbers, takes gradients, and sees the mode of the model."""

    name: ClassVar[str] = "disturbing"
    seen: list[Any] = field(default_factory=list)

    def probes(self, data_root: Path | None) -> list[Probe]:
        turns = (Turn("user", "Q"),)
        examples = [Example(f"set/{n}", turns, "A", "question_answer") for n in range(4)]
        return [Probe(f"g/{n}", "g", example, turns) for n, example in enumerate(examples)]

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        torch.manual_seed(5)
        torch.rand(3)
        weight = next(subject.model.parameters()).detach().clone().requires_grad_()
        weight.square().sum().backward()
        self.seen.append((subject.model.training, weight.grad is not None, len(probes)))
        return [Outcome(probe.probe_id) for probe in probes]

    def score(
        self,
        probes: Sequence[Probe],
        outcomes: Mapping[str, Sequence[Outcome]],
        reference: Mapping[str, Sequence[Row]] | None = None,
    ) -> SuiteResult:
        known = float(len((reference or {}).get("g", ())))
        rows = [Row(probe.probe_id, "g", {}) for probe in probes]
        figures = [Figure("g/known", known, "rows", 4), Figure("g/nan", float("nan"), "", 0)]
        return SuiteResult(rows, figures)


def test_at_steps_and_at_the_end(tmp_path: Path) -> None:
    """Two rows at the start and the end are all; of the steps between, one of each group."""
    boundary = Boundary(max_new_tokens=1)
    boundary.neighbor[0].limit = boundary.general[0].limit = 2
    callback = SuiteEvaluation(
        {"near": boundary}, every_n_steps=2, at_start=True, subsample=1, batch_size=4
    )
    model = module()
    run = fit(tmp_path, model, [callback], steps=4)
    monitored = float(run.callback_metrics["eval/near/neighbor/refused"])
    folder = tmp_path / "evaluation"
    shutil.move(folder, tmp_path / "kept")
    run.loggers = []
    run.test(model, datamodule=run.datamodule, verbose=False)  # type: ignore[attr-defined]
    assert float(run.callback_metrics["eval/near/neighbor/refused"]) == monitored
    assert [p.name for p in folder.iterdir()] == ["test"]
    folder = tmp_path / "kept"
    assert sorted(p.name for p in folder.iterdir()) == ["step_0", "step_2", "step_4"]
    records = [read_evaluation(folder / f"step_{n}") for n in (0, 2, 4)]
    assert [len(r.suites["near"].rows) for r in records] == [4, 2, 4]
    assert len({r.fingerprint for r in records}) == 3
    assert [r.settings["step"] for r in records] == [0, 2, 4]
    board = EventAccumulator(str(next(tmp_path.glob("lightning_logs/*")))).Reload()
    logged = board.Scalars("eval/near/neighbor/refused")
    assert [point.step for point in logged] == [0, 2, 4]
    assert model.student.training


@dataclass
class Played(Prefill):
    """Suite of attacks on a model that has forgotten the answers after the first evaluation."""

    asked: list[int] = field(default_factory=list)

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        self.asked.append(len(probes))
        player = START_MODEL if len(self.asked) == 1 else FORGETS
        return [player.outcome("prefill", probe) for probe in probes]


@dataclass
class PlayedBoundary(Boundary):
    """Suite of questions that the model still answers."""

    def answer(self, subject: Subject, probes: Sequence[Probe]) -> list[Outcome]:
        return [FORGETS.outcome("boundary", probe) for probe in probes]


@pytest.mark.filterwarnings("ignore:Using ModelCheckpoint with manual optimization")
def test_the_balanced_score_of_a_step_compares_with_the_start(tmp_path: Path) -> None:
    rows = [Source("builtin:forget", split="eval", limit=6)]
    suites = {
        "prefill": Played(rows, openers=["Sure,"], answer_words=[]),
        "boundary": PlayedBoundary(rows, rows),
    }
    best = ModelCheckpoint(tmp_path / "best", monitor=BALANCE, mode="max", every_n_train_steps=2)
    callbacks = [SuiteEvaluation(suites, every_n_steps=2, at_start=True), best]
    run = fit(tmp_path, module(), callbacks, steps=4, enable_checkpointing=True)
    start, later = (read_evaluation(tmp_path / "evaluation" / f"step_{n}") for n in (0, 2))
    expected = {figure.name: figure.value for figure in balance_figures(start, later)}
    assert expected["balance"] > 0.9
    assert {figure.name: figure.value for figure in later.balance} == expected
    assert not start.balance
    for name, value in expected.items():
        assert float(run.callback_metrics[f"eval/balance/{name}"]) == pytest.approx(value)
    assert best.best_model_score == pytest.approx(expected["balance"])


def test_a_monitored_balance_that_the_suites_cannot_give_ends_the_run(tmp_path: Path) -> None:
    rows = [Source("builtin:forget", split="eval", limit=2)]
    callbacks = [
        SuiteEvaluation({"near": PlayedBoundary(rows, rows)}, 1, at_start=True),
        ModelCheckpoint(tmp_path / "best", monitor=BALANCE, mode="max"),
    ]
    with pytest.raises(InputError, match="unattacked/recall"):
        fit(tmp_path, module(), callbacks, steps=1, enable_checkpointing=True)


def test_training_goes_on_as_if_nothing_had_been_measured(tmp_path: Path) -> None:
    disturbing = Disturbing()
    plain, measured = module(), module()
    fit(tmp_path / "plain", plain, [], steps=3)
    fit(tmp_path / "measured", measured, [SuiteEvaluation({"s": disturbing}, 1)], steps=3)
    assert disturbing.seen == [(False, True, 4)] * 3
    for name, weight in plain.student.named_parameters():
        assert torch.equal(weight, measured.student.get_parameter(name))


def test_nothing_is_measured_unless_asked_for(tmp_path: Path) -> None:
    fit(tmp_path, module(), [SuiteEvaluation({"s": Disturbing()}, at_end=False)], steps=2)
    assert not (tmp_path / "evaluation").exists()


def test_the_reference_reaches_the_suite(tmp_path: Path) -> None:
    first, second = SuiteEvaluation({"s": Disturbing()}), SuiteEvaluation({"s": Disturbing()})
    second.reference = str(tmp_path / "a/evaluation/step_1")
    fit(tmp_path / "a", module(), [first], steps=1)
    fit(tmp_path / "b", module(), [second], steps=1)
    known = [
        read_evaluation(tmp_path / run / "evaluation/step_1").suites["s"].figures[0].value
        for run in "ab"
    ]
    assert known == [0.0, 4.0]


def test_what_is_missing_is_said_before_training(tmp_path: Path) -> None:
    callback = SuiteEvaluation({"s": Disturbing()}, reference=str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="expected the folder of an evaluation"):
        fit(tmp_path, module(), [callback], steps=1)


def test_no_suite() -> None:
    with pytest.raises(InputError, match="should name at least one suite"):
        SuiteEvaluation({})


def test_scalars_have_true_names_and_values() -> None:
    record = evaluation(
        suite("tofu", [Figure("forget/recall", 0.5, "", 2), Figure("none", float("nan"), "", 0)])
    )
    assert scalars(record) == {"eval/tofu/forget/recall": 0.5}


def test_undisturbed_restores_each_module_even_after_an_error() -> None:
    model = nn.Sequential(nn.Dropout(), nn.Dropout())
    model[1].eval()
    state = torch.random.get_rng_state()

    def fail() -> None:
        with torch.inference_mode(), undisturbed(model):
            assert not model[0].training
            assert torch.is_grad_enabled()
            assert not torch.is_inference_mode_enabled()
            torch.rand(1)
            raise ValueError("stop")

    with pytest.raises(ValueError, match="stop"):
        fail()
    assert (model.training, model[0].training, model[1].training) == (True, True, False)
    assert torch.equal(state, torch.random.get_rng_state())


# --------------------------------------------------------------------------------- two processes


def three_suites() -> dict[str, Suite]:
    """One that asks, one that trains copies, one that answers by itself."""
    forget = Source("builtin:forget", split="eval", limit=4)
    return {
        "near": Boundary([Source("builtin:neighbor", split="eval", limit=3)], [], max_new_tokens=3),
        "relearn": Relearn([forget], steps=[1], max_new_tokens=3),
        "soft": SoftPrompt([forget], max_new_tokens=3, descent=Descent(length=2, steps=2)),
    }


class Plain(LightningModule):
    """What the callback reads of a module, trained on one sentence."""

    def __init__(self) -> None:
        super().__init__()
        self.student, self.tokenizer = tiny_model(), tiny_tokenizer()
        self.source = ModelSource("random-tiny")

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        ids = torch.tensor([self.tokenizer("the same for all")["input_ids"]])
        loss: torch.Tensor = self.student(input_ids=ids, labels=ids).loss
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.5)


class Data(LightningDataModule):
    data_root: Path | None = None
    max_length = 512
    template = Template()

    def train_dataloader(self) -> list[int]:
        return [0, 1]


def train(folder: Path) -> dict[str, torch.Tensor]:
    """Train in one of two processes of a DDP run that is measured at every step."""
    warnings.simplefilter("ignore")
    model = Plain()
    run = trainer(
        folder,
        SuiteEvaluation(three_suites(), every_n_steps=1, batch_size=2),
        strategy="ddp",
        devices=2,
        max_steps=2,
    )
    run.fit(model, datamodule=Data())
    return dict(model.student.state_dict())


@FORKED
def test_two_processes_of_a_run_measure_what_one_measures(tmp_path: Path) -> None:
    """Every row once, and the figures of a single process on the trained weights."""
    first, second = in_processes(2, lambda: train(tmp_path), tmp_path / "out", start=False)
    assert all(torch.equal(first[name], second[name]) for name in first)
    records = [read_evaluation(tmp_path / "evaluation" / f"step_{step}") for step in (1, 2)]
    assert records[0].fingerprint != records[1].fingerprint
    alone = load_subject("random-tiny", Loading(device="cpu", max_length=512))
    alone.model.load_state_dict(first)
    for name, asked in three_suites().items():
        wanted = run_suite(asked, alone, Store(tmp_path / name))
        found = records[1].suites[name]
        assert [row.row_id for row in found.rows] == [row.row_id for row in wanted.rows]
        assert [row.reply for row in found.rows] == [row.reply for row in wanted.rows]
        values = [figure.value for figure in found.figures]
        assert values == pytest.approx([figure.value for figure in wanted.figures], abs=1e-4)


# ------------------------------------------------------------------------------ lit-unlearn test

BOUNDARY = {"class_path": "Boundary", "init_args": {"general": [], "max_new_tokens": 1}}


def config(folder: Path, *callbacks: object) -> str:
    """A run of one objective on the tiny model, two steps, with a checkpoint of the last."""
    rows = {"path": "builtin:general", "split": "train", "limit": 2}
    values = {
        "trainer": {
            "default_root_dir": str(folder / "run"),
            "max_steps": 2,
            "accelerator": "cpu",
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": False,
            "callbacks": [
                {"class_path": "ModelCheckpoint", "init_args": {"dirpath": str(folder / "saved")}},
                *callbacks,
            ],
        },
        "model": {
            "student": {"path": "random-tiny"},
            "objectives": {"retain": "CrossEntropy"},
            "optimizer": {"class_path": "SGD", "init_args": {"lr": 0.1}},
        },
        "data": {"objectives": {"retain": {"sources": [rows], "expect": "answer", "rows": 1}}},
    }
    file = folder / "run.yaml"
    file.write_text(yaml.safe_dump(values), "utf-8")
    return f"--config={file}"


def test_the_stage_measures_the_checkpoint(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = config(
        tmp_path, {"class_path": "SuiteEvaluation", "init_args": {"suites": {"near": BOUNDARY}}}
    )
    assert main(["fit", given]) == 0
    saved = (tmp_path / "run/config.yaml").read_text("utf-8")
    (checkpoint,) = (tmp_path / "saved").iterdir()
    capsys.readouterr()
    assert main(["test", given, f"--ckpt_path={checkpoint}"]) == 0
    assert "neighbor/refused" in capsys.readouterr().out
    folder = tmp_path / "run/evaluation"
    tested, trained = read_evaluation(folder / "test"), read_evaluation(folder / "step_2")
    assert tested.fingerprint == trained.fingerprint
    assert tested.suites["near"].rows == trained.suites["near"].rows
    assert tested.settings["checkpoint"] == str(checkpoint)
    assert (folder / "test/evaluation.html").exists()
    assert (tmp_path / "run/config.yaml").read_text("utf-8") == saved
    assert main(["test", f"--config={tmp_path / 'run/config.yaml'}"]) == 0
    start = read_evaluation(folder / "test")
    assert start.fingerprint != tested.fingerprint
    assert start.suites["near"].settings == tested.suites["near"].settings


@pytest.mark.parametrize(
    ("callbacks", "args", "message"),
    [
        ([], [], "`lit-unlearn test` needs a SuiteEvaluation, found none; add {class_path: "),
        (
            [{"class_path": "SuiteEvaluation", "init_args": {"suites": {"a": "Boundry"}}}],
            [],
            "unknown class Boundry",
        ),
        (
            [{"class_path": "SuiteEvaluation", "init_args": {"suites": {"a": "Boundary"}}}],
            ["--ckpt_path=nowhere.ckpt"],
            "--ckpt_path nowhere.ckpt: no such file or folder",
        ),
    ],
)
def test_mistakes(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    callbacks: list[object],
    args: list[str],
    message: str,
) -> None:
    assert main(["test", config(tmp_path, *callbacks), *args]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "run" / "evaluation").exists()
    assert METRICS not in {path.name for path in tmp_path.rglob("*")}
