"""Fixtures shared by all tests: a tiny model and tokenizer, and the folder of real data."""

from __future__ import annotations

import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer

PROJECT = Path(__file__).resolve().parents[1]
SHARED = PROJECT.parent / "shared"


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)


@pytest.fixture
def tiny_model() -> PreTrainedModel:
    """A fresh random Llama, fp32, the same weights each time."""
    return make_tiny_model()


@pytest.fixture(scope="session")
def tiny_tokenizer() -> PreTrainedTokenizerFast:
    """The byte tokenizer; tests must not change it."""
    return make_tiny_tokenizer()


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real benchmark data beside the project; the test skips where it is absent."""
    folder = SHARED / "data"
    if not folder.is_dir():
        pytest.skip(f"real benchmark data not found at {folder}")
    return folder


@pytest.fixture(scope="session")
def golden() -> Path:
    """The folder of published logs beside the project; the test skips where it is absent."""
    folder = SHARED / "golden"
    if not folder.is_dir():
        pytest.skip(f"published logs not found at {folder}")
    return folder
