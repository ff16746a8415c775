"""A checkpoint of another model, optimizer or weighting is refused in one line."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lit_unlearn.errors import InputError
from lit_unlearn.gradients.weighting import PCGrad
from lit_unlearn.models.loading import LoRA
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.module_state import check_optimizer, check_state, restore_rules
from tests.small_runs import module

pytestmark = pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated",  # peft with transformers 5
)


def loaded(model: UnlearnModule) -> UnlearnModule:
    model.configure_model()
    return model


def checkpoint(model: UnlearnModule) -> dict[str, Any]:
    content: dict[str, Any] = {"state_dict": dict(model.state_dict())}
    model.on_save_checkpoint(content)
    return content


def refused(model: UnlearnModule, content: dict[str, Any]) -> str:
    with pytest.raises(InputError) as caught:
        model.on_load_checkpoint(content)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_its_own_checkpoint_fits() -> None:
    for lora in (None, LoRA(rank=2)):
        model = loaded(module(lora=lora))
        model.on_load_checkpoint(checkpoint(model))
        assert model.saved_optimizer == "AdamW"


def test_another_model() -> None:
    model = loaded(module())
    content = checkpoint(model)
    state: dict[str, Tensor] = content["state_dict"]
    name = next(iter(state))
    check_state({}, model)  # one in slices has no weights here
    with pytest.raises(InputError, match=f"{len(state)} weights that differ"):
        check_state({"state_dict": {}}, model)
    wider = {**content, "state_dict": {**state, name: torch.zeros(3, 7)}}
    message = refused(model, wider)
    assert message.startswith("--ckpt_path: ")
    assert f"1 weights that differ, such as {name}: " in message
    assert "3x7 in the file" in message
    more = {**content, "state_dict": {**state, "other": torch.zeros(2)}}
    assert "other: none here, 2 in the file" in refused(model, more)


def test_adapters_and_a_whole_model_do_not_fit_each_other() -> None:
    """Lightning would load nothing of it, and say nothing."""
    whole, adapted = loaded(module()), loaded(module(lora=LoRA(rank=2)))
    assert "none in the file" in refused(adapted, checkpoint(whole))
    assert "none in the file" in refused(whole, checkpoint(adapted))
    wider = loaded(module(lora=LoRA(rank=4)))
    assert "lora_" in refused(adapted, checkpoint(wider))


def test_another_optimizer_or_weighting() -> None:
    check_optimizer(None, "SGD")
    check_optimizer("SGD", "SGD")
    with pytest.raises(InputError, match=r"optimizer AdamW. Found SGD in `model.optimizer`"):
        check_optimizer("AdamW", "SGD")
    with pytest.raises(InputError, match=r"no state of `model.weighting`"):
        restore_rules({}, {"weighting": PCGrad()})


def test_the_run_is_refused_before_the_first_step() -> None:
    model = loaded(module())
    model.saved_optimizer = "SGD"
    with pytest.raises(InputError, match="with the optimizer SGD"):
        model.configure_optimizers()
