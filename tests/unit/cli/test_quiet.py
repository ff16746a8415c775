"""The start of a run prints what its user needs, and nothing else."""

from __future__ import annotations

import logging
import re
from pathlib import Path

import pytest
from lightning import seed_everything

from lit_unlearn.__main__ import main
from lit_unlearn.cli.quiet import silence
from tests.unit.cli.test_predict import config

KINDS = (
    r"Precision: (32-true|bf16-mixed) \(this cpu .*\)\.",
    r"Files: .*/run; curves: tensorboard --logdir .*/run",
    r"Student: [\d,]+ parameters, [\d,]+ of them trained",
    r"encoding: \d+ rows, .*",
    r"Data:",
    r"  forget: 3 rows, \d+ prompt \+ \d+ answer tokens, 2 rows a step, 1\.33 epochs",
    r"  retain: 3 rows, \d+ prompt \+ \d+ answer tokens, 4 rows a step, 2\.67 epochs",
    r"Training: 2 steps, in epochs of 2 \(the rows of forget\)",
    r"training: 2 steps, \d+ s",
)
"""Kinds of lines in their order; a run of a minute or more also says what each phase takes."""


def test_the_start_of_a_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """One epoch of two steps: `max_epochs` and `data.epoch` work on the command line."""
    options = ["--trainer.precision=auto", "--trainer.callbacks=null", "--trainer.max_steps=-1"]
    options += ["--trainer.max_epochs=1", "--data.objectives.forget.rows=2"]
    options += ["--trainer.enable_checkpointing=false", "--data.epoch=forget"]
    assert main(["fit", config(tmp_path), *options]) == 0
    out, err = capfd.readouterr()
    lines = [line for line in (out + err).splitlines() if line.strip()]
    found = [next((kind for kind in KINDS if re.fullmatch(kind, line)), line) for line in lines]
    assert [*dict.fromkeys(found)] == [*KINDS]


def test_the_seed_is_not_announced(caplog: pytest.LogCaptureFixture) -> None:
    """Its logger is one of its own, whose lines the test above does not see."""
    silence()
    with caplog.at_level(logging.INFO):
        seed_everything(0)
    assert "Seed set" not in caplog.text
