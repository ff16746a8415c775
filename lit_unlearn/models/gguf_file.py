"""A model as one GGUF file, which llama.cpp and programs around it serve."""

import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from numpy.typing import NDArray
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lit_unlearn.errors import InputError, ResultError
from lit_unlearn.models.finding import find_model
from lit_unlearn.models.loading import load_model
from lit_unlearn.models.reading_back import Comparison, compare_folder, reference_logits
from lit_unlearn.utils.children import END_WITH_PARENT
from lit_unlearn.utils.ownership import check_targets, own_file
from lit_unlearn.utils.paths import local_path

__all__ = ["CONVERTER", "Kind", "WrittenGguf", "write_gguf"]

Kind = Literal["f32", "f16", "bf16", "q8_0", "q4_0"]

CONVERTER = "convert_hf_to_gguf.py"
"""Program of llama.cpp that converts all architectures."""
_ARCHITECTURES = {
    "llama": gguf.MODEL_ARCH.LLAMA,
    "mistral": gguf.MODEL_ARCH.LLAMA,
    "qwen2": gguf.MODEL_ARCH.QWEN2,
    "qwen3": gguf.MODEL_ARCH.QWEN3,
}
_TYPES = {
    "f32": (gguf.GGMLQuantizationType.F32, gguf.LlamaFileType.ALL_F32),
    "f16": (gguf.GGMLQuantizationType.F16, gguf.LlamaFileType.MOSTLY_F16),
    "bf16": (gguf.GGMLQuantizationType.BF16, gguf.LlamaFileType.MOSTLY_BF16),
    "q8_0": (gguf.GGMLQuantizationType.Q8_0, gguf.LlamaFileType.MOSTLY_Q8_0),
    "q4_0": (gguf.GGMLQuantizationType.Q4_0, gguf.LlamaFileType.MOSTLY_Q4_0),
}
_DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}
_SPLITS = {
    r"\p{N}{1,3}": "llama-bpe",
    r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?": "qwen2",
}
"""Part of a regular expression that splits texts -> name of the splitting in llama.cpp."""
_TEXT = "The quick brown fox jumps over 13 lazy dogs, and was seen in Paris in 1987. What then?"


@dataclass(frozen=True)
class WrittenGguf:
    """A GGUF file, and how its logits differ from those of the model, if it was read back."""

    file: Path
    kind: Kind
    comparison: Comparison | None
    """None if llama.cpp's converter wrote the file and transformers cannot read it."""


def write_gguf(model: str, file: Path, kind: Kind = "f16") -> WrittenGguf:
    """Write a model as a GGUF file, read it back, and compare logits with those of the model.

    Llama, Mistral and Qwen (2, 2.5, 3) with byte-level BPE tokenizers are written by the package
    gguf; any other model by llama.cpp's `convert_hf_to_gguf.py`, if it is in PATH.

    Args:
        model: Hub id or local folder.
        file: The file to write; its name ends in .gguf.
        kind: Number format: f32, f16, bf16; or q8_0 and q4_0 in blocks of 32 weights, which round
            as llama.cpp does (q4_0 keeps token embeddings and output in q8_0).

    Raises:
        InputError: The model cannot be read or written in this format; the message says how else.
        ResultError: An unquantised file has other logits than the model; it is not kept.
    """
    target = local_path(file)
    if target.suffix != ".gguf":
        raise InputError(f"Parameter `file` should end in .gguf. Found {file}; add it.")
    found = Path(find_model(model).name)
    check_targets(target.parent, [target], [found] if found.exists() else [], "FILE")
    trained, tokenizer = load_model(model)
    problem = _problem(trained, tokenizer)
    with own_file(target) as temporary:
        named = temporary.with_name(f"{temporary.name}.gguf")  # transformers goes by the suffix
        try:
            if problem:
                _convert(found, named, kind, problem)
            else:
                _write(trained, tokenizer, named, kind)
            comparison = _compared(named, trained, tokenizer, kind, known=not problem)
            named.replace(temporary)
        finally:
            named.unlink(missing_ok=True)
    return WrittenGguf(target, kind, comparison)


