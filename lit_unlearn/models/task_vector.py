"""Forget by arithmetic on weights, without training.

A model is trained further on the text to forget (a run with CrossEntropy on the forget rows). The
change of its weights, the task vector, is then subtracted:
``theta - scale (theta_reinforced - theta_base)``. Ilharco et al. 2022, arXiv 2212.04089, Section 3;
a baseline of MUSE (arXiv 2407.06460).
"""

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_unlearn import __version__
from lit_unlearn.errors import InputError
from lit_unlearn.models.dtypes import SavedDType
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer
from lit_unlearn.utils.ownership import check_targets, own_folder
from lit_unlearn.utils.paths import local_path

__all__ = ["Subtraction", "check_alike", "length", "model_card", "subtract", "task_vector"]


@dataclass(frozen=True)
class Subtraction:
    """A model from which a task vector was subtracted."""

    folder: Path
    model: str
    reinforced: str
    base: str
    scale: float
    size: float
    """2-norm of the subtracted vector, divided by that of the weights."""


def task_vector(
    model: str,
    reinforced: str,
    output: Path,
    base: str | None = None,
    scale: float = 1.0,
    dtype: SavedDType = "float32",
) -> Subtraction:
    """Write theta - scale (theta_reinforced - theta_base) as a model folder with a model card.

    The arithmetic is in float32. Two models are in memory, three if ``base`` is set.

    Args:
        model: The model that is to forget: folder or hub id.
        reinforced: The model trained further on the text to forget.
        output: A new or empty folder; it is written completely or not at all.
        base: The model from which that training started; null for ``model``.
        scale: Factor of the vector.
        dtype: dtype of the result.

    Raises:
        InputError: A model cannot be read or has other parameters than the first, the vector is
            zero or not finite, the scale is not above 0, or the output is in use.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"task-vector: --scale should be a number above 0. Found {scale}.")
    output = local_path(output)
    read = [local_path(path) for path in (model, reinforced, base) if path is not None]
    check_targets(output, [output / "new"], [path for path in read if path.exists()], "--output")
    if os.path.lexists(output) and (output.is_symlink() or any(output.iterdir())):
        raise InputError(
            f"task-vector: --output should be a new or empty folder. Found something in {output}."
        )
    theta, vector = _load(model, "MODEL"), _load(reinforced, "--reinforced")
    check_alike(theta, vector, "--reinforced")
    origin = theta
    if base is not None:
        origin = _load(base, "--base")
        check_alike(theta, origin, "--base")
    subtract(vector, origin, 1.0)
    del origin
    size = scale * length(vector.parameters()) / length(theta.parameters())
    if not (size > 0 and math.isfinite(size)):
        raise InputError(
            f"task-vector: --reinforced {reinforced} should differ from --base {base or model} by "
            f"a finite number. Found a vector of {size:g} times the length of the weights; name "
            "the model that was trained further on the text to forget."
        )
    subtract(theta, vector, scale)
    done = Subtraction(output, model, reinforced, base or model, scale, size)
    with own_folder(output) as folder:
        save_folder(theta.to(getattr(torch, dtype)), load_tokenizer(ModelSource(model)), folder)
        folder.joinpath("README.md").write_text(model_card(done), encoding="utf-8")
    return done


@torch.no_grad()
def subtract(model: nn.Module, other: nn.Module, scale: float) -> None:
    """Subtract ``scale`` times another model's parameters, in place; tied parameters once."""
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.sub_(theirs, alpha=scale)


@torch.no_grad()
def length(parameters: Iterable[nn.Parameter]) -> float:
    """Return the 2-norm over all parameters, computed in float64."""
    return math.sqrt(sum(float(p.double().square().sum()) for p in parameters))


def check_alike(model: nn.Module, other: nn.Module, option: str) -> None:
    """Check that an option's model has parameters of the same names and shapes."""
    mine = {name: tuple(p.shape) for name, p in model.named_parameters()}
    theirs = {name: tuple(p.shape) for name, p in other.named_parameters()}
    differing = [n for n in {**mine, **theirs} if mine.get(n) != theirs.get(n)]
    if differing:
        name = differing[0]
        raise InputError(
            f"task-vector: {option} should name a model with the parameters of MODEL. Found {name} "
            f"{theirs.get(name, 'missing')} instead of {mine.get(name, 'missing')}, and "
            f"{len(differing) - 1} more that differ; all models must stem from one start model."
        )


def model_card(done: Subtraction) -> str:
    """Return the model card, which says what was computed from what."""
    return f"""---
base_model: {done.model}
library_name: transformers
tags: [unlearning]
---

# {done.model}, less a task vector

Made with lit_unlearn {__version__}, without training: theta - {done.scale:g} (theta_reinforced -
theta_base), arXiv 2212.04089.

| | model |
| --- | --- |
| theta | {done.model} |
| theta_reinforced | {done.reinforced} |
| theta_base | {done.base} |

The subtracted vector is {done.size:.4g} times as long as the weights (2-norms over all parameters).
No figures were measured; `lit-unlearn evaluate` does that.
"""


def _load(path: str, option: str) -> Any:
    """Return a model in float32; errors name the option."""
    if path.endswith(".gguf"):
        raise InputError(
            f"task-vector: {option} should be a folder or a hub id. Found {path!r}, whose "
            "quantised weights cannot be subtracted; give the model from which it was made."
        )
    try:
        return load_base(ModelSource(path))
    except InputError as error:  # it names the parameter of a training run
        raise InputError(
            str(error).replace("model.student.path", f"task-vector {option}")
        ) from error
