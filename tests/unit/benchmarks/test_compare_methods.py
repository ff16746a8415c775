"""benchmarks/compare_methods.py: what is chosen by what, what is kept, what is done again.

A stand-in takes the place of `lit-unlearn`: its validation balance prefers the rate 5e-5 and the
method npo, its evaluation the opposite.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from lit_unlearn.cli.config import read_configs
from lit_unlearn.errors import InputError
from tests.benchmark_scripts import benchmark, stand_in

STAND_IN = """
import json, pathlib, sys
args = sys.argv[1:]
def option(name):
    return next(b if a == name else a.split("=", 1)[1] for a, b in zip(args, [*args[1:], ""])
                if a == name or a.startswith(name + "="))
with open("calls", "a") as file:
    file.write(json.dumps(args) + "\\n")
if args[0] == "fit":
    folder = pathlib.Path(option("--trainer.default_root_dir"))
    if folder.name.startswith("ceu"):
        sys.exit("lit-unlearn: error: it broke")
    (folder / "model").mkdir(exist_ok=True)
    (folder / "gradients.jsonl").write_text("{}")
else:
    folder, run = pathlib.Path(option("--output")), args[1]
    validates = "validation" in option("--config")
    good = ("lr=5e-05" in run) if validates else ("lr=5e-05" not in run)
    first = run.split("/")[-2].startswith("npo") if validates else "graddiff" in run
    value = 0.2 + 0.5 * good + 0.2 * first
    names = ["balance"] + ["part/" + p for p in ("forgetting", "utility", "boundary", "robustness")]
    balance = [{"name": name, "value": value} for name in names]
    (folder / "metrics.json").write_text(json.dumps({"balance": balance, "suites": []}))
