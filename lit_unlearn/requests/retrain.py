"""Exact removal: train a run again without the rows of a request, as if it had never had them."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from lit_unlearn.data.duplicates import normalise
from lit_unlearn.data.raw_rows import RawRow
from lit_unlearn.data.sources import Source, read_rows, resolve
from lit_unlearn.data.unify import domain_of, load_examples, to_example
from lit_unlearn.errors import InputError
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.sweeping.jobs import LOG, Job, run_jobs
from lit_unlearn.types import Domain, Example
from lit_unlearn.utils.locks import take_lock
from lit_unlearn.utils.ownership import check_targets, write_text
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.plain_json import json_text

__all__ = ["Retraining", "prepare_retraining", "retrain", "start_retraining"]

_CONFIG = "config.yaml"
_PARTS = ("sources", "evaluation", "validation")
"""Keys of an objective's data that list sources."""

_Key = tuple[str, str]
"""Question and answer in their normal form."""


@dataclass(frozen=True)
class Retraining:
    """A run without the rows of a request, ready to be started."""

    folder: Path
    config: Path
    """Config of the new run."""
    left_out: Mapping[str, int]
    """Config key of each source that has rows of the request -> number of these rows."""
    data: tuple[Path, ...]
    """Files with the remaining rows of these sources."""

    @property
    def run(self) -> Path:
        """Folder of the new run."""
        return self.folder / "run"


def retrain(
    run: str | Path,
    without: str | Path,
    *,
    output: str | Path | None = None,
    console: Console | None = None,
) -> Retraining:
    """Train a run of `fit` again without the rows of a request, in a process of its own.

    The new run has the same config, seed included, and reads the same sources in the same order.
    It is therefore equal, bit by bit, to a run on files that never had these rows.

    Args:
        run: Folder of the run, which has a config.yaml.
        without: Folder or YAML file of the request, or a file with rows (question and answer).
        output: Folder of the new run; None for ``<run>-without-<request>``.
        console: Console for the progress; None takes the standard error stream.

    Raises:
        InputError: See `prepare_retraining`; or the new run failed.
    """
    prepared = prepare_retraining(run, without, output)
    start_retraining(prepared, console)
    return prepared


def start_retraining(prepared: Retraining, console: Console | None = None) -> None:
    """Run `fit` in a process of its own, unless this run is finished; see `retrain`.

    Raises:
        InputError: The run failed, or another process does the same.
    """
    option = f"--trainer.default_root_dir={prepared.run}"
    arguments = ("fit", f"--config={prepared.config}", option)
    job = Job("retrain", prepared.run, arguments, _CONFIG, prepared.data, "summary.json")
    lock = take_lock(prepared.folder / ".lock", "retraining")  # a second one would clear the run
    try:
        failures = run_jobs([job], console=console)
    finally:
        lock.release()
    if failures:
        raise InputError(f"The new run failed: {failures[0].reason} ({prepared.run / LOG})")


def prepare_retraining(
    run: str | Path, without: str | Path, output: str | Path | None = None
) -> Retraining:
    """Write the config and the data of a run without the rows of a request; see `retrain`.

    A row is one of the request if question and answer are equal except for case, spaces and
    punctuation. Only sources with such rows are written anew; the others stay as they are.

    Raises:
        InputError: The run or the request cannot be read, no row of the run is one of the request,
            or no other row of an objective is left.
    """
    folder = local_path(run)
    file = folder / _CONFIG
    if not file.is_file():
        raise InputError(
            f"Parameter `run` = '{run}' should be the folder of a run of `lit-unlearn fit`. Found "
            f"no {_CONFIG} in it; only a model that was trained here can be trained again exactly."
        )
    request = local_path(without)
    target = local_path(output or folder.with_name(f"{folder.name}-without-{request.stem}"))
    values = _read_config(file)
    removed = {_key(example) for example in _rows_of(request)}
    return _write(values, removed, target, reads=[folder, request])


def _read_config(file: Path) -> dict[str, Any]:
    """Return the values of the config that a run wrote, after checking the parts that are used."""
    try:
        values: dict[str, Any] = yaml.safe_load(file.read_text("utf-8"))
        objectives = values["data"]["objectives"]
        parts = [values["trainer"], *objectives.values()]
        parts += [holder[index] for _, holder, index in _listed(objectives)]
        usable = all(isinstance(part, dict) for part in parts)
        usable = usable and all(isinstance(own["sources"], list) for own in objectives.values())
    except (yaml.YAMLError, UnicodeDecodeError, LookupError, TypeError, AttributeError):
        usable = False
    if not usable:
        raise InputError(
            f"File {file} should be the config that `lit-unlearn fit` wrote. Found other content; "
            "restore it."
        )
    return values


