"""`lit-unlearn interference` end to end on the random tiny model."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import pytest

from lit_unlearn.__main__ import main
from tests.conftest import PROJECT

SMOKE = str(PROJECT / "configs/smoke.yaml")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("interference")
    options = ["--batches=2", "--batch_tokens=[8,24]", "--transfer_batches=1", "--ahead=0.3"]
    given = ["interference", "--config", SMOKE, f"--output={output}", *options]
    assert main([*given, "--model", "random-tiny", "--device=cpu"]) == 0
    return output


def lines(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((folder / "interference.json").read_text())["figures"]
    return found


def test_every_pair_has_figures_in_both_forms(folder: Path) -> None:
    found = lines(folder)
    for kind in ("raw", "unified"):
        mine = [x for x in found if x["representation"] == kind]
        whole = [x for x in mine if x["figure"] == "cosine" and x["where"] == "whole"]
        assert [x["tokens"] for x in whole] == [8] * 6 + [24] * 6
        assert all(x["low"] <= x["value"] <= x["high"] for x in whole if x["value"] is not None)
        groups = {x["where"] for x in mine if x["figure"] == "cosine"}
        assert groups == {"embedding", "block.00", "block.01", "head", "whole"}
        assert sum(x["figure"] == "MMD^2" for x in mine) == 6 * 2
        assert sum(x["figure"] == "loss change" for x in mine) == 16
    assert sum(x["figure"] == "cosine difference" for x in found) == 6
    unified = [x for x in found if x["representation"] == "unified" and x["figure"] == "cosine"]
    assert all(x["value"] is not None for x in unified)


def test_domains_of_the_same_rows_have_no_gap(folder: Path) -> None:
    """Forget and adversarial share their questions, retain and neighbor do not."""
    found = {
        (x["first"], x["second"]): x["value"]
        for x in lines(folder)
        if (x["representation"], x["figure"]) == ("unified", "token divergence")
    }
    assert found["forget", "adversarial"] < found["forget", "retain"]
    assert all(0 <= value <= 1 for value in found.values())


def test_files_and_page(folder: Path) -> None:
    rows = list(csv.reader((folder / "interference.csv").read_text("utf-8").splitlines()))
    assert len(rows) == 1 + len(lines(folder))
    assert not math.isnan(float(next(r for r in rows[1:] if r[6])[6]))
    assert {file.name for file in (folder / "pictures").glob("*.png")} == {
        "cosines.png",
        "cosines_per_layer.png",
        "cosines_by_batch_size.png",
        "transfer.png",
        "gap_per_layer.png",
        "domains.png",
    }
    page = (folder / "interference.html").read_text("utf-8")
    assert page.count("<svg") == 6
    assert "http://" not in page.replace("http://www.w3.org", "")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batches=1"], "`batches` should be at least 2"),
        (["--batchs=3"], "did you mean --batches"),
        (["--model"], "--model: expected"),
        (["--representations=[raw,raw]"], "different values"),
    ],
)
def test_bad_options(
    options: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ["interference", "--config", SMOKE, f"--output={tmp_path}", *options]
    assert main(given) == 2
    assert message in capsys.readouterr().err
