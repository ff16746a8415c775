"""Whatever users do, their files stay as they are, and the same seed gives the same bits."""

from __future__ import annotations

import random
import socket
import time
from datetime import datetime
from pathlib import Path

import pytest
from transformers.utils import chat_template_utils

from lit_unlearn.__main__ import main
from lit_unlearn.callbacks.huggingface_export import save_folder
from lit_unlearn.callbacks.saved import UNFINISHED, read_saved
from lit_unlearn.evaluation.outcome_store import Store
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from tests.faults.owned_runs import (
    SimulatedKill,
    config,
    fit,
    foreign_files,
    same,
    snapshot,
    written,
)

pytestmark = pytest.mark.filterwarnings(
    "ignore:.*does not have many workers",
    "ignore:You requested to overfit",
    "ignore:Checkpoint directory",
)

TRAINS = ("run", "kill", "end", "last", "steps")
DEEDS = (
    *TRAINS,
    "kill",
    "kill",
    "debug",
    "evaluate",
    "stopped evaluation",
    "rewrite",
    "edit",
    "tidy",
)
EDITED = ("config.yaml", "model/README.md", "found/metrics.json", "rows/forget.jsonl")
"""Files of the product that a user may edit."""


def _fit(deed: str, choose: random.Random) -> int | None:
    options = [f"--seed_everything={choose.choice([0, 0, 0, 1])}"]
    options += ["--ckpt_path=last"] * (deed == "last") + ["--trainer.max_steps=4"] * (
        deed == "steps"
    )
    if deed == "debug":
        options += [choose.choice(["--trainer.fast_dev_run=1", "--trainer.overfit_batches=1"])]
    dies = choose.randrange(1, 4) if deed == "kill" else 0
    return fit(Path("mini.yaml"), *options, dies=dies, at_end=deed == "end")


def _evaluate(stopped: bool, choose: random.Random) -> int | None:
    model = choose.choice(["start", "run/model"])
    if not Path(model).exists():
        return 0
    output = f"--output=run/{'found' if model == 'start' else 'found_after'}"
    with pytest.MonkeyPatch.context() as patch:
        if stopped:
            patch.setattr(Store, "append", _die)
        try:
            return main(["evaluate", model, "--config=evaluate.yaml", output])
        except SimulatedKill:
            return None


def _die(*_: object) -> None:
    raise SimulatedKill


def _do(deed: str, mine: dict[str, bytes], choose: random.Random) -> int | None:
    """Do one thing that users do, in any state of the folder; return the command's status."""
    if deed == "evaluate" or deed == "stopped evaluation":
        return _evaluate(deed != "evaluate", choose)
    if deed == "rewrite":
        source = "--forget=[{path: builtin:passages, domain: passage, limit: 2}]"
        return main(["rewrite", "--backend=Rules", source, "--output=run/rows"])
    if deed == "edit":
        there = [name for name in EDITED if Path("run", name).is_file()]
        for name in choose.sample(there, min(1, len(there))):
            Path("run", name).write_text("edited", "utf-8")
            mine[f"run/{name}"] = b"edited"
    elif deed == "tidy":
        for name in [name for name, content in mine.items() if content == b"edited"]:
            Path(name).unlink()
            del mine[name]
    else:
        return _fit(deed, choose)
    return 0


def _checkpoints(root: Path) -> dict[str, int]:
    """Return the newest step by the settings of a run."""
    folders = root.glob(f"run/{UNFINISHED}*/step_*")
    found = sorted((saved.step, saved.settings) for f in folders if (saved := read_saved(f)))
    return {settings: step for step, settings in found}


def _sequence(root: Path, seed: int, length: int) -> None:
    choose = random.Random(seed)
    (root / "start").mkdir()
    save_folder(tiny_model(), tiny_tokenizer(), root / "start")
    settings = config(default_root_dir="run")
    settings["model"]["student"]["path"] = "start"
    written(root / "mini.yaml", settings)
    suite = {"class_path": "Boundary", "init_args": {"general": [], "max_new_tokens": 1}}
    written(root / "evaluate.yaml", {"limit": 2, "suites": {"near": suite}})
    foreign_files(root / "run", choose)
    mine = snapshot(root)
    for _ in range(length):
        deed, before = choose.choice(DEEDS), _checkpoints(root)
        status = _do(deed, mine, choose)
        edited = b"edited" in mine.values()
        assert status in (0, None) or (status == 2 and edited), (deed, status)
        after, left = snapshot(root), _checkpoints(root)
        assert {name: after.get(name) for name in mine} == mine, deed
        lost = [own for own, step in before.items() if left.get(own, -1) < step]
        assert len(lost) <= (status == 0 and deed in TRAINS), deed  # superseded by the ended run


@pytest.mark.parametrize(
    ("seed", "length"),
    [(0, 4), *(pytest.param(seed, 16, marks=pytest.mark.slow) for seed in range(1, 13))],
)
def test_any_sequence_of_deeds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, length: int
) -> None:
    monkeypatch.chdir(tmp_path)
    _sequence(tmp_path, seed, length)


# ------------------------------------------------------------------------------------- same bits


def test_the_same_bits_on_another_day_in_another_place_by_another_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The template of the start model asks for the date."""
    tokenizer = tiny_tokenizer()
    dated = "{{ strftime_now('%d %b %Y') }} "
    tokenizer.chat_template = f"{dated}{tokenizer.chat_template}"
    settings = config()
    settings["model"]["student"]["path"] = "start"
    for name in ("first", "second/deeper"):
        place = tmp_path / name
        (place / "start").mkdir(parents=True)
        save_folder(tiny_model(), tokenizer, place / "start")
        monkeypatch.chdir(place)
        assert fit(written(place / "mini.yaml", settings)) == 0
        now = time.time() + 400 * 24 * 3600
        for variable in ("USER", "LOGNAME", "HOME", "TZ"):
            monkeypatch.setenv(variable, "/another" if variable == "HOME" else "Another")
        monkeypatch.setattr(time, "time", lambda now=now: now)
        monkeypatch.setattr(chat_template_utils, "datetime", _Later)
        monkeypatch.setattr(socket, "gethostname", lambda: "another")
    first, second = (tmp_path / name / "runs" / "mini" for name in ("first", "second/deeper"))
    assert same(first, second)
    files = [folder / "preparation.json" for folder in (first, second)]
    assert files[0].read_bytes() == files[1].read_bytes()


class _Later(datetime):
    """The clock of transformers, years later."""

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return datetime(2031, 1, 2)