"""


Found = tuple[list[dict[str, Any]], list[list[str]], str]
"""The methods found, the commands that were run, and the table."""


@pytest.fixture(scope="module")
def script() -> Iterator[ModuleType]:
    with stand_in(STAND_IN):
        yield benchmark("compare_methods")


def run(script: ModuleType, *more: str) -> Found:
    """In the working directory."""
    Path("calls").unlink(missing_ok=True)
    methods = ["--methods=graddiff,npo,ceu", "--leaders=1", "--start=target/model"]
    methods.append("--reference=retain/model")
    script.main(["--output=out", *methods, "--rates=2e-5,5e-5", *more])
    calls = Path("calls").read_text("utf-8").splitlines() if Path("calls").exists() else []
    content = json.loads(Path("out/methods.json").read_text("utf-8"))
    table = Path("out/methods.md").read_text("utf-8")
    return content["methods"], [json.loads(call) for call in calls], table


@pytest.fixture(scope="module")
def finished(
    script: ModuleType, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Path, Found]]:
    """A whole comparison, and its working directory."""
    folder = tmp_path_factory.mktemp("finished")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        yield folder, run(script)


@pytest.fixture
def continued(
    script: ModuleType,
    finished: tuple[Path, Found],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Found:
    """A copy of it as the working directory, and no pictures, which are not looked at again."""
    shutil.copytree(finished[0], tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    for name in ("scatter", "bars"):
        monkeypatch.setattr(script, name, lambda methods, path: None)
    return finished[1]


def test_rates_and_leaders_are_chosen_by_validation(finished: tuple[Path, Found]) -> None:
    folder, ((graddiff, npo, ceu), calls, table) = finished
    assert (graddiff["rate"], npo["rate"], ceu["rate"]) == ("5e-05", "5e-05", None)
    assert npo["validation"] == pytest.approx({"2e-05": 0.4, "5e-05": 0.9})
    assert list(npo["runs"]) == ["0", "1", "2"], "the leader gets further seeds"
    assert list(graddiff["runs"]) == ["0"]
    assert npo["runs"]["0"]["evaluation/balance"] == pytest.approx(0.2), "of the evaluation"
    assert len(ceu["failures"]) == 2
    assert "it broke" in ceu["failures"][0]
    evaluated = [call for call in calls if call[0] == "evaluate" and "validation" not in call[3]]
    assert len(evaluated) == 2 + 1 + 3, "target, retain model, graddiff, and npo with three seeds"
    given = [call[call.index("--reference") + 1] for call in evaluated if "--reference" in call]
    assert given == ["out/reference/evaluation"] * 4
    (retain,) = (call for call in evaluated if call[1] == "retain/model")
    assert retain[retain.index("--start") + 1] == "out/start/evaluation"
    assert table.index("| graddiff | 5e-05 | 1 | 0.40 |") < table.index(
        "| npo | 5e-05 | 3 | 0.20 [0.20, 0.20] |"
    )
    assert "- ceu,lr=2e-05,seed_everything=0: it broke" in table
    assert (folder / "out/methods_scatter.png").stat().st_size > 1000
    assert (folder / "out/methods_parts.png").stat().st_size > 1000


def test_the_callbacks_of_a_run_are_a_config(finished: tuple[Path, Found]) -> None:
    """The stand-in does not read it."""
    file = finished[0] / "out/callbacks.yaml"
    callbacks = read_configs([file]).values["trainer"]["callbacks"]
    assert [each["class_path"] for each in callbacks] == ["GradientMonitor", "HuggingFaceExport"]


def test_a_method_has_the_configs_that_its_header_names(script: ModuleType) -> None:
    for name in script.METHODS:
        lines = (script.CONFIGS / f"tofu/{name}.yaml").read_text("utf-8").replace("\\\n#", "")
        command = next(line for line in lines.splitlines() if f"{name}.yaml" in line)
        named = re.findall(r"configs/tofu/(\w+).yaml", command)
        given = {"base", "smollm2", *(Path(file).stem for file in script.method_files(name))}
        missing = [n for n in named if n not in given]
        assert not missing, name


def test_only_chosen_weights_are_kept(finished: tuple[Path, Found]) -> None:
    kept = sorted(model.parent.name for model in finished[0].glob("out/*/model"))
    assert kept == [
        "graddiff,lr=5e-05,seed_everything=0",
        *(f"npo,lr=5e-05,seed_everything={seed}" for seed in (0, 1, 2)),
    ]


def test_it_continues(script: ModuleType, continued: Found) -> None:
    again, calls, _ = run(script)
    assert again == continued[0]
    assert {call[0] for call in calls} == {"fit"}, "only what failed is tried again"
    assert all("ceu" in call[-1] for call in calls)


def test_further_seeds_count_where_they_are_there(script: ModuleType, continued: Found) -> None:
    """Of a method that leads no more."""
    (_, npo, _), calls, _ = run(script, "--leaders=0")
    assert npo["runs"] == continued[0][1]["runs"]
    assert all("ceu" in call[-1] for call in calls)


def test_results_of_another_machine_are_taken(script: ModuleType, continued: Found) -> None:
    """Where nothing else of it is there; what failed there is tried here."""
    Path("out/methods.json").rename("earlier.json")
    shutil.rmtree("out")
    again, calls, _ = run(script, "--earlier=earlier.json", "--further_seeds=1,2,3")
    assert again[0] == continued[0][0]
    assert list(again[1]["runs"]) == ["0", "1", "2", "3"]
    assert again[1]["validation"] == continued[0][1]["validation"]
    trained = [call for call in calls if call[0] == "fit" and "ceu" not in str(call)]
    assert len(trained) == 1
    with pytest.raises(InputError, match=r"--steps: expected 40, .* Found 3;"):
        run(script, "--earlier=earlier.json", "--steps=3")
    assert "seed_everything=3" in str(trained[0])


def test_deleted_weights_are_made_again_where_they_are_needed(
    script: ModuleType, continued: Found
) -> None:
    folder = Path("out/npo,lr=2e-05,seed_everything=0")
    (folder / "validation/metrics.json").unlink()
    _, calls, _ = run(script)
    done = [call for call in calls if "ceu" not in str(call)]
    assert [call[0] for call in done] == ["fit", "evaluate"]
    assert all(str(folder) in str(call) for call in done)


def test_all_methods_are_compared(script: ModuleType) -> None:
    assert {"ga", "npo", "altpo", "bidirectional", "rr"} <= set(script.METHODS)
    assert not {"base", "smollm2", "bidirectional_smollm2"} & set(script.METHODS)
    files = script.method_files("bidirectional")
    assert [Path(file).name for file in files] == [
        "bidirectional.yaml",
        "bidirectional_smollm2.yaml",
    ]


def test_a_method_is_laid_over_the_one_that_it_changes(script: ModuleType) -> None:
    files = script.method_files("bidirectional_npo")
    names = ("bidirectional", "bidirectional_npo")
    assert [Path(file).stem for file in files] == [
        stem for name in names for stem in (name, f"{name}_smollm2")
    ]
    files = script.method_files("bidirectional_maxent_whole")  # over such a one
    assert [Path(file).stem for file in files] == [
        "bidirectional",
        "bidirectional_smollm2",
        "bidirectional_maxent",
        "bidirectional_maxent_smollm2",
        "bidirectional_maxent_whole",
    ]
    assert [Path(file).name for file in script.method_files("npo")] == ["npo.yaml"]


def test_the_recipe_of_requests_is_compared_with_its_own_weights() -> None:
    files = ("erase.yaml", "tofu/bidirectional_weighted.yaml")
    recipe, form = (read_configs([Path(file)]).values["model"]["objectives"] for file in files)
    weights = {name: loss["init_args"]["weight"] for name, loss in form.items()}
    assert weights == {name: loss["init_args"]["weight"] for name, loss in recipe.items()}


def test_ties_go_to_the_lowest_rate(script: ModuleType) -> None:
    assert script.best_rate({"1e-4": 0.5, "2e-5": 0.5, "5e-5": 0.1}) == "2e-5"
    assert script.best_rate({}) is None


@pytest.mark.parametrize(
    ("tried", "validation", "following"),
    [
        ([], {}, ["2", "4"]),
        (["2", "4"], {"2": 0.1, "4": 0.3}, ["8"]),
        (["2", "4"], {"2": 0.3, "4": 0.1}, ["1"]),
        (["2", "4"], {"2": 0.0, "4": 0.0}, ["1"]),  # equal, and one try is left
        (["2", "4"], {"2": 0.2}, ["1"]),  # 4 failed
        (["2", "4"], {}, ["1"]),  # both failed
        (["2", "4", "8"], {"2": 0.1, "4": 0.3, "8": 0.2}, []),
    ],
)
def test_the_grid_is_climbed_from_its_middle(
    script: ModuleType, tried: list[str], validation: dict[str, float], following: list[str]
) -> None:
    assert script.next_rates(["1", "2", "4", "8"], tried, validation, 3) == following


def test_every_method_gets_the_same_number_of_tries(script: ModuleType) -> None:
    """At the top, the nearest rate is next, unless the grid is used up."""
    assert script.next_rates(["1", "2", "4", "8"], ["2", "4", "8"], {"4": 0.3}, 4) == ["1"]
    assert script.next_rates(["1", "2", "4"], ["1", "2", "4"], {"4": 0.3}, 9) == []
    assert script.next_rates(["1", "2", "4"], [], {}, 3) == ["1", "2"]
    assert script.next_rates(["1"], [], {}, 3) == ["1"]


def test_labels_cover_neither_each_other_nor_a_point(script: ModuleType) -> None:
    """Nine points 10 apart, each with a label 45 wide; and one with nothing around it."""
    report = sys.modules["methods_report"]
    points = [(200.0 + 10 * (i % 3), 200.0 + 10 * (i // 3)) for i in range(9)]
    names = [f"method_{i:02d}" for i in range(9)]
    offsets = report.label_offsets(names, points, 8.0)
    boxes = [
        (x + right, y + up - 4.8, x + right + 0.62 * 8 * len(name), y + up + 4.8)
        for name, (x, y), (right, up) in zip(names, points, offsets, strict=True)
    ]
    boxes += [(x - 3, y - 3, x + 3, y + 3) for x, y in points]
    for i, one in enumerate(boxes):
        assert not any(
            one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
            for j, other in enumerate(boxes)
            if j > i and not (i >= 9 and j >= 9)
        )
    assert report.label_offsets(["alone"], [(0.0, 0.0)], 8.0) == [(6, 0)]
