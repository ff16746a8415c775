"""Fixtures shared by all tests: a tiny model and tokenizer, and folders of real data."""

from __future__ import annotations

import gc
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import pytest
import torch
from hypothesis import HealthCheck, settings
from transformers import PreTrainedModel, PreTrainedTokenizerFast

from lit_unlearn.models.tiny import tiny_model as make_tiny_model
from lit_unlearn.models.tiny import tiny_tokenizer as make_tiny_tokenizer
from tests.pictures import draw_nothing

# A busy machine is no fault of a test.
settings.register_profile("any", suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any")

PROJECT = Path(__file__).resolve().parents[1]
EXCERPTS = PROJECT / "tests" / "data" / "benchmarks"
FULL = PROJECT.parent / "shared" / "data"
DATA_ROOTS = {"excerpts": EXCERPTS} | ({"full": FULL} if FULL.is_dir() else {})
"""Data roots of real rows: the excerpts, and the full files where they stand beside the project."""


def pytest_collection_finish() -> None:
    """Leave the imported modules out of garbage collections."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _user_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep away from the user's cache, which other versions may have filled."""
    os.environ["LIT_UNLEARN_CACHE"] = str(tmp_path_factory.mktemp("user_cache"))


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test alone, in the folder `cache` of its own."""
    monkeypatch.setenv("LIT_UNLEARN_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def undrawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """No picture is drawn."""
    draw_nothing(monkeypatch)


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


@pytest.fixture(scope="session", params=list(DATA_ROOTS.values()), ids=list(DATA_ROOTS))
def benchmark_data(request: pytest.FixtureRequest) -> Path:
    """Each folder of real benchmark rows; tests/data/README.md has sources and licences."""
    return request.param


@pytest.fixture(scope="session")
def published_logs() -> Path:
    """The folder of published evaluation logs: all rows, the columns that the figures need."""
    return PROJECT / "tests" / "data" / "published"
