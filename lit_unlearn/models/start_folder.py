"""Checks of a model folder by its small files, before weights are read."""

import json
from pathlib import Path
from typing import Any

__all__ = ["holds_model", "unusable"]

_WEIGHTS = ("*.safetensors", "*.bin")
_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_OTHER_MODALITIES = ("vision_config", "audio_config", "speech_config")
"""Config keys of a model that reads more than text."""
_QUANTISED = ("quantize_config.json", "quant_config.json")
"""Quantisation settings of early versions of AutoGPTQ and AutoAWQ."""
_POINTER = b"version https://git-lfs"


def holds_model(folder: Path) -> bool:
    """Return whether a folder looks like one of a model or of adapters."""
    return any((folder / name).is_file() for name in ("config.json", "adapter_config.json"))


def unusable(folder: Path) -> str:
    """Return why a folder cannot be used as a causal language model, and the repair; else ""."""
    if not any(folder.iterdir()):
        return "an empty folder"
    file = folder / "config.json"
    if not file.is_file():
        gguf = sorted(folder.glob("*.gguf"))
        return f"GGUF files; give the file itself, {gguf[0]}" if gguf else "no config.json in it"
    try:
        config = json.loads(file.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError("no mapping")
    except (ValueError, RecursionError) as error:
        return f"a config.json that cannot be read ({error}); copy or export the model again"
    if any((folder / name).is_file() for name in _QUANTISED):
        config.setdefault("quantization_config", {"quant_method": "GPTQ or AWQ"})
    return _other_kind(config) or _missing_weights(folder)


def _other_kind(config: dict[str, Any]) -> str:
    """Return what a config describes if that is not an unquantised causal language model."""
    import transformers
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES as CAUSAL

    quantised = config.get("quantization_config") or config.get("compression_config")
    if quantised:
        known = quantised if isinstance(quantised, dict) else {"quant_method": quantised}
        method = known.get("quant_method") or "an unnamed method"
        return (
            f"weights quantised with {method}, which can be neither trained nor compared; give the "
            "model from which they were made"
        )
    names = config.get("architectures")
    if not isinstance(names, list) or not names:
        names = [config.get("model_type", "a model")]
    name = str(names[0])
    if config.get("is_encoder_decoder"):
        return f"{name}, an encoder-decoder model; give a decoder-only one"
    if any(config.get(key) for key in _OTHER_MODALITIES):
        return f"{name}, which reads more than text; give the text-only model"
    if config.get("auto_map") and str(config.get("model_type")) not in transformers.CONFIG_MAPPING:
        return f"{name}, which needs custom code, which is never run; give another model"
    if not (name in CAUSAL.values() or name.endswith("Model")) and hasattr(transformers, name):
        return f"{name}, which is not a causal language model"
    return ""


def _missing_weights(folder: Path) -> str:
    """Return which files of the weights are missing or were not downloaded."""
    for index in (folder / name for name in _INDEXES):
        if index.is_file():
            try:
                wanted = sorted(set(json.loads(index.read_text("utf-8"))["weight_map"].values()))
                missing = [name for name in wanted if not (folder / name).is_file()]
            except (
                ValueError,
                LookupError,
                AttributeError,
                TypeError,
                OSError,
                RecursionError,
            ) as error:
                return f"an unreadable {index.name} ({error}); copy or export the model again"
            if missing:
                return (
                    f"{len(missing)} of {len(wanted)} weight files of {index.name} missing, such "
                    f"as {missing[0]}; copy the model again"
                )
    files = [file for pattern in _WEIGHTS for file in sorted(folder.glob(pattern))]
    if not files:
        return "no weights (*.safetensors) in it"
    for file in files:
        with file.open("rb") as opened:
            if opened.read(len(_POINTER)) == _POINTER:
                return f"a pointer of Git LFS instead of weights in {file.name}; run git lfs pull"
    return ""
