"""What TensorBoard shows of a run: read from event files, over its HTTP interface, in a browser."""

from __future__ import annotations

import json
import math
import re
import shutil
import subprocess
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.request import Request, urlopen

import pytest
import torch
from lightning.pytorch.loggers import CSVLogger, TensorBoardLogger
from PIL import Image
from tensorboard import program
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lit_unlearn.callbacks import AnswerEvaluation, GradientMonitor
from lit_unlearn.callbacks.board import MOST_PAIRS, Board, layout, side_by_side
from lit_unlearn.cli.board_session import hyperparameters, write_session
from lit_unlearn.gradients.gramian import GroupedGramian
from lit_unlearn.report import read_gradients
from lit_unlearn.report.style import COLOURS
from lit_unlearn.training.step import empty_record
from tests.small_runs import data_module, module, trainer

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:tensorboard")

NAMES = ["forget", "adversarial", "retain", "neighbor"]
APART = ["forget~retain", "forget~neighbor", "adversarial~retain", "adversarial~neighbor"]
PAIRS = [*APART, "forget~adversarial", "retain~neighbor"]
CONFIG = """
seed_everything: {seed}
model:
  weighting: {{class_path: lit_unlearn.PCGrad, init_args: {{normalize: true}}}}
  objectives: {{forget: {{class_path: NPO, init_args: {{beta: 0.1}}}}}}
  warmup_steps: null
data: {{objectives: {{forget: {{sources: [{{path: "builtin:forget", limit: 5}}]}}}}}}
trainer: {{default_root_dir: runs/{seed}, max_steps: 4, callbacks: [{{class_path: Timer}}]}}
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with one run of four objectives, with two loggers, and the end of another run."""
    folder = tmp_path_factory.mktemp("runs")
    loggers = [CSVLogger(folder / "csv"), TensorBoardLogger(folder, name="", version="a")]
    answers = AnswerEvaluation(max_new_tokens=2, samples=1)
    options: dict[str, Any] = {"max_steps": 4, "log_every_n_steps": 1, "logger": loggers}
    run = trainer(folder / "a", GradientMonitor(1), answers, **options)
    data = data_module()
    for spec in data.objectives.values():
        spec.evaluation_rows = 2
    run.fit(module(), datamodule=data)
    write_session(run, CONFIG.format(seed=0))
    run.loggers[1] = TensorBoardLogger(folder, name="", version="b")
    write_session(run, CONFIG.format(seed=1))
    return folder


def read(folder: Path) -> EventAccumulator:
    return EventAccumulator(str(folder)).Reload()


def points(folder: Path, name: str) -> dict[int, float]:
    return {each.step: each.value for each in read(folder).Scalars(name)}


def table_row(names: list[str], step: int = 0, cosine: float = 0.5) -> dict[str, Any]:
    """A diagnosed step in which all cosines are equal."""
    size = len(names)
    cosines = [[1.0 if i == j else cosine for j in range(size)] for i in range(size)]
    one = dict.fromkeys(("losses", "norms", "weights", "update_cosines"), [1.0] * size)
    row = {"step": step, "objectives": names, "cosines": cosines, "update_norm": 2.0, **one}
    return row | {"conflict_rate": 0.0, "groups": ["head"], "group_cosines": [cosines]}


# ------------------------------------------------------------------------------------ event files


def test_each_pair_and_objective_is_a_run_in_one_chart(runs: Path) -> None:
    """Their points are those of the table, and none where a cosine is undefined."""
    rows = read_gradients(runs / "a" / "gradients.jsonl")
    assert any(math.isnan(row["cosines"][0][3]) for row in rows)  # neighbor is at rest at step 0
    for pair in PAIRS:
        i, j = (NAMES.index(name) for name in pair.split("~"))
        wanted = {r["step"]: r["cosines"][i][j] for r in rows if math.isfinite(r["cosines"][i][j])}
        assert points(runs / "a" / "pairs" / pair, "compare/cosine") == pytest.approx(wanted)
        own = points(runs / "a" / "objectives" / NAMES[j], f"compare/with/{NAMES[i]}")
        assert own == pytest.approx(wanted)
    for i, name in enumerate(NAMES):
        own = points(runs / "a" / "objectives" / name, "compare/loss")
        assert own == pytest.approx({row["step"]: row["losses"][i] for row in rows})
    norms = points(runs / "a" / "update", "compare/gradient_norm")
    assert norms == pytest.approx({row["step"]: row["update_norm"] for row in rows})


