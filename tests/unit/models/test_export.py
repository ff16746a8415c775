"""Written model folders: merged adapters, tied weights, and names that two versions read."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GPT2Config,
    LlamaConfig,
    MistralConfig,
    Phi3Config,
    Qwen2Config,
)

from lit_unlearn.models.export import add_version_4_names, save_folder, whole_student
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.merging import shared_weight
from lit_unlearn.models.tiny import TINY_NAME, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`(is_)?gradient_checkpointing(_enable)?` is deprecated",
)
TRANSFORMERS_4 = "LIT_UNLEARN_TRANSFORMERS4"
"""Environment variable with a Python interpreter that has transformers 4."""
IDS = torch.arange(3, 40)[None]


@pytest.mark.parametrize(
    ("targets", "tied"),
    [
        (["q_proj"], True),
        (["q_proj", "embed_tokens"], False),
        (["q_proj", "lm_head"], False),
        (["lm_head", "embed_tokens"], False),
        ("embed_tokens", False),  # trained whole
    ],
    ids=str,
)
def test_adapters_on_tied_weights(targets: list[str] | str, tied: bool, tmp_path: Path) -> None:
    whole = targets if isinstance(targets, str) else None
    lora = LoRA(
        4, target_modules=["q_proj"] if whole else targets, modules_to_save=whole and [whole]
    )
    source = ModelSource(TINY_NAME, lora=lora)
    student: Any = load_student(source).eval()
    with torch.no_grad():
        for parameter in student.parameters():
            if parameter.requires_grad:
                parameter.normal_(0, 0.3)
        before = {name: p.clone() for name, p in student.named_parameters()}
        expected = student(IDS).logits
    save_folder(whole_student(student, source), tiny_tokenizer(), tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    torch.testing.assert_close(
        read(IDS).logits, expected, rtol=0, atol=1e-5 * float(expected.abs().max())
    )
    assert shared_weight(read) == tied == read.config.tie_word_embeddings
    assert all(torch.equal(p, before[name]) for name, p in student.named_parameters())


SHAPE = {
    "vocab_size": len(tiny_tokenizer()),
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
_SPANS = {"original_max_position_embeddings": 64}
_LLAMA3 = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, **_SPANS}
_FACTORS = {"short_factor": [1.1, 1.2, 1.3, 1.4], "long_factor": [2.0, 3.0, 4.0, 5.0]}


def _rope(kind: str = "default", **more: Any) -> dict[str, Any]:
    return {"rope_parameters": {"rope_type": kind, "rope_theta": 5e4, **more}}


CONFIGS = {
    "llama": LlamaConfig(**SHAPE, **_rope()),
    "llama3": LlamaConfig(**SHAPE, **_rope("llama3", **_LLAMA3)),
    "linear": LlamaConfig(**SHAPE, **_rope("linear", factor=2.0)),
    "qwen2": Qwen2Config(**SHAPE, **_rope(), tie_word_embeddings=True),
    "mistral": MistralConfig(**SHAPE, **_rope(), sliding_window=32),
    "phi3": Phi3Config(
        **SHAPE, **_SPANS, **_rope("longrope", factor=4.0, **_FACTORS, **_SPANS), pad_token_id=0
    ),
    "gpt2": GPT2Config(
        vocab_size=SHAPE["vocab_size"],
        n_positions=256,
        n_embd=32,
        n_layer=2,
        n_head=2,
        bos_token_id=1,
        eos_token_id=2,
    ),
}


def _write(name: str, folder: Path) -> Any:
    torch.manual_seed(0)
    model: Any = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>"]})
    save_folder(model, tokenizer, folder)
    return model


@pytest.mark.parametrize("name", CONFIGS)
def test_both_forms_are_one_model(name: str, tmp_path: Path) -> None:
    model = _write(name, tmp_path)
    read = AutoModelForCausalLM.from_pretrained(tmp_path)
    assert torch.equal(read(IDS).logits, model(IDS).logits)
    content = json.loads((tmp_path / "config.json").read_text())
    assert content["torch_dtype"] == content["dtype"] == "float32"
    if name == "gpt2":
        return
    assert content["rope_theta"] == content["rope_parameters"]["rope_theta"] == 5e4
    expected = {
        "llama3": {"rope_type": "llama3", **_LLAMA3},
        "linear": {"rope_type": "linear", "factor": 2.0},
        "phi3": {"type": "longrope", **_FACTORS},
    }
    assert content["rope_scaling"] == expected.get(name)


def test_rope_by_kind_of_layer_and_in_parts(tmp_path: Path) -> None:
    """As in Gemma 3: full attention at one base, sliding at another, inside `text_config`."""
    full = {"rope_type": "linear", "factor": 8.0, "rope_theta": 1e6}
    local = {"rope_type": "default", "rope_theta": 1e4}
    text = {"rope_parameters": {"full_attention": full, "sliding_attention": local}}
    (tmp_path / "config.json").write_text(json.dumps({"text_config": text}))
    add_version_4_names(tmp_path, tiny_tokenizer())
    found = json.loads((tmp_path / "config.json").read_text())["text_config"]
    assert found == text | {
        "rope_theta": 1e6,
        "rope_local_base_freq": 1e4,
        "rope_scaling": {"rope_type": "linear", "factor": 8.0},
    }


def test_tokenizer_is_known_to_both(tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|im_start|>"]})
    tokenizer.chat_template = {"default": tokenizer.chat_template, "tool_use": "{{ messages }}"}
    tokenizer.save_pretrained(tmp_path)
    add_version_4_names(tmp_path, tokenizer)
    content = json.loads((tmp_path / "tokenizer_config.json").read_text())
    assert content["tokenizer_class"] == "PreTrainedTokenizerFast"
    assert content["additional_special_tokens"] == ["<|im_start|>"]
    assert content["clean_up_tokenization_spaces"] is False
    assert not {"extra_special_tokens", "is_local", "local_files_only"} & set(content)
    assert [each["name"] for each in content["chat_template"]] == ["default", "tool_use"]
    read = AutoTokenizer.from_pretrained(tmp_path)
    assert read.chat_template == tokenizer.chat_template
    assert read.extra_special_tokens == ["<|im_start|>"]
    text = "<|im_start|>user\nWho was it ?<|im_end|>"
    assert read(text)["input_ids"] == tokenizer(text)["input_ids"]
    assert read.decode(read(text)["input_ids"]) == text


_READER = """
import sys, torch, transformers
from pathlib import Path
assert transformers.__version__.startswith("4."), transformers.__version__
turns = [{"role": "user", "content": "Who ?"}]
for folder in sorted(Path(sys.argv[1]).iterdir()):
    model = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        logits = model(torch.arange(3, 250)[None]).logits
    text = tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True)
    read = logits, text, tokenizer(text)["input_ids"], tokenizer.decode([*range(3, 80)])
    torch.save(read, folder / "read.pt")
"""


@pytest.mark.slow
@pytest.mark.skipif(TRANSFORMERS_4 not in os.environ, reason=f"{TRANSFORMERS_4} names no Python")
def test_transformers_4_reads_the_same(tmp_path: Path) -> None:
    """An interpreter with transformers 4, that `LIT_UNLEARN_TRANSFORMERS4` names, reads folders."""
    models = {name: _write(name, tmp_path / name) for name in CONFIGS}
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    subprocess.run(
        [os.environ[TRANSFORMERS_4], "-c", _READER, str(tmp_path)], check=True, env=environment
    )
    ids = torch.arange(3, 250)[None]
    for name, model in models.items():
        logits, text, read_ids, decoded = torch.load(tmp_path / name / "read.pt")
        torch.testing.assert_close(logits, model(ids).logits, rtol=0, atol=1e-5)
        tokenizer = AutoTokenizer.from_pretrained(tmp_path / name)
        turns = [{"role": "user", "content": "Who ?"}]
        assert text == tokenizer.apply_chat_template(
            turns, tokenize=False, add_generation_prompt=True
        )
        assert read_ids == tokenizer(text)["input_ids"]
        assert decoded == tokenizer.decode([*range(3, 80)])
