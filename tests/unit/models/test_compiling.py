"""Compiled decoder blocks: the same numbers, names and copies, nothing compiled without need."""

from __future__ import annotations

import copy
import os
import shutil
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.testing import assert_close
from transformers import PreTrainedModel

from lit_unlearn.data.collation import tokens
from lit_unlearn.models.compiling import compile_blocks
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.hidden import hidden_states, steered_logits
from lit_unlearn.models.loading import LoRA, ModelSource, load_student
from lit_unlearn.models.packing import packed
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.types import Tokens

ROWS = ([9, 6, 8], [12, 5, 8], [8, 9], [15, 4, 5, 6, 7])
"""The first have 17 tokens that are read; with 16, as a head is wide, they make one more graph."""
pytestmark = pytest.mark.filterwarnings(
    "ignore:The .grad attribute of a Tensor that is not a leaf",  # hidden if no warning is an error
    "ignore:Guards may run slower on Python 3.13.0",
)
"""Warnings of Dynamo."""
COMPILER = os.environ.get("CXX", "g++")


def rows(lengths: list[int]) -> Tokens:
    """Rows of these lengths, with two positions at the end of each."""
    ids = [[3 + (7 * row + i) % 200 for i in range(n)] for row, n in enumerate(lengths)]
    return tokens(ids, [n - 3 for n in lengths], [2] * len(lengths), pad_id=0)


def step(model: nn.Module, asked: Tokens) -> tuple[Tensor, list[Tensor]]:
    """Logits, and the gradients of their mean square."""
    model.zero_grad()
    logits = answer_logits(model, asked)
    logits.square().mean().backward()
    return logits.detach(), [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.fixture(autouse=True)
def _afresh() -> None:
    torch._dynamo.reset()
    counters.clear()


def test_as_without(tiny_model: PreTrainedModel) -> None:
    """All that is traced and guarded, without a compiler for machine code."""
    model = copy.deepcopy(tiny_model).train()
    compile_blocks(model, backend="eager")
    assert list(model.state_dict()) == list(tiny_model.state_dict())
    tiny_model.train()
    graphs = set()
    for lengths in ROWS:
        assert packed(model, rows(lengths)) is not None
        assert_close(step(model, rows(lengths)), step(tiny_model, rows(lengths)))
        graphs.add(counters["stats"]["unique_graphs"])
    assert len(graphs) == 1, "other rows should compile nothing"
    assert min(graphs) > 0

    asked, found = rows(ROWS[0]), []
    for shift in (1.0, 2.0):  # other hooks each time
        for read in (model, tiny_model):
            steered = steered_logits(read, asked, 0.5, lambda h, s=shift: h + s)  # type: ignore[misc]
            found.append((hidden_states(read, asked), steered))
    assert_close(found[0], found[1])
    assert_close(found[2], found[3])
    assert float((found[0][1] - found[2][1]).detach().abs().max()) > 0.01

    zeros = copy.deepcopy(model)
    with torch.no_grad():
        for parameter in zeros.parameters():
            parameter.zero_()
    assert not answer_logits(zeros, asked).any()
    known = counters["stats"]["unique_graphs"]
    with torch.no_grad():
        model.eval()
        answer_logits(model, rows([3, 4]))
    assert counters["stats"]["unique_graphs"] == known


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:`is_gradient_checkpointing` is deprecated",
    "ignore:`torch.jit.script_method` is deprecated",
)
@pytest.mark.skipif(not shutil.which(COMPILER), reason=f"no C++ compiler ({COMPILER})")
def test_machine_code() -> None:
    """The switch as users set it, with adapters, activation checkpointing and packed rows."""
    source = ModelSource(TINY_NAME, lora=LoRA(rank=4), activation_checkpointing=True)
    plain, model = load_student(source), load_student(replace(source, compile=True))
    for each in (plain, model):
        torch.manual_seed(0)
        for name, parameter in each.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.05)
    for lengths in ROWS[1:3]:
        found, wanted = step(model, rows(lengths)), step(plain, rows(lengths))
        pairs = zip([found[0], *found[1]], [wanted[0], *wanted[1]], strict=True)
        worst = max(float((a - b).norm() / b.norm()) for a, b in pairs)
        assert worst < 1e-5
    assert counters["stats"]["unique_graphs"] > 0
