"""`lit-unlearn task-vector`: forget by arithmetic on weights, without training.

A model is trained further on what is to be forgotten (an ordinary run with CrossEntropy on the
forget rows); what that changed, the task vector, is then taken off:
``theta - scale (theta_reinforced - theta_base)``. Ilharco et al. 2022, arXiv 2212.04089, Section 3;
a baseline of MUSE (arXiv 2407.06460).
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NoReturn, get_args

import torch
from rich.console import Console
from torch import nn

from lit_unlearn import __version__
from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import DType, ModelSource, load_base, load_tokenizer
from lit_unlearn.utils.atomic import whole_folder


def main(args: list[str]) -> None:
    """Run the command.

    Args:
        args: ``task-vector``, then its options.

    Raises:
        InputError: See `write_unlearned`.
    """
    parser = _Parser(
        prog="lit-unlearn task-vector",
        description="Write theta - scale (theta_reinforced - theta_base) as a model folder.",
    )
    parser.add_argument("model", help="the model that is to forget: folder or hub id")
    parser.add_argument(
        "--reinforced", required=True, help="the model trained further on what is to be forgotten"
    )
    parser.add_argument("--base", help="what that training started from; default: model")
    parser.add_argument(
        "--scale", type=float, default=1.0, help="how much of the vector is taken off; 1.0"
    )
    parser.add_argument("--output", type=Path, required=True, help="a new or empty folder")
    parser.add_argument(
        "--dtype",
        choices=get_args(DType),
        default="float32",
        help="number format of the result; float32",
    )
    given = parser.parse_args(args[1:])
    write_unlearned(
        given.model,
        given.reinforced,
        given.output,
        base=given.base,
        scale=given.scale,
        dtype=given.dtype,
    )


def write_unlearned(
    path: str,
    reinforced: str,
    output: Path,
    *,
    base: str | None = None,
    scale: float = 1.0,
    dtype: DType = "float32",
) -> None:
    """Subtract a task vector and write the model with its tokenizer and a model card.

    The arithmetic is in float32. Two models are in memory, three with a base of its own.

    Args:
        path: The model that is to forget: folder or hub id.
        reinforced: The model trained further on what is to be forgotten.
        output: A folder that does not exist or is empty; it is written whole or not at all.
        base: What that training started from; None for the model itself.
        scale: How much of the vector is taken off.
        dtype: Number format of the result.

    Raises:
        InputError: A model cannot be read or has other parameters than the first, the vector is
            zero or not finite, the scale is not above 0, or the output is in use.
    """
    if not (scale > 0 and math.isfinite(scale)):
        raise InputError(f"task-vector: --scale should be a number above 0. Found {scale}.")
    _check_output(output)
    model, vector = _load(path, "MODEL"), _load(reinforced, "--reinforced")
    check_alike(model, vector, "--reinforced")
    origin = model
    if base is not None:
        origin = _load(base, "--base")
        check_alike(model, origin, "--base")
    subtract(vector, origin, 1.0)
    del origin
    size = scale * length(vector.parameters()) / length(model.parameters())
    if not (size > 0 and math.isfinite(size)):
        raise InputError(
            f"task-vector: --reinforced {reinforced} should differ from --base {base or path} by a "
            f"finite number. Found a vector of {size:g} times the length of the weights; name the "
            "model that was trained further on what is to be forgotten."
        )
    subtract(model, vector, scale)
    console = Console(highlight=False, markup=False, soft_wrap=True)
    with whole_folder(output) as folder:
        model.to(getattr(torch, dtype)).save_pretrained(folder)
        load_tokenizer(ModelSource(path)).save_pretrained(folder)
        card = model_card(path, reinforced, base or path, scale, size)
        folder.joinpath("README.md").write_text(card, encoding="utf-8")
    console.print(f"{output}: {path} less a vector of {size:.2%} of its length")


@torch.no_grad()
def subtract(model: nn.Module, other: nn.Module, scale: float) -> None:
    """``theta <- theta - scale theta_other``, parameter by parameter, in place; tied ones once."""
    for mine, theirs in zip(model.parameters(), other.parameters(), strict=True):
        mine.sub_(theirs, alpha=scale)


@torch.no_grad()
def length(parameters: Iterable[nn.Parameter]) -> float:
    """2-norm over all parameters, added up in float64."""
    return math.sqrt(sum(float(p.double().square().sum()) for p in parameters))


def check_alike(model: nn.Module, other: nn.Module, option: str) -> None:
    """See that two models have parameters of the same names and shapes.

    Args:
        model: The one to go by.
        other: The one that an option names.
        option: That option, for the message.

    Raises:
        InputError: They have not.
    """
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


def model_card(path: str, reinforced: str, base: str, scale: float, size: float) -> str:
    """The model card: what was computed from what.

    Args:
        path: The model that was to forget.
        reinforced: The model trained further on what was to be forgotten.
        base: What that training started from.
        scale: How much of the vector was taken off.
        size: Length of what was taken off, in units of the weights' length.
    """
    return f"""---
base_model: {path}
library_name: transformers
tags: [unlearning]
---

# {path}, less a task vector

Made with lit_unlearn {__version__}, without training: theta - {scale:g} (theta_reinforced -
theta_base), arXiv 2212.04089.

| | model |
| --- | --- |
| theta | {path} |
| theta_reinforced | {reinforced} |
| theta_base | {base} |

What was taken off is {size:.4g} times as long as the weights (2-norms over all parameters). No
figures were measured; `lit-unlearn evaluate` does that.
"""


def _load(path: str, option: str) -> Any:
    """A model in float32; errors name the option."""
    if path.endswith(".gguf"):
        raise InputError(
            f"task-vector: {option} should be a folder or a hub id. Found {path!r}, whose "
            "quantised weights cannot be calculated with; use the model from which it was made."
        )
    try:
        return load_base(ModelSource(path))
    except InputError as error:  # the finder speaks of the parameter of a training run
        raise InputError(
            str(error).replace("model.student.path", f"task-vector {option}")
        ) from error


def _check_output(output: Path) -> None:
    if output.is_file() or (output.is_dir() and any(output.iterdir())):
        raise InputError(
            f"task-vector: --output should be a new or empty folder. Found something in {output}."
        )


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """One line instead of usage and exit."""
        raise InputError(f"task-vector: {message}; see lit-unlearn task-vector --help")
