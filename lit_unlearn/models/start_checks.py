"""Checks of a start model: vocabulary, chat template, and longest sequence."""

import logging
from typing import Any

from torch import nn

from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.errors import InputError
from lit_unlearn.models.merging import base_layer

__all__ = ["NAMED_TEMPLATES", "check_vocabulary", "choose_template", "longest_sequence"]

NAMED_TEMPLATES = "named_chat_templates"
"""Attribute of a tokenizer with all its chat templates by name, where it has several."""

log = logging.getLogger(__name__)


def check_vocabulary(model: nn.Module, tokenizer: Any, path: str) -> None:
    """Check that the model has an embedding for every token of its tokenizer."""
    base: Any = base_model(model)
    rows = int(base_layer(base.get_input_embeddings()).weight.shape[0])
    missing = [t for t, index in tokenizer.get_vocab().items() if index >= rows]
    if missing:
        raise InputError(
            f"Parameter `model.student.path` = {path!r} should have an embedding for every token. "
            f"Found {rows} for a tokenizer of {rows + len(missing)}, none for {min(missing)!r}; "
            "give the model its own tokenizer, or resize its embeddings (resize_token_embeddings)."
        )


def choose_template(tokenizer: Any, path: str) -> Any:
    """Let a tokenizer with several named chat templates use the one named `default`.

    All templates are kept under `NAMED_TEMPLATES`, for exports.

    Raises:
        InputError: There are several, and none is named `default`.
    """
    templates = tokenizer.chat_template
    if not isinstance(templates, dict):
        return tokenizer
    names = ", ".join(sorted(templates))
    if len(templates) > 1 and "default" not in templates:
        raise InputError(
            f"Parameter `model.student.path` = {path!r} should have one chat template, or one "
            f"named `default`. Found {names}; write the one to use into its chat_template.jinja."
        )
    setattr(tokenizer, NAMED_TEMPLATES, templates)
    tokenizer.chat_template = templates.get("default") or next(iter(templates.values()))
    if len(templates) > 1:
        log.info("%s has the chat templates %s; `default` is used.", path, names)
    return tokenizer


def longest_sequence(model: nn.Module, limit: int) -> int:
    """Return the smaller of `data.max_length` and the number of a model's positions."""
    config: Any = base_model(model).config
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    if not isinstance(positions, int) or positions >= limit:
        return limit
    log.warning(
        "`data.max_length` is %d in this run instead of %d: the model has no more positions.",
        *(positions, limit),
    )
    return positions
