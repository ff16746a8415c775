"""The models that `evaluate` gets: checked, named, loaded, or read from an earlier evaluation."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from pathlib import Path

from torch import nn
from transformers import PreTrainedTokenizerBase

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.probes import Reference, Start, Subject, Suite
from lit_unlearn.evaluation.published_logs import is_log
from lit_unlearn.evaluation.record_files import (
    evaluation_files,
    is_evaluation,
    model_of,
    read_evaluation,
)
from lit_unlearn.evaluation.records import EvaluationRecord
from lit_unlearn.evaluation.subjects import (
    Loading,
    device_named,
    load_subject,
    named_model,
    path_and_dtype,
    subject_of,
)
from lit_unlearn.models.dtypes import resolve_dtype
from lit_unlearn.models.finding import find_model, place_of
from lit_unlearn.utils.chat_template import recorded_template
from lit_unlearn.utils.ownership import check_targets
from lit_unlearn.utils.paths import local_path

__all__ = ["MODEL", "REFERENCE", "START", "Model"]
__all__ += [
    "check_folder",
    "check_model",
    "is_record",
    "loading_of",
    "name_of",
    "rows_of",
    "start_of",
]
__all__ += ["subject_from"]

MODEL, START, REFERENCE = "model", "start", "reference"
"""Headings of the records; the last two also name the folders of these models."""

Model = str | Path | tuple[nn.Module, PreTrainedTokenizerBase]
"""Hub id, local folder, .gguf file or `random-tiny`; or a loaded model and its tokenizer."""


def loading_of(model: Model, loading: Loading | None = None) -> Loading:
    """Return the settings of all models; by default the template recorded with the model."""
    loading = loading or Loading()
    if loading.template is not None:
        return loading
    if isinstance(model, tuple):
        return replace(loading, template=recorded_template(model[1].init_kwargs))
    config = Path(find_model(str(model)).name) / "tokenizer_config.json"
    try:
        known = json.loads(config.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):  # missing, or damaged: loading reports it
        return loading
    recorded = recorded_template(known) if isinstance(known, dict) else None
    return replace(loading, template=recorded)


def start_of(model: Model, loading: Loading) -> Start:
    """Return the start model for suites that read it; for an evaluation, the evaluated model."""
    if isinstance(model, tuple):
        load = cache(partial(subject_from, model, loading, START))
        return Start(name_of(model), lambda: load().fingerprint, load)
    path = read_evaluation(local_path(model)).model if is_evaluation(model) else str(model)

    def key() -> str:
        dtype = resolve_dtype(loading.dtype, device_named(loading.device))
        with named_model(START):
            return path_and_dtype(path, None, dtype)

    return Start(path, cache(key), cache(partial(subject_from, path, loading, START)))


def subject_from(model: Model, loading: Loading, heading: str = MODEL) -> Subject:
    """Load a model; one that is already loaded keeps its dtype and device."""
    if isinstance(model, tuple):
        return subject_of(*model, name_of(model), loading)
    with named_model(heading):
        return load_subject(str(model), loading)


def name_of(model: Model) -> str:
    """Return the name of a model in records: its path, or its class if it is already loaded."""
    return type(model[0]).__name__ if isinstance(model, tuple) else str(model)


def is_record(given: object, heading: str) -> bool:
    """Return whether an earlier evaluation stands for a model, or a log for the reference."""
    stored = heading != MODEL and is_evaluation(given)
    return stored or (heading == REFERENCE and is_log(given))


def check_model(model: Model | None, heading: str) -> None:
    """Check that a model, or a record that stands for it, exists."""
    if isinstance(model, str | Path) and not is_record(model, heading):
        try:
            with named_model(heading):
                find_model(str(model))
        except InputError as error:
            if heading == MODEL:
                raise
            also = f"`{heading}` may also be the folder of an earlier evaluation."
            raise InputError(f"{error} {also}") from error


def check_folder(folder: Path, model: str, models: Mapping[str, Model | None]) -> None:
    """Refuse to overwrite another model's evaluation, a user's file, or an input."""
    earlier = model_of(folder)
    if earlier is not None and os.path.realpath(earlier) != os.path.realpath(model):
        raise InputError(
            f"Parameter `output` = '{folder}' should be a folder for the evaluation of {model}. "
            f"Found an evaluation of {earlier}; give another folder, or remove this one."
        )
    paths = {
        name: local_path(each) for name, each in models.items() if isinstance(each, str | Path)
    }
    fresh = [name for name, path in paths.items() if not is_record(path, name)]
    folders = [folder if name == MODEL else folder / name for name in fresh]
    targets = [file for each in folders for file in evaluation_files(each)]
    read = [place_of(str(path)) if name in fresh else path for name, path in paths.items()]
    check_targets(folder, targets, [path for path in read if path.exists()], "--output")


def rows_of(
    given: Model, record: EvaluationRecord, suites: Mapping[str, Suite]
) -> Mapping[str, Reference]:
    """Return the rows of a reference; refuse an evaluation without rows of the suites."""
    rows = record.rows_by_group()
    if is_evaluation(given) and not any(rows.get(name) for name in suites):
        raise InputError(
            f"Parameter `reference` = '{given}' should hold rows of {', '.join(suites)}. Found "
            "none; evaluate the reference with the same suites, or give the model itself."
        )
    return rows