def _rows_of(request: Path) -> list[Example]:
    """Return the rows of a request: of its folder, of its YAML file, or of a file of rows."""
    place, found = RequestFolder(request), list[Example]()
    files = [place.rows / "forget.jsonl"]
    files += [place.battery / f"{name}.jsonl" for name in ("forget", "trained")]
    if request.suffix in (".yaml", ".yml") or place.request.is_file():
        found += _given(place.request if request.is_dir() else request)
    elif not request.is_dir():
        files = [request]
    files = [file for file in files if file.is_file() and file.stat().st_size]
    for file in files:  # one by one: the same row may be in several
        found += load_examples([Source(str(file), domain="question_answer")])
    if not found:
        raise InputError(
            f"Parameter `without` = '{request}' should be the folder or the YAML file of a "
            "request, or a file with its rows. Found no rows there; correct the path."
        )
    return found


def _given(file: Path) -> list[Example]:
    """Return the rows, questions and texts of a request's YAML file."""
    try:
        forget = yaml.safe_load(file.read_text("utf-8"))["forget"]
        sources = [Source(**each) for each in forget.get("rows") or ()]
        inline: list[tuple[Domain, dict[str, Any]]] = [
            *(("question_answer", each) for each in forget.get("questions") or ()),
            *(("passage", {"text": text}) for text in forget.get("texts") or ()),
        ]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, yaml.YAMLError) as error:
        raise InputError(
            f"File {file} should be a request for `lit-unlearn erase`. Found: "
            f"{' '.join(str(error).split()) or type(error).__name__}."
        ) from error
    found = [each for source in sources for each in load_examples([source])]
    for number, (domain, values) in enumerate(inline):
        found += to_example(RawRow(str(number), values, str(file)), domain, "unified", "")
    return found


def _write(
    values: dict[str, Any], removed: Collection[_Key], target: Path, reads: list[Path]
) -> Retraining:
    data = values["data"]
    root = data.get("data_root")
    left_out: dict[str, int] = {}
    texts: dict[Path, str] = {}
    for key, holder, index in list(_listed(data["objectives"])):
        source = Source(**holder[index])
        domain = domain_of(source, resolve(source, root and Path(root)))
        rows = read_rows(source, root and Path(root), data.get("on_bad_row", "error"))
        kept = [row for row in rows if not _is_removed(row, domain, removed)]
        if len(kept) == len(rows):
            continue
        left_out[key] = len(rows) - len(kept)
        path = target / "data" / f"{key}.jsonl"
        texts[path] = "".join(json_text(row.values) + "\n" for row in kept)
        columns = {"answer": ""} if any(row.answerless for row in kept) else {}
        holder[index] = {"path": str(path), "domain": domain, "columns": columns} if kept else None
    _check_left(data["objectives"], left_out, len(removed))
    values["trainer"].pop("default_root_dir", None)
    config = target / "retrain.yaml"
    texts[config] = yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    check_targets(target, texts, reads, "--output")
    for path, text in texts.items():
        write_text(path, text)
    return Retraining(target, config, left_out, tuple(path for path in texts if path != config))


def _listed(objectives: Mapping[str, Any]) -> Iterator[tuple[str, list[Any], int]]:
    """Yield a short key, the list and the index of each source in a run's config."""
    for name, own in objectives.items():
        for part in _PARTS:
            sources = own.get(part)
            for index in range(len(sources)) if isinstance(sources, list) else ():
                yield f"{name}.{part}.{index}", sources, index


def _is_removed(row: RawRow, domain: Domain, removed: Collection[_Key]) -> bool:
    try:
        return any(_key(example) in removed for example in to_example(row, domain, "unified", ""))
    except InputError:  # a bad row, which the run reports
        return False


def _key(example: Example) -> _Key:
    return normalise(example.question), normalise(example.answer)


def _check_left(objectives: Mapping[str, Any], left_out: Mapping[str, int], count: int) -> None:
    """Remove sources that have no row left; refuse a run without removed rows, or without any."""
    if not any(".sources." in key for key in left_out):
        raise InputError(
            f"Parameter `without` should name rows that the run was trained on. Found none of the "
            f"request's {count} rows in {', '.join(objectives)}; such a run would be the same."
        )
    for name, own in objectives.items():
        for part in _PARTS:
            if isinstance(own.get(part), list):
                own[part] = [source for source in own[part] if source is not None]
        if not own["sources"]:
            raise InputError(
                f"Objective {name!r} of the run should have rows besides those of the request. "
                "Found none; train a run without this objective."
            )
