"""Start models of every kind: loaded right, or refused in one line that names the repair."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoTokenizer, Gemma2Config, Gemma2ForCausalLM, GPT2Config, GPT2LMHeadModel

from lit_unlearn.errors import InputError
from lit_unlearn.evaluation.subjects import load_subject
from lit_unlearn.models.export import save_folder
from lit_unlearn.models.finding import find_model, fingerprint
from lit_unlearn.models.loading import (
    LoRA,
    ModelSource,
    load_base,
    load_model,
    load_student,
    load_tokenizer,
)
from lit_unlearn.models.start_checks import longest_sequence
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.filterwarnings(
    "ignore:`(is_)?gradient_checkpointing(_enable)?` is deprecated"
)
IDS = torch.arange(3, 30)[None]


@pytest.fixture(autouse=True)
def _forget_answers() -> Iterator[None]:
    find_model.cache_clear()
    yield
    find_model.cache_clear()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The tiny model as a folder."""
    save_folder(tiny_model(), tiny_tokenizer(), tmp_path / "tiny")
    return tmp_path / "tiny"


def with_adapters(base: Path, target: Path, targets: str | list[str]) -> torch.Tensor:
    """Write random adapters on a model beside it, and return their logits."""
    config = LoraConfig(r=4, target_modules=targets, init_lora_weights=False, task_type="CAUSAL_LM")
    model: Any = get_peft_model(load_base(ModelSource(str(base))), config)
    model.save_pretrained(target)
    again: Any = PeftModel.from_pretrained(load_base(ModelSource(str(base))), str(target)).eval()
    return again(IDS).logits


