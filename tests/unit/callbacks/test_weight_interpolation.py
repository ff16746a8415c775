"""WeightInterpolation: which share of the update it keeps, and that the weights are that share."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback, Trainer

from lit_unlearn.callbacks import AnswerEvaluation, HuggingFaceExport, WeightInterpolation
from lit_unlearn.callbacks import weight_interpolation as tested
from lit_unlearn.callbacks.known_answers import Known, KnownAnswers, known_of
from lit_unlearn.callbacks.weight_interpolation import first, interpolate
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.sources import Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Row, SuiteResult
from lit_unlearn.evaluation.subjects import load_subject
from lit_unlearn.evaluation.suite_run import run_suite
from lit_unlearn.evaluation.suites.depth import Depth
from lit_unlearn.metrics.functional.statistics import mean
from lit_unlearn.models.loading import LoRA, load_base
from lit_unlearn.models.noise import Noise
from tests.small_runs import data_module, module, trainer, weights

pytestmark = [
    pytest.mark.usefixtures("own_cache", "undrawn"),
    pytest.mark.filterwarnings(
        "ignore:`is_gradient_checkpointing` is deprecated",  # peft with transformers 5
    ),
]
SCALES = [0.25, 0.5, 0.75, 1.0]


class Trained(Callback):
    """Keeps the trained weights, before another callback changes them."""

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.weights = [weight.clone() for weight in weights(pl_module)]
        self.norm = _norm(pl_module)


def _norm(model: Any) -> float:
    """Return the length of the update, or of the adapters' B, which is as long as its share."""
    if model.source.lora is not None:
        named = model.student.named_parameters()
        return float(sum(p.detach().square().sum() for n, p in named if "lora_B" in n)) ** 0.5
    starts = [weight.detach() for weight in load_base(model.source).parameters()]
    pairs = zip(weights(model), starts, strict=True)
    return float(sum((mine - start).square().sum() for mine, start in pairs)) ** 0.5


def run(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    known: float,
    likely: float = 0,
    lost: float = 0.1,
    at_least: float | None = 0.95,
    **options: Any,
) -> tuple[WeightInterpolation, Trained, Any]:
    """Train; recall is 1 below the share `known` of the update, and 0 from it on.

    So is the probability of the answers, at the share `likely`. Recall of rows to keep is 1 below
    the share `lost`, and .5 from it on.
    """
    trained, callback = Trained(), WeightInterpolation(SCALES, kept_at_least=at_least, rows=2)
    model = module(**options)

    def asked(suite: Any, subject: Any, title: str, **_: Any) -> SuiteResult:
        share = _norm(model) / trained.norm
        right = (
            float(share < known - 1e-3) if "forget" in title else 1 - 0.5 * (share > lost - 1e-3)
        )
        scores = {"correct": right, "rouge_l_recall": 0.0, "refused": 0.0}
        scores["span_probability"] = likely if math.isnan(likely) else float(share < likely - 1e-3)
        probes = suite.probes(None)
        return SuiteResult([Row(p.probe_id, p.group, scores, "", "", "") for p in probes], [])

    monkeypatch.setattr(tested, "run_suite", asked)
    trainer(folder, callback, trained, max_steps=3).fit(model, datamodule=data_module())
    return callback, trained, model


@pytest.mark.parametrize("place", range(5))
def test_the_smallest_share_is_found_in_few_trials(place: int) -> None:
    tried: list[float] = []

    def enough(share: float) -> bool:
        tried.append(share)
        return share >= [*SCALES, 2.0][place]

    assert first(SCALES, enough) == [*SCALES, 1.0][place]
    assert len(tried) < WeightInterpolation(SCALES).trials


def test_a_worked_value() -> None:
    weight, trained, start = torch.zeros(2), torch.tensor([2.0, 4.0]), torch.tensor([1.0, 0.0])
    interpolate(weight, trained, start, 0.25)
    assert weight.tolist() == [1.25, 1.0]
    interpolate(weight, trained, None, 0.25)
    assert weight.tolist() == [0.5, 1.0]
    interpolate(weight, trained, start, 1.0)
    assert torch.equal(weight, trained)


