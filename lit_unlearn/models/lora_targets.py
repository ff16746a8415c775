"""Check the modules that low-rank adapters are asked for."""

from __future__ import annotations

import re

from torch import nn

from lit_unlearn.errors import InputError, did_you_mean

__all__ = ["check_targets"]


def check_targets(
    model: nn.Module, wanted: list[str] | str | None, option: str = "target_modules"
) -> None:
    """Check that every name of modules that get an adapter is one of the model.

    Args:
        model: The model.
        wanted: Names, a regular expression, `all-linear`, or None for peft's choice.
        option: The setting of `model.student.lora` that lists them.

    Raises:
        InputError: A name of a list, or the regular expression, fits no module.
    """
    modules = [name for name, _ in model.named_modules()]
    if wanted is None or wanted == "all-linear":
        return
    if isinstance(wanted, str):
        unknown = [] if any(re.fullmatch(wanted, name) for name in modules) else [wanted]
    else:
        unknown = [w for w in wanted if not any(f".{m}".endswith(f".{w}") for m in modules)]
    if unknown:
        linear = {n for n, part in model.named_modules() if isinstance(part, nn.Linear)}
        known = sorted({name.rpartition(".")[2] for name in linear})
        hint = did_you_mean(unknown[0], known)
        raise InputError(
            f"Parameter `model.student.lora.{option}` should name modules of the model. Found "
            f"{unknown[0]!r}, which fits none{'; ' * bool(hint)}{hint or '.'} Its linear layers "
            f"are {', '.join(known)}."
        )