def _compared(
    file: Path, model: PreTrainedModel, tokenizer: Any, kind: Kind, *, known: bool
) -> Comparison | None:
    """Compare a file with its model; refuse an unquantised one that differs."""
    rows = [tokenizer(_TEXT)["input_ids"]]
    dtypes = [_DTYPES[kind]] if kind in _DTYPES else []
    try:
        found = compare_folder(file, rows, reference_logits(model, rows), model, "sdpa", *dtypes)
    except InputError:
        if known:
            raise
        return None
    if dtypes and not found.same:
        raise ResultError(f"{file}: expected the logits of the model, found: {found}")
    return found


def _convert(folder: Path, file: Path, kind: Kind, problem: str) -> None:
    """Run llama.cpp's converter."""
    program = shutil.which(CONVERTER)
    how = f"python {CONVERTER} FOLDER --outfile FILE --outtype {kind}"
    if program is None or not folder.is_dir() or kind == "q4_0":
        raise InputError(
            f"The model should be one that this package writes as GGUF in {kind}. Found {problem}. "
            f"Clone https://github.com/ggml-org/llama.cpp, and run `{how}` (then `llama-quantize` "
            f"for q4_0), or add it to PATH."
        )
    command = [program, str(folder), "--outfile", str(file), "--outtype", kind]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, preexec_fn=END_WITH_PARENT
    )
    if done.returncode or not file.is_file():
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise InputError(f"{program} should convert {folder}. Found: {lines[-1]}")


# ---------------------------------------------------------------------------------------- writing