def test_the_run_itself_has_pictures_histogram_and_text(runs: Path) -> None:
    board = read(runs / "a")
    tags = board.Tags()
    assert tags["images"] == ["grad_cos/layer_groups", "compare/layers"]
    assert tags["histograms"] == ["grad_cos/histogram"]
    (last,) = board.Histograms("grad_cos/histogram")[-1:]
    rows = read_gradients(runs / "a" / "gradients.jsonl")
    cosines = [g[i][j] for g in rows[-1]["group_cosines"] for i in range(4) for j in range(i)]
    assert last.histogram_value.num == sum(map(math.isfinite, cosines))
    assert not any(math.isnan(each.value) for n in tags["scalars"] for each in board.Scalars(n))

    def text(name: str) -> str:
        (event,) = board.Tensors(f"{name}/text_summary")
        return event.tensor_proto.string_val[0].decode()

    shown = text("rows/adversarial")
    assert "expected: decline" in shown
    assert all(f"**{part}**" in shown for part in ("student", "teacher", "answer"))
    assert "    No." in shown  # the refusal, as code
    assert "**before**" in text("samples/forget")


def test_other_loggers_get_plain_scalars(runs: Path) -> None:
    (file,) = (runs / "csv").rglob("metrics.csv")
    names = file.read_text("utf-8").splitlines()[0].split(",")
    assert {"grad_cos/forget~retain", "conflict/rate", "loss/forget"} <= set(names)
    assert not any(name.startswith(("compare/", "final/")) for name in names)


def test_a_resumed_run_goes_on_in_the_same_runs(tmp_path: Path) -> None:
    """The interrupted run had gone to step 4, and its last checkpoint was after step 2."""
    logger = TensorBoardLogger(tmp_path, name="", version="")
    for first, cosine in ((0, 0.5), (3, -0.5)):
        board = Board(logger, ["a", "b"], ["a"], first, tmp_path / "none", 0)
        for step in range(first, 5):
            board.add(table_row(["a", "b"], step, cosine))
        board.close()
    found = points(tmp_path / "pairs" / "a~b", "compare/cosine")
    assert found == {0: 0.5, 1: 0.5, 2: 0.5, 3: -0.5, 4: -0.5}


def test_many_objectives_have_few_files(tmp_path: Path) -> None:
    """Twelve have 66 pairs: all are in the charts of one objective, with a run an objective.

    Names may hold what no folder's name can.
    """
    names = ["a/b", "a_b", "x" * 300, *(f"objective {n}" for n in range(9))]
    logger = TensorBoardLogger(tmp_path, name="", version="")
    board = Board(logger, names, [], 0, tmp_path / "none", 0)
    board.add(table_row(names))
    board.close()
    folders = {file.parent for file in tmp_path.rglob("events.*")}
    assert len(folders) == 1 + len(names) + 1
    tags = set(read(tmp_path / "objectives" / "a_b").Tags()["scalars"])
    assert {f"compare/with/{name}" for name in names if name != "a_b"} < tags
    most = side_by_side(table_row(names[:7]), [])
    assert sum(run[0] == "pairs" for run in most) == MOST_PAIRS


def test_an_undefined_cosine_reaches_no_logger_and_no_callback(tmp_path: Path) -> None:
    """The second gradient is zero. NaN would end a run with EarlyStopping on the cosine."""
    whole = torch.tensor([[1.0, 0.0], [0.0, 0.0]], dtype=torch.float64)
    grouped = GroupedGramian(whole=whole, by_group=whole[None], groups=("all",))
    record = empty_record(0, "exact") | {"gramian": grouped, "weights": torch.ones(2)}
    seen: list[dict[str, float]] = []
    module = SimpleNamespace(objectives={"a": 1, "b": 2}, log_dict=lambda v, **_: seen.append(v))
    logger = SimpleNamespace(log_metrics=lambda values, step: seen.append(values))
    run: Any = SimpleNamespace(precision="32-true", loggers=[logger], default_root_dir=tmp_path)
    GradientMonitor().on_train_batch_end(run, module, record, {}, 0)
    assert [{"grad_cos/a~b", "grad_norm/b"} & set(values) for values in seen] == [
        {"grad_norm/b"}
    ] * 2


def test_one_objective_has_no_charts() -> None:
    assert layout(["only"]) == {}
    assert side_by_side(table_row(["only"]), []) == {}


def test_hyperparameters_are_the_settings_by_their_keys() -> None:
    assert hyperparameters(CONFIG.format(seed=3)) == {
        "seed_everything": 3,
        "model.weighting": "PCGrad",
        "model.weighting.normalize": True,
        "model.objectives.forget": "NPO",
        "model.objectives.forget.beta": 0.1,
        "data.objectives.forget.sources.0.path": "builtin:forget",
        "data.objectives.forget.sources.0.limit": 5,
        "trainer.max_steps": 4,
    }


# ----------------------------------------------------------------------------------- over HTTP


@pytest.fixture(scope="module")
def url(runs: Path) -> str:
    """Address of a TensorBoard in this process that has read all runs."""
    board = program.TensorBoard()
    options = ["--logdir", str(runs), "--port=0", "--load_fast=false", "--reload_interval=0"]
    board.configure(argv=["tensorboard", *options])
    address = str(board.launch()).rstrip("/")
    while len(ask(address, "runs")) < 1 + 6 + 4 + 1 + 2 or not ask(address, "plugins_listing"):
        time.sleep(0.1)
    return address


