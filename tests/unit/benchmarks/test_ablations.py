"""benchmarks/ablations.py: what each run lacks, and which rows are read."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import pytest

from lit_unlearn.cli.config import read_configs
from tests.benchmark_scripts import benchmark, stand_in
from tests.unit.benchmarks.test_compare_methods import STAND_IN


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with stand_in(STAND_IN):
        yield benchmark("ablations")


def test_each_part_is_left_out_once_on_validation_rows(
    script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script.main(["--output=out", "--rate=5e-5"])
    calls = [json.loads(line) for line in Path("calls").read_text("utf-8").splitlines()]
    trained = [call for call in calls if call[0] == "fit"]
    laid = [[Path(b).stem for a, b in pairwise(call) if a == "--config"] for call in trained]
    assert [stems[-1] for stems in laid] == list(script.ABLATIONS)
    assert all("bidirectional_interpolated" in stems for stems in laid)
    read = {call[call.index("--config") + 1] for call in calls if call[0] == "evaluate"}
    assert {Path(file).name for file in read} == {"evaluate_tofu_validation.yaml"}
    table = Path("out/ablations.md").read_text("utf-8")
    assert all(f"| {name} | 5e-5 |" in table for name in script.ABLATIONS)


@pytest.mark.parametrize("name", ["without_path", "without_anchors", "without_prefills"])
def test_a_step_keeps_its_eight_rows(script: ModuleType, name: str, tmp_path: Path) -> None:
    """Read with the files of the method, whose further rows an ablation must replace."""
    compare = benchmark("compare_methods")
    change = tmp_path / "change.yaml"
    change.write_text(json.dumps(script.ABLATIONS[name]), "utf-8")
    files = [compare.CONFIGS / f"tofu/{file}.yaml" for file in ("base", "smollm2")]
    files += [Path(file) for file in compare.method_files("bidirectional_interpolated")]
    merged = read_configs([*files, change]).values
    kept = {key: data for key, data in merged["data"]["objectives"].items() if data is not None}
    losses = {key for key, loss in merged["model"]["objectives"].items() if loss is not None}
    assert set(kept) == losses
    assert sum(data["rows"] for data in kept.values()) == 8
    assert not name.endswith("prefills") or "prefills" not in str(kept).replace("_prefills", "")
