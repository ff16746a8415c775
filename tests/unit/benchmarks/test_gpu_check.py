"""benchmarks/gpu_check.py on tiny models and the CPU: the only device that it has run on."""

from __future__ import annotations

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import EXCERPTS
from tests.processes import FORKED, in_processes

BENCHMARKS = Path(__file__).resolve().parents[3] / "benchmarks"


@pytest.fixture(autouse=True)
def _benchmarks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(BENCHMARKS))


def settings(folder: Path) -> Any:
    from gpu_parts import Settings  # type: ignore[import-not-found]

    return Settings("cpu", True, folder, EXCERPTS, 6)


def part(name: str) -> Any:
    from gpu_parts import PARTS  # type: ignore[import-not-found]

    return next(part for part in PARTS if part.name == name)


def measured(name: str, folder: Path) -> Any:
    from gpu_measures import measure  # type: ignore[import-not-found]

    return measure(part(name), settings(folder))


def test_a_run_is_planned_and_measured(tmp_path: Path) -> None:
    from gpu_table import table  # type: ignore[import-not-found]

    found = measured("tofu", tmp_path)
    assert found["trained"] == found["parameters"]
    assert found["planned_GB"] > 4 * 4 * found["trained"] / 1e9  # weights, gradient, AdamW
    assert found["mfu"] > 0
    # the plan counts what `Throughput` counts, and the teacher, scoring and attention beside it
    assert found["of_planned_flops"] > found["mfu"]
    assert all(math.isfinite(loss) for loss in found["losses"].values())
    card = {"part": "card", "title": "card", **measured("card", tmp_path)}
    failed = {"part": "lora", "title": "LoRA", "problem": "OutOfMemoryError: CUDA out of memory"}
    text = table([card, {"title": "TOFU", **found}, failed])
    assert found["precision"] in ("32-true", "bf16-mixed")  # of this machine
    assert f"| TOFU | Llama-3.2-1B, random weights, {found['precision']} | " in text
    assert "Tiny models: the figures mean nothing." in text
    assert "- LoRA: OutOfMemoryError: CUDA out of memory" in text
    assert "| math (eager) | " in text


@FORKED
@pytest.mark.slow
def test_fsdp2_trains_as_none_does(tmp_path: Path) -> None:
    (found,) = in_processes(1, lambda: measured("fsdp2", tmp_path), tmp_path / "all", start=False)
    assert found["equal"], found
    assert found["losses"] < 1e-5


def test_what_counts_as_equal() -> None:
    from gpu_measures import compared  # type: ignore[import-not-found]
    from torch import ones

    start, end, other = ({"w": ones(4) * value} for value in (0.0, 1.0, 1.01))
    assert compared([[1.0], [1.0]], [end, other], start) == {
        "losses": 0.0,
        "weights": pytest.approx(0.01),
        "equal": False,
    }


def test_no_part_ends_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import gpu_check  # type: ignore[import-not-found]

    dying = tmp_path / "python"
    dying.write_text("#!/bin/sh\necho first\necho last words\nkill -9 $$\n")
    dying.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(dying))
    monkeypatch.setattr("sys.argv", ["gpu_check.py"])
    own = settings(tmp_path)

    def run(part: Any, left: float) -> Any:
        return (
            {"kernels": [], "x": 1} if part.name == "card" else gpu_check.in_child(own, part, left)
        )

    parts = [part("tofu"), part("flash"), part("quickstart")]
    records = gpu_check.run_all(parts, own, time.monotonic() + 30, run)
    said = {record["part"]: record["problem"] for record in records}
    assert said["tofu"] == "ended with status -9: last words"
    assert said["flash"] == "left out: the package flash_attn is not installed"
    late = gpu_check.run_all(parts[:1], own, time.monotonic() - 1, run)
    assert late[0]["problem"] == "left out: needs about 60 s, 0 s left"
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == late
    assert "- tofu.yaml: left out" in (tmp_path / "table.md").read_text()
    dying.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nsleep 30\n")
    assert "not done after the 4 s" in gpu_check.in_child(own, part("tofu"), 4)["problem"]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text().strip()}").exists()


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    import gpu_check  # type: ignore[import-not-found]

    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--wheels"])
    gpu_check.main()
    listed = capsys.readouterr().out.split()
    assert "peft>=0.18" in listed
    assert any(line.startswith("transformers>=5") for line in listed)
    assert not any(line.startswith("torch>") for line in listed)
    monkeypatch.setattr(gpu_check, "wheels", lambda: [*listed, "no-such-wheel[all]>=2"])
    monkeypatch.setattr("sys.argv", ["gpu_check.py", "--device", "cpu"])
    with pytest.raises(SystemExit) as ended:
        gpu_check.main()
    assert ended.value.code == 2
    assert "missing packages: no-such-wheel[all]>=2; bring" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("card", "sheet"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA H100 PCIe", None),
        ("NVIDIA H200", "h200"),
        ("NVIDIA GH200 480GB", None),
        ("NVIDIA A100-SXM4-80GB", "a100-80gb"),
        ("NVIDIA A100-PCIE-40GB", "a100-40gb"),
        ("NVIDIA L40S", "l40s"),
        ("NVIDIA GeForce RTX 4090", "rtx4090"),
        ("Tesla T4", None),
    ],
)
def test_cards_are_known_by_their_names(card: str, sheet: str | None) -> None:
    from gpu_card import data_sheet  # type: ignore[import-not-found]

    assert data_sheet(card) == sheet


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("SmolLM2-135M", 134_515_008),
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.1-8B", 8_030_261_248),
    ],
)
def test_shapes_are_those_of_the_models(name: str, published: int) -> None:
    from gpu_models import parameters, shape_of  # type: ignore[import-not-found]

    assert parameters(shape_of(name, tiny=False)) == pytest.approx(published, rel=1e-3)
