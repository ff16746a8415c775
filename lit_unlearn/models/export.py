"""Model folders of safetensors that transformers 4 and 5 read as the same model."""

import copy
import json
from pathlib import Path
from typing import Any

import torch
from torch import nn

from lit_unlearn.distributed.ranks import base_model, is_sharded, rank
from lit_unlearn.distributed.sharding import whole_state
from lit_unlearn.models.dtypes import SavedDType
from lit_unlearn.models.loading import ModelSource, empty_student
from lit_unlearn.models.merging import base_layer, merged, shared_weight
from lit_unlearn.models.start_checks import NAMED_TEMPLATES

__all__ = ["add_version_4_names", "save_folder", "whole_student"]

_TOKENIZER = "PreTrainedTokenizerFast"
"""Class that both transformers 4 and 5 use for a tokenizer.json."""


def whole_student(student: nn.Module, source: ModelSource, dtype: SavedDType | None = None) -> Any:
    """Return a trained student as a plain model of transformers that can be saved.

    A student that is sharded, has adapters or gets another dtype is copied to the CPU; any other is
    returned unchanged. All processes must call this; for a sharded student, only the first gets a
    model, the others None. ``source`` is the model that the student was loaded from.
    """
    base: Any = base_model(student)
    if is_sharded(student):
        state = whole_state(student)
        if rank() > 0:
            return None
    elif base is not student or dtype is not None:
        state = {k: v.detach().to("cpu", copy=True) for k, v in student.state_dict().items()}
    else:
        return student
    made = empty_student(copy.deepcopy(base.config), source)
    made.load_state_dict(state, assign=True)
    inner: Any = base_model(made)
    if shared_weight(base):
        base_layer(inner.get_output_embeddings()).weight = base_layer(
            inner.get_input_embeddings()
        ).weight
    inner.generation_config = base.generation_config
    whole = merged(made)
    return whole if dtype is None else whole.to(getattr(torch, dtype))


def save_folder(model: Any, tokenizer: Any, folder: Path) -> None:
    """Save weights, config and tokenizer of a plain model of transformers."""
    model.save_pretrained(folder)
    named = getattr(tokenizer, NAMED_TEMPLATES, None)
    if named:
        tokenizer = copy.copy(tokenizer)
        tokenizer.chat_template = {**named, "default": tokenizer.chat_template}
    tokenizer.save_pretrained(folder)
    add_version_4_names(folder, tokenizer)


def add_version_4_names(folder: Path, tokenizer: Any) -> None:
    """Add the setting names of transformers 4 to a folder that transformers 5 wrote.

    Version 4 ignores names that it does not know and uses its defaults: a `rope_theta` of 10000
    where the file has `rope_parameters`, and no chat template where that is a file.
    """
    _change(folder / "config.json", _config)
    _change(folder / "tokenizer_config.json", lambda content: _tokenizer(content, tokenizer))


def _change(file: Path, change: Any) -> None:
    if file.exists():
        content = change(json.loads(file.read_text("utf-8")))
        text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False)
        file.write_text(text + "\n", "utf-8")


def _config(content: dict[str, Any]) -> dict[str, Any]:
    """Add the names of version 4 to a config and to the configs of its parts."""
    made = {k: _config(v) if k.endswith("_config") and v else v for k, v in content.items()}
    if "dtype" in made:
        made["torch_dtype"] = made["dtype"]
    rope = made.get("rope_parameters")
    return made | _rope(rope, made.get("model_type")) if rope else made


def _rope(rope: dict[str, Any], model_type: object) -> dict[str, Any]:
    """Return the settings of rotary positions under their names in version 4."""
    if "full_attention" in rope:  # one set for each kind of layer
        local = rope.get("sliding_attention") or {}
        theta = {"rope_local_base_freq": local["rope_theta"]} if "rope_theta" in local else {}
        return _rope(rope["full_attention"], model_type) | theta
    scaling = {k: v for k, v in rope.items() if k not in ("rope_theta", "partial_rotary_factor")}
    kind = scaling.get("rope_type", "default")
    if model_type == "phi3":  # version 4 refuses further entries
        scaling = {
            "type": kind,
            **{k: v for k, v in scaling.items() if k in ("short_factor", "long_factor")},
        }
    found: dict[str, Any] = {
        k: rope[k] for k in ("rope_theta", "partial_rotary_factor") if k in rope
    }
    if model_type == "gpt_neox":
        found |= {"rotary_emb_base": rope.get("rope_theta", 10000.0)}
        found |= {"rotary_pct": rope.get("partial_rotary_factor", 0.25)}
    return {**found, "rope_scaling": None if kind == "default" else scaling}


def _tokenizer(content: dict[str, Any], tokenizer: Any) -> dict[str, Any]:
    """Return a tokenizer's settings under names that both versions know."""
    made = {k: v for k, v in content.items() if k not in ("is_local", "local_files_only")}
    if made.get("tokenizer_class") == "TokenizersBackend":
        made["tokenizer_class"] = _TOKENIZER
    if isinstance(made.get("extra_special_tokens"), list):  # a dictionary in version 4
        made["additional_special_tokens"] = made.pop("extra_special_tokens")
    for name in ("clean_up_tokenization_spaces", "add_bos_token", "add_eos_token"):
        if isinstance(getattr(tokenizer, name, None), bool):
            made[name] = getattr(tokenizer, name)
    template = tokenizer.chat_template
    if isinstance(template, dict):
        template = [{"name": name, "template": text} for name, text in template.items()]
    return {**made, "chat_template": template} if template else made