def _problem(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> str:
    """Return why the package gguf does not suffice for a model, or "" if it does."""
    config: Any = model.config
    if config.model_type not in _ARCHITECTURES:
        return f"the architecture {config.model_type}"
    rope = getattr(config, "rope_parameters", None) or {}
    if rope.get("rope_type", "default") != "default":
        return f"rotary positions of the type {rope['rope_type']}"
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        return "a tokenizer that is not a fast one"
    parts = _tokenizer_parts(tokenizer)
    if parts["model"]["type"] != "BPE" or _splitting(parts) is None:
        return "a tokenizer that is not byte-level BPE with a known splitting"
    return ""


def _tokenizer_parts(tokenizer: Any) -> dict[str, Any]:
    parts: dict[str, Any] = json.loads(tokenizer.backend_tokenizer.to_str())
    return parts


def _splitting(parts: dict[str, Any]) -> str | None:
    """Return llama.cpp's name of the splitting of texts before BPE; None if it is not known."""
    first = parts["pre_tokenizer"] or {}
    steps = first.get("pretokenizers", [first])
    kinds = [step.get("type") for step in steps]
    if kinds == ["ByteLevel"] and (steps[0]["use_regex"] or not parts["model"]["merges"]):
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and steps[0].get("individual_digits"):
        return "smollm"
    text = json.dumps(steps[0], ensure_ascii=False).replace("\\\\", "\\")
    return next((name for part, name in _SPLITS.items() if part in text), None)


def _write(model: PreTrainedModel, tokenizer: Any, file: Path, kind: Kind) -> None:
    config: Any = model.config
    architecture = _ARCHITECTURES[config.model_type]
    writer = gguf.GGUFWriter(file, gguf.MODEL_ARCH_NAMES[architecture])
    _add_settings(writer, config, str(model.name_or_path))
    writer.add_file_type(_TYPES[kind][1])
    embedding: Any = model.get_input_embeddings()
    _add_tokenizer(writer, tokenizer, len(embedding.weight))
    for name, tensor in _tensors(model, architecture):
        format_ = _format(name, tensor, kind)
        values = gguf.quantize(tensor, format_).view(_Values)
        writer.add_tensor(name, values, raw_dtype=format_)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


class _Values(np.ndarray[Any, Any]):
    """Array that `GGUFWriter` writes through Python: numpy's own `tofile` hides a full disk."""

    def tofile(self, fid: Any, sep: str = "", format: str = "%s") -> None:  # noqa: A002
        fid.write(self.data)


def _format(name: str, tensor: NDArray[np.float32], kind: Kind) -> gguf.GGMLQuantizationType:
    """Return the number format of a tensor, as llama.cpp chooses it."""
    wanted = _TYPES[kind][0]
    if tensor.ndim == 1:
        return gguf.GGMLQuantizationType.F32
    if kind == "q4_0" and name in ("token_embd.weight", "output.weight"):
        wanted = gguf.GGMLQuantizationType.Q8_0
    block, _ = gguf.GGML_QUANT_SIZES[wanted]
    return wanted if tensor.shape[-1] % block == 0 else gguf.GGMLQuantizationType.F16


def _tensors(
    model: PreTrainedModel, architecture: Any
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Yield name and values of each tensor; a tied output head is left out."""
    config: Any = model.config
    names = gguf.get_tensor_name_map(architecture, config.num_hidden_layers)
    heads = {"q_proj": config.num_attention_heads, "k_proj": config.num_key_value_heads}
    for key, value in model.state_dict().items():
        if key == "lm_head.weight" and config.tie_word_embeddings:
            continue
        name = names.get_name(key, try_suffixes=(".weight", ".bias"))
        if name is None:
            raise InputError(f"The model should have known weights. Found {key}; use {CONVERTER}.")
        own = value.detach().float().cpu()
        count = heads.get(key.split(".")[-2])
        if count is not None and architecture == gguf.MODEL_ARCH.LLAMA:
            # llama.cpp rotates neighbouring pairs; transformers the two halves of a head
            halves = own.reshape(count, 2, own.shape[0] // count // 2, *own.shape[1:])
            own = halves.swapaxes(1, 2).reshape(own.shape)
        yield name, np.ascontiguousarray(own.numpy())


def _add_settings(writer: gguf.GGUFWriter, config: Any, name: str) -> None:
    heads = config.num_attention_heads
    size = getattr(config, "head_dim", None) or config.hidden_size // heads
    rope = getattr(config, "rope_parameters", None) or {}
    writer.add_name(Path(name).name or "model")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(size)
    writer.add_value_length(size)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope.get("rope_theta", 10000.0))
    writer.add_rope_dimension_count(size)


def _add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Any, size: int) -> None:
    """Add tokens, merges, special tokens and the chat template; `size` is that of the embedding."""
    parts = _tokenizer_parts(tokenizer)
    tokens = {index: token for token, index in parts["model"]["vocab"].items()}
    kinds = dict.fromkeys(tokens, gguf.TokenType.NORMAL)
    for added in parts["added_tokens"]:
        tokens[added["id"]] = added["content"]
        special = added["special"]
        kinds[added["id"]] = gguf.TokenType.CONTROL if special else gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_splitting(parts) or "")
    writer.add_vocab_size(size)
    writer.add_token_list([tokens.get(index, f"[PAD{index}]") for index in range(size)])
    unused = gguf.TokenType.UNUSED
    writer.add_token_types([kinds.get(index, unused) for index in range(size)])
    merges = parts["model"]["merges"]
    writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in merges])
    adders: dict[str, Callable[[int], None]] = {
        "bos": writer.add_bos_token_id,
        "eos": writer.add_eos_token_id,
        "pad": writer.add_pad_token_id,
        "unk": writer.add_unk_token_id,
    }
    for name, add in adders.items():
        index = getattr(tokenizer, f"{name}_token_id")
        if index is not None:
            add(index)
    writer.add_add_bos_token(tokenizer("a")["input_ids"][0] == tokenizer.bos_token_id)
    if tokenizer.chat_template:
        writer.add_chat_template(tokenizer.chat_template)