@pytest.mark.parametrize(
    ("correct", "rouge", "refused", "expected"),
    [
        (1.0, 0.2, 1.0, 1.0),
        (0.0, 0.9, 0.0, 0.0),
        (math.nan, 0.3, 0.0, 0.3),
        (math.nan, 0.3, 1.0, 0),
    ],
)
def test_recall_of_a_reply(correct: float, rouge: float, refused: float, expected: float) -> None:
    scores = {"correct": correct, "rouge_l_recall": rouge, "refused": refused}
    likely = {"span_probability": 0.25}
    rows = [Row("", group, scores | likely, "", "", "") for group in ("asked", "asked/prefilled")]
    rows[1].scores["span_probability"] = 1.0  # behind an opener: not counted
    assert known_of(rows) == Known(expected, 0.25)


def test_the_probability_is_that_of_the_span_in_the_depth_suite(tmp_path: Path) -> None:
    """Two suites that read the same model find the same figure of the same rows."""
    rows = [Source("builtin:forget", split="train", limit=3)]
    subject = load_subject("random-tiny")
    depth = run_suite(Depth(rows, blocks=1), subject).rows
    suite = KnownAnswers(load_examples(rows), None, 1, subject)
    found = known_of(run_suite(suite, subject).rows)
    assert found.probability == pytest.approx(mean([row.scores["probability"] for row in depth]))
    assert 0 < found.probability < 1
    assert math.isnan(known_of([]).probability)


def test_a_probability_that_is_not_known_decides_nothing() -> None:
    assert Known(0.1, math.nan).within(Known(0.1, math.nan))
    assert not Known(0.1, 0.6).within(Known(0.1, 0.5))
    assert not Known(0.2, 0.5).within(Known(0.1, 0.5))


@pytest.mark.parametrize("kept", [0.5, 1.0, 2.0])
def test_the_weights_are_the_chosen_share_of_the_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kept: float
) -> None:
    callback, trained, model = run(tmp_path, monkeypatch, kept)
    assert callback.chosen == min(kept, 1.0)
    starts = [weight.detach() for weight in load_base(model.source).parameters()]
    for found, full, start in zip(weights(model), trained.weights, starts, strict=True):
        torch.testing.assert_close(found, start + callback.chosen * (full - start))
        if kept >= 1:
            assert torch.equal(found, full)
    written = json.loads((tmp_path / "interpolation.json").read_text("utf-8"))
    assert written["scale"] == callback.chosen
    assert written["questions"] == 4  # two rows, plainly and behind an opener
    assert written["recall"]["0"] == 1.0
    assert len(written["recall"]) <= callback.trials


