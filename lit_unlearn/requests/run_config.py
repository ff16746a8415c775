"""Config of a request's training run: a recipe with the rows, model and folder of the request."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.architectures import model_config
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.request import Request
from lit_unlearn.requests.rows import EARLIER

__all__ = ["run_config", "teacher_path", "upper_blocks"]

_EXPORT = "HuggingFaceExport"
_SHARE = 5
"""One of so many decoder blocks is trained, the last ones, if the recipe does not say which."""


def run_config(
    recipe: Mapping[str, Any], request: Request, folder: RequestFolder, teacher: str = ""
) -> dict[str, Any]:
    """Return the config for `fit`.

    Objectives that expect `decline` get the rows to forget. Those that expect `answer` get the
    neighbours if their name begins with "neigh", else the general rows; a recipe without such a
    name gives both to all of them. Rows of earlier requests, if any join, get a copy of the first
    objective that declines: `earlier`, with a share (`earlier_share`) of its rows and weight.

    Args:
        recipe: Values of the config files of the recipe, merged.
        request: The request.
        folder: Folder of the request.
        teacher: Model for the recipe's teacher, empty for its own. A path in the recipe counts
            more, unless the request has a teacher itself.

    Raises:
        InputError: The recipe has no objective that declines, is no config of `fit`, or has no
            teacher although the request names one.
    """
    model, data, trainer = (_part(recipe, name) for name in ("model", "data", "trainer"))
    student = {**_part(model, "student"), "path": request.model}
    if not student.get("trainable") and not student.get("lora"):
        student["trainable"] = upper_blocks(request.model)
    objectives = _objectives(_part(data, "objectives"), request, folder.rows)
    losses = dict(_part(model, "objectives"))
    if (folder.rows / f"{EARLIER}.jsonl").is_file():
        _add_earlier(objectives, losses, request.earlier_share, folder.rows)
    if teacher:
        model = {**model, "teacher": _teacher(model.get("teacher"), teacher, request)}
    callbacks = list(trainer.get("callbacks") or [])
    if _EXPORT not in map(_class_name, callbacks):
        callbacks.append({"class_path": _EXPORT})
    root = {"default_root_dir": str(folder.run), "callbacks": callbacks}
    return {
        **recipe,
        "seed_everything": request.seed,
        "trainer": {**trainer, **root},
        "model": {**model, "student": student, "objectives": losses},
        "data": {**data, "objectives": objectives},
    }


def upper_blocks(model: str) -> list[str]:
    """Return a pattern of the parameters of the last fifth of a model's decoder blocks and above.

    The head is left out, as it is often the embedding too.
    """
    count = model_config(ModelSource(model)).get_text_config().num_hidden_layers
    numbers = "|".join(map(str, range(count - -(-count // _SHARE), count)))
    last = r"^(?:model|transformer|gpt_neox)[.](?:norm|ln_f|final_layernorm|final_layer_norm)[.]"
    return [rf"(?:layers?|blocks?|h)[.](?:{numbers})[.]|{last}"]


def teacher_path(config: Mapping[str, Any]) -> str | None:
    """Return the path of a run's teacher, empty for the start model; None without a teacher."""
    teacher = config["model"].get("teacher")
    if teacher is None:
        return None
    settings = teacher.get("init_args") if isinstance(teacher, Mapping) else None
    return str((settings or {}).get("path") or "")


def _teacher(given: object, path: str, request: Request) -> object:
    """Return the recipe's teacher, read from another model."""
    if given is None:
        if request.teacher is None:
            return None
        raise InputError(
            f"Parameter `teacher` should be left out with a recipe that has no teacher. Found "
            f"{path!r} and {', '.join(request.recipes)}; remove one of them."
        )
    spec: Mapping[str, Any] = given if isinstance(given, Mapping) else {"class_path": given}
    settings = spec.get("init_args") or {}
    own = None if request.teacher else settings.get("path")
    return {**spec, "init_args": {**settings, "path": own or path}}


def _objectives(
    given: Mapping[str, Any], request: Request, rows: Path
) -> dict[str, Mapping[str, Any]]:
    used = {name: spec for name, spec in given.items() if isinstance(spec, Mapping)}
    expected = {name: spec.get("expect") for name, spec in used.items()}
    if "decline" not in expected.values():
        raise InputError(
            "Parameter `recipe` should be a config with an objective that expects `decline`, "
            f"which gets the rows to forget. Found {', '.join(used) or 'no objective'} in "
            f"{', '.join(request.recipes)}; take {request.__dataclass_fields__['recipe'].default}, "
            "or another config of a method."
        )
    apart = any(name.startswith("neigh") for name in used)

    def files(name: str) -> list[str]:
        if expected[name] == "decline":
            return ["forget"]
        if not apart:
            return ["neighbor", "general"]
        return ["neighbor" if name.startswith("neigh") else "general"]

    return {
        name: {
            **spec,
            "sources": [_source(rows, file) for file in files(name)],
            "evaluation": [],
            "validation": None,
        }
        for name, spec in used.items()
    }


def _source(rows: Path, name: str) -> dict[str, str]:
    return {"path": str(rows / f"{name}.jsonl"), "domain": "question_answer"}


def _add_earlier(
    data: dict[str, Mapping[str, Any]], losses: dict[str, Any], share: float, rows: Path
) -> None:
    """Add the objective `earlier`, a smaller copy of the first one that declines."""
    if EARLIER in losses:
        raise InputError(
            f"Parameter `recipe` should not have an objective {EARLIER!r}, as rows of earlier "
            "requests get one. Found it; rename it, or set `earlier: []` in the request."
        )
    name = next(name for name, spec in data.items() if spec.get("expect") == "decline")
    loss = losses.get(name)
    loss = loss if isinstance(loss, Mapping) else {"class_path": loss}
    settings = loss.get("init_args") or {}
    weight = share * settings.get("weight", 1.0)
    losses[EARLIER] = {**loss, "init_args": {**settings, "weight": weight}}
    count = max(1, round(share * data[name].get("rows", ObjectiveData.rows)))
    data[EARLIER] = {**data[name], "rows": count, "sources": [_source(rows, EARLIER)]}


def _part(values: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    part = values.get(name) or {}
    if not isinstance(part, Mapping):
        raise InputError(
            f"Parameter `recipe` should be a config for `fit`. Found {type(part).__name__} "
            f"{part!r:.40} as `{name}`; give the keys that belong there."
        )
    return part


def _class_name(callback: object) -> str:
    path = callback.get("class_path", "") if isinstance(callback, Mapping) else str(callback)
    return str(path).rpartition(".")[2]