def ask(address: str, what: str, body: dict[str, Any] | None = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    request = Request(f"{address}/data/{what}", data, {"Content-Type": "application/json"})
    with urlopen(request) as reply:
        return json.load(reply)


def test_charts_over_http(url: str) -> None:
    tags = ask(url, "plugin/scalars/tags")
    in_chart = [run for run in tags if "compare/cosine" in tags[run]]
    assert sorted(in_chart) == sorted(f"a/pairs/{pair}" for pair in PAIRS)
    between = [run for run in tags if "compare/cosine_opposed" in tags[run]]
    assert sorted(between) == sorted(f"a/pairs/{pair}" for pair in APART)
    # TensorBoard gives out seven colours in this order: no two of the six pairs have the same
    order = [run for run in ask(url, "runs") if "/pairs/" in run]
    assert order == [f"a/pairs/{pair}" for pair in PAIRS]
    every = ask(url, "runs")
    assert every.index(order[-1]) - every.index(order[0]) == 5
    sections = ask(url, "plugin/custom_scalars/layout")["category"]
    charts = {c["title"]: c["multiline"]["tag"] for part in sections for c in part["chart"]}
    names = {name for tags_of_run in tags.values() for name in tags_of_run}
    assert all(any(re.match(p, name) for name in names) for ps in charts.values() for p in ps)
    assert charts["cosine of each pair"] == ["compare/cosine$"]
    (of_layers,) = charts["forget ~ retain"]
    assert sum(bool(re.match(of_layers, name)) for name in names) == 4


def test_a_sweep_can_be_compared_over_http(url: str) -> None:
    """The setting that differs comes first, and every session has the final figures."""
    body = {"experimentName": "", "hparamsLimit": 5}
    experiment = ask(url, "plugin/hparams/experiment", body)
    first, *others = experiment["hparamInfos"]
    assert (first["name"], first["differs"]) == ("seed_everything", True)
    assert not any(info.get("differs") for info in others)
    metrics = [info["name"]["tag"] for info in experiment["metricInfos"]]
    assert {"final/answers/forget/refused", "final/conflict_rate", "final/loss/retain"} <= {
        *metrics
    }
    assert "final/cosine/forget~retain" in metrics
    params = [{"metric": info["name"]} for info in experiment["metricInfos"]]
    body = {"allowedStatuses": ["STATUS_SUCCESS"], "colParams": params, "sliceSize": 9}
    groups = ask(url, "plugin/hparams/session_groups", body)["sessionGroups"]
    assert sorted(group["hparams"]["seed_everything"] for group in groups) == [0, 1]
    assert [len(group["metricValues"]) for group in groups] == [len(metrics)] * 2


# ---------------------------------------------------------------------------------------- browser


@pytest.fixture(scope="module")
def chromium() -> str:
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    return found or pytest.skip("needs Chromium (apt-get install chromium)")


def browse(chromium: str, address: str, folder: Path, *options: str) -> str:
    """Return what a browser makes of a page."""
    quiet = ["--disable-background-networking", "--disable-component-update", "--no-first-run"]
    command = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *quiet, "--dump-dom"]
    command += [f"--user-data-dir={folder / 'user'}", "--window-size=1600,4000", *options, address]
    return subprocess.run(command, capture_output=True, text=True, timeout=300).stdout


def test_all_pairs_are_in_one_chart_of_the_page(url: str, chromium: str, tmp_path: Path) -> None:
    """The chart names every pair, and each has a colour of its own."""
    page = browse(chromium, f"{url}/#timeseries", tmp_path, "--virtual-time-budget=20000")
    cards = page.split("<scalar-card-component")[1:]
    found = {title: card for card in cards for title in re.findall(r'title="(compare/.*?)"', card)}
    pairs = found["compare/cosine"]
    assert set(re.findall(r"a/pairs/([\w~]+)", pairs)) == set(PAIRS)
    assert len(set(re.findall(r"background(?:-color)?: (rgb\(.*?\))", pairs))) == 6
    for name in NAMES:
        shown = re.findall(r"a/objectives/(\w+)", found[f"compare/with/{name}"])
        assert set(shown) == set(NAMES) - {name}
        assert f"a/objectives/{name}" in found["compare/loss"]


def test_report_in_a_browser(runs: Path, chromium: str, tmp_path: Path) -> None:
    """The legend names every pair, and the page shows the colours of its curves."""
    address, file = (runs / "a" / "report.html").as_uri(), tmp_path / "page.png"
    page = browse(chromium, address, tmp_path, f"--screenshot={file}")
    assert all(pair.replace("~", " ~ ") in page for pair in PAIRS)
    found = Image.open(file).convert("RGB").getcolors(2**24)
    drawn = {"#" + bytes(colour).hex() for _, colour in found or ()}
    assert set(COLOURS[: len(PAIRS)]) <= drawn