@pytest.mark.filterwarnings(
    "ignore:Model has `tie_word_embeddings=True`", "ignore:Setting `save_embedding_layers`"
)
@pytest.mark.parametrize("targets", ["all-linear", ["q_proj", "lm_head"]], ids=str)
def test_adapters_are_merged(targets: Any, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Their base is found beside them, too; the merged model is trained, or gets new adapters."""
    adapters = folder.parent / "adapters"
    expected = with_adapters(folder, adapters, targets)
    settings = json.loads((adapters / "adapter_config.json").read_text())
    settings["base_model_name_or_path"] = "elsewhere/tiny"
    (adapters / "adapter_config.json").write_text(json.dumps(settings))
    source = ModelSource(str(adapters))
    with caplog.at_level(logging.WARNING):
        model: Any = load_base(source)
    assert "are merged into" in caplog.text
    largest = float(expected.abs().max())
    torch.testing.assert_close(model(IDS).logits, expected, rtol=0, atol=1e-5 * largest)
    assert all(parameter.requires_grad for parameter in model.parameters())
    on_top: Any = load_student(ModelSource(str(adapters), lora=LoRA(2))).eval()
    torch.testing.assert_close(on_top(IDS).logits, expected, rtol=0, atol=1e-5 * largest)
    assert len(load_tokenizer(source)) == len(tiny_tokenizer())  # the base's
    before = fingerprint(str(adapters))
    (folder / "generation_config.json").write_text("{}")
    assert fingerprint(str(adapters)) != before
    shutil.rmtree(folder)
    find_model.cache_clear()
    with pytest.raises(InputError, match="holds adapters of 'elsewhere/tiny', which should be"):
        find_model(str(adapters))


def test_layers_trained_whole_must_be_there() -> None:
    source = ModelSource("random-tiny", lora=LoRA(2, modules_to_save=["embed_token"]))
    with pytest.raises(InputError, match=r"lora\.modules_to_save` should .* Found 'embed_token'"):
        load_student(source)


def test_a_run_stands_for_its_model(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    shutil.move(folder, folder.parent / "run" / "model")
    (folder.parent / "run" / "config.yaml").touch()
    with caplog.at_level(logging.WARNING):
        subject = load_subject(str(folder.parent / "run"))
    assert "is the folder of a run; using its model" in caplog.text
    assert subject.model.config.model_type == "llama"


@pytest.mark.skipif(Gemma2ForCausalLM._supports_sdpa, reason="this transformers has it for Gemma 2")
def test_eager_attention_takes_the_place_of_sdpa(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "head_dim": 16}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1}
    config = Gemma2Config(vocab_size=len(tiny_tokenizer()), **shape, **heads)
    save_folder(Gemma2ForCausalLM(config), tiny_tokenizer(), tmp_path)
    with caplog.at_level(logging.WARNING):
        model = load_base(ModelSource(str(tmp_path)))
    assert model.config._attn_implementation == "eager"
    lines = [r.message for r in caplog.records if "has no sdpa attention" in r.message]
    assert len(lines) <= 1  # once for a class in a process
    assert load_subject(str(tmp_path)).model(IDS).logits.isfinite().all()


def test_every_token_has_an_embedding(folder: Path) -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|tool|>"]})
    tokenizer.save_pretrained(folder)
    for load in (load_model, load_subject):
        with pytest.raises(
            InputError, match=r"Found 259 for a tokenizer of 260, none for '<\|tool"
        ):
            load(str(folder))


def test_a_model_has_a_last_position(caplog: pytest.LogCaptureFixture) -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(vocab_size=9, n_positions=64, n_embd=8, n_layer=1, n_head=1))
    with caplog.at_level(logging.WARNING):
        assert longest_sequence(gpt2, 2048) == 64
    assert "`data.max_length` is 64 in this run instead of 2048" in caplog.text
    assert longest_sequence(gpt2, 32) == 32


def test_named_chat_templates(folder: Path, tmp_path: Path) -> None:
    tokenizer = tiny_tokenizer()
    templates = {"default": tokenizer.chat_template, "tool_use": "{{ messages }}"}
    tokenizer.chat_template = templates
    tokenizer.save_pretrained(folder)
    found = load_tokenizer(ModelSource(str(folder)))
    assert found.chat_template == templates["default"]
    save_folder(tiny_model(), found, tmp_path / "out")
    assert AutoTokenizer.from_pretrained(tmp_path / "out").chat_template == templates
    tokenizer.chat_template = {"rag": "{{ messages }}", "tool_use": "{{ messages }}"}
    shutil.rmtree(folder)
    save_folder(tiny_model(), tokenizer, folder)
    with pytest.raises(InputError, match=r"named `default`\. Found rag, tool_use"):
        load_tokenizer(ModelSource(str(folder)))


def test_weights_in_a_pickle_are_read(folder: Path) -> None:
    state = tiny_model().state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(state, folder / "pytorch_model.bin")
    model = load_base(ModelSource(str(folder)))
    assert torch.equal(model(IDS).logits, tiny_model()(IDS).logits)


def _config(**changes: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        content = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(content | changes))

    return change


def _index(folder: Path) -> None:
    weights = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    (folder / "model.safetensors").rename(folder / weights["a"])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _pointer(folder: Path) -> None:
    (folder / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1\n")


REFUSED: dict[str, tuple[Callable[[Path], Any], str]] = {
    "empty": (_empty, "Found an empty folder"),
    "no config": (lambda f: (f / "config.json").unlink(), "Found no config.json in it"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), "Found no weights"),
    "damaged config": (lambda f: (f / "config.json").write_text("{"), "that cannot be read"),
    "missing shard": (_index, "1 of 2 weight files .* missing, such as model-00002-of-00002"),
    "pointer": (_pointer, "a pointer of Git LFS instead of weights"),
    "bitsandbytes": (
        _config(quantization_config={"quant_method": "bitsandbytes", "load_in_4bit": True}),
        "weights quantised with bitsandbytes",
    ),
    "fp8": (_config(quantization_config={"quant_method": "fp8"}), "quantised with fp8"),
    "GPTQ": (_config(quantization_config={"quant_method": "gptq", "bits": 4}), "with gptq"),
    "AWQ": (_config(quantization_config={"quant_method": "awq", "bits": 4}), "with awq"),
    "AutoGPTQ": (lambda f: (f / "quantize_config.json").write_text("{}"), "with GPTQ or AWQ"),
    "a word": (_config(quantization_config="int4"), "quantised with int4"),
    "compressed": (_config(compression_config={"quant_method": "w4"}), "quantised with w4"),
    "itself": (
        lambda f: (f / "adapter_config.json").write_text(
            json.dumps({"base_model_name_or_path": str(f)})
        ),
        "Found the folder itself",
    ),
    "encoder-decoder": (
        _config(is_encoder_decoder=True, architectures=["BartForConditionalGeneration"]),
        "BartForConditionalGeneration, an encoder-decoder model",
    ),
    "vision": (
        _config(vision_config={"depth": 1}, architectures=["Qwen2VLForConditionalGeneration"]),
        "Qwen2VLForConditionalGeneration, which reads more than text",
    ),
    "classifier": (
        _config(architectures=["LlamaForSequenceClassification"]),
        "LlamaForSequenceClassification, which is not a causal language model",
    ),
    "masked": (_config(architectures=["BertForMaskedLM"]), "which is not a causal language model"),
    "own code": (
        _config(model_type="mine", auto_map={"AutoModel": "m.M"}, architectures=["M"]),
        "M, which needs custom code",
    ),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refused_before_weights_are_read(kind: str, folder: Path) -> None:
    change, found = REFUSED[kind]
    change(folder)
    with pytest.raises(InputError, match=found) as error:
        find_model(str(folder))
    assert "\n" not in str(error.value)
    assert "model.student.path" in str(error.value)
