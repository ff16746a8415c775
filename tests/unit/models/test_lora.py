"""Adapters are asked of modules that exist, and of a rank that adapters have."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import PreTrainedModel

from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import LoRA, ModelSource, with_adapters
from lit_unlearn.models.lora import check_targets
from lit_unlearn.models.tiny import TINY_NAME


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        (["query"], ["'query'", "down_proj", "q_proj"]),
        (["q_proj", "v_prj"], ["'v_prj'", "did you mean v_proj?"]),
        (["proj"], ["'proj'"]),
        (".*mlp.up_project", ["up_project"]),
    ],
)
def test_a_module_that_does_not_exist(
    tiny_model: PreTrainedModel, wanted: list[str] | str, words: list[str]
) -> None:
    with pytest.raises(InputError) as caught:
        check_targets(tiny_model, wanted)
    message = str(caught.value)
    assert "\n" not in message
    assert all(word in message for word in words), message


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # peft
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        (None, {"q_proj", "v_proj"}),  # what peft chooses for a Llama
        (
            "all-linear",
            {"q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"},
        ),
        (["q_proj", "mlp.up_proj"], {"q_proj", "up_proj"}),
        (r".*\.q_proj", {"q_proj"}),
    ],
)
def test_modules_that_exist(
    tiny_model: PreTrainedModel, wanted: list[str] | str | None, found: set[str]
) -> None:
    """They get adapters, and no other does."""
    check_targets(tiny_model, wanted)
    source = ModelSource(TINY_NAME, lora=LoRA(target_modules=wanted))
    adapted = with_adapters(tiny_model, source)
    names = {name.split(".lora_A")[0] for name, _ in adapted.named_parameters() if "lora_A" in name}
    assert {name.rpartition(".")[2] for name in names} == found


def test_what_peft_refuses_is_one_line(tiny_model: PreTrainedModel) -> None:
    source = ModelSource(TINY_NAME, lora=LoRA(target_modules=["input_layernorm"]))
    with pytest.raises(InputError, match=r"`model.student.lora.target_modules`"):
        with_adapters(tiny_model, source)


@pytest.mark.parametrize(
    ("name", "value"), [("rank", 0), ("alpha", 0.0), ("dropout", 1.5), ("dropout", -0.1)]
)
def test_numbers_of_adapters(name: str, value: float) -> None:
    with pytest.raises(InputError, match=rf"`model.student.lora.{name}` should be"):
        LoRA(**{name: value})


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({"lora": {"target_modules": "(q_proj"}}, "lora.target_modules"),
        ({"trainable": ["mlp", "(mlp"]}, "trainable"),
        ({"trainable": []}, "trainable"),
    ],
)
def test_patterns(settings: dict[str, Any], name: str) -> None:
    """They are compiled before the model is loaded."""
    with pytest.raises(InputError, match=rf"`model.student.{name}` should"):
        ModelSource(TINY_NAME, lora=LoRA(**settings.pop("lora", {})), **settings)