def test_answers_that_are_still_likely_ask_for_a_larger_share(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, *_ = run(tmp_path, monkeypatch, 0.25, likely=0.75)
    assert callback.chosen == 0.75
    written = json.loads((tmp_path / "interpolation.json").read_text("utf-8"))
    assert written["probability"] == {"0": 1.0, "0.5": 1.0, "0.75": 0.0}
    assert (written["recall_at_most"], written["probability_at_most"]) == (0.15, 0.4)


@pytest.mark.parametrize(
    ("lost", "at_least", "expected"),
    [
        (2.0, 0.95, 0.75),
        (1.0, 0.95, 0.75),
        (0.5, 0.95, 0.5),
        (0.1, 0.95, 0.5),
        (0.1, 0.5, 0.75),
        (2.0, None, 0.5),
    ],
)
def test_the_middle_of_what_forgets_and_what_keeps_is_taken(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    lost: float,
    at_least: float | None,
    expected: float,
) -> None:
    """.5 is the smallest that forgets. Up to 1 the middle is .75; up to .75 it is between two."""
    callback, *_ = run(tmp_path, monkeypatch, 0.5, lost=lost, at_least=at_least)
    assert callback.chosen == expected
    written = json.loads((tmp_path / "interpolation.json").read_text("utf-8"))
    assert written["kept_at_least"] == at_least
    assert ("0" in written["kept"]) == (at_least is not None)
    assert len(written["kept"]) <= callback.trials


def test_without_gold_answers_the_recall_alone_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    callback, *_ = run(tmp_path, monkeypatch, 0.5, likely=math.nan)
    assert callback.chosen == 0.5
    said = capsys.readouterr().err
    assert "Recall: 1.00 at 0" in said
    assert "robability" not in said
    assert (
        json.loads((tmp_path / "interpolation.json").read_text("utf-8"))["probability_at_most"]
        is None
    )


def test_of_adapters_the_product_is_scaled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    callback, trained, model = run(tmp_path, monkeypatch, 0.5, lora=LoRA(2))
    names = [n for n, p in model.student.named_parameters() if p.requires_grad]
    for name, found, full in zip(names, weights(model), trained.weights, strict=True):
        torch.testing.assert_close(found, full * (0.5 if "lora_B" in name else 1))
    assert callback.chosen == 0.5


def test_a_model_that_recalls_little_keeps_all_of_the_update(tmp_path: Path) -> None:
    """The tiny model answers nothing. The report and the export read the chosen weights."""
    callback, model = WeightInterpolation(rows=2), module()
    answers = AnswerEvaluation(max_new_tokens=2)
    run = trainer(tmp_path, HuggingFaceExport(), answers, callback, max_steps=2)
    run.fit(model, datamodule=data_module())
    assert callback.chosen == 1.0
    assert answers.after is not None
    assert (tmp_path / "model" / "model.safetensors").exists()


def test_a_checkpoint_of_the_result_is_not_changed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    callback, _, model = run(tmp_path, monkeypatch, 0.5)
    model.trainer.save_checkpoint(tmp_path / "end.ckpt")
    again, resumed = WeightInterpolation(SCALES, rows=2), module()
    run_again = trainer(tmp_path, again, max_steps=3)
    run_again.fit(
        resumed, datamodule=data_module(), ckpt_path=tmp_path / "end.ckpt", weights_only=True
    )
    assert again.chosen == callback.chosen
    for found, expected in zip(weights(resumed), weights(model), strict=True):
        assert torch.equal(found, expected)


def test_a_longer_run_chooses_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step after the checkpoint of a result makes another update."""
    callback, _, model = run(tmp_path, monkeypatch, 0.5)
    assert callback.chosen == 0.5
    monkeypatch.undo()  # the tiny model recalls nothing, so that all of the update stays
    trainer(tmp_path, callback, max_steps=1).fit(model, datamodule=data_module())
    assert callback.chosen == 1.0


def test_rows_of_several_objectives_are_asked_once() -> None:
    data = data_module()
    data.setup("fit")
    asked = WeightInterpolation(rows=9).suite(data, "decline").probes(None)
    assert len({probe.example.question for probe in asked}) == 5
    assert len(asked) == 10
    kept = WeightInterpolation(rows=9).suite(data, "answer").probes(None)
    assert len({probe.example.question for probe in kept}) == 9  # of ten
    data.validation["forget"] = data.examples["forget"][:1]
    data.validation["adversarial"] = data.examples["adversarial"][:1]
    assert len(WeightInterpolation(rows=9).suite(data, "decline").probes(None)) == 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"scales": [0.0]}, "`scales` should be above 0"),
        ({"scales": [1.5]}, "at most 1"),
        ({"recall_at_most": -0.1}, "`recall_at_most`"),
        ({"probability_at_most": 1.1}, "`probability_at_most`"),
        ({"kept_at_least": 1.1}, "`kept_at_least`"),
        ({"rows": 0}, "`rows`"),
        ({"openers": "builtin:none"}, "openers"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        WeightInterpolation(**arguments)


def test_a_run_without_rows_to_forget_is_refused(tmp_path: Path) -> None:
    data = UnlearnDataModule(
        {"retain": ObjectiveData([Source("builtin:general", limit=2)], "answer")}
    )
    data.setup("fit")
    callback = WeightInterpolation()
    run = trainer(tmp_path, callback, max_steps=1)
    run.datamodule = data
    with pytest.raises(InputError, match="expect: decline"):
        callback.setup(run, module(), "fit")


@pytest.mark.parametrize(("option", "words"), [("noise", "noise"), ("lora", "modules_to_save")])
def test_weights_without_a_start_are_refused(tmp_path: Path, option: str, words: str) -> None:
    model = module()
    given = {"noise": Noise(0.1), "lora": LoRA(2, modules_to_save=["embed_tokens"])}
    setattr(model.source, option, given[option])
    callback, data = WeightInterpolation(), data_module()
    data.setup("fit")
    run = trainer(tmp_path, callback, max_steps=1)
    run.datamodule = data
    with pytest.raises(InputError, match=words):
        callback.setup(run, model, "fit")
