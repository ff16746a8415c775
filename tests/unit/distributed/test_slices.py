"""Each process reads its slices of the weights, and has what it would have cut from all of them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Self

import pytest
import torch
import torch.distributed as dist
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from torch.testing import assert_close
from transformers import (
    AutoModelForCausalLM,
    LlamaForCausalLM,
    MixtralConfig,
    MixtralForCausalLM,
)

from lit_unlearn.distributed import slices
from lit_unlearn.distributed.ranks import base_model
from lit_unlearn.distributed.sharding import Sharding, whole
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.loading import LoRA, ModelSource, load_base, load_student
from lit_unlearn.models.noise import Noise
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer
from lit_unlearn.teachers import EMATeacher
from tests.processes import FORKED, in_processes
from tests.unit.distributed.test_training import Run, assert_same, data, module, outcome

pytestmark = pytest.mark.filterwarnings(  # peft and we ask by names of transformers 4
    "ignore:`(is_)?gradient_checkpointing(_enable)?` is deprecated"
)
WEIGHTS = "model.safetensors"


def saved(
    folder: Path, tied: bool = True, dtype: torch.dtype = torch.float32, **options: Any
) -> ModelSource:
    """A tiny Llama in a folder; its 259 rows of embeddings cannot be shared out evenly."""
    model: Any = tiny_model()
    if not tied:
        model.config.tie_word_embeddings = False
        model = LlamaForCausalLM(model.config)
    model.generation_config.max_new_tokens = 7
    model.to(dtype).save_pretrained(folder, **options)
    tiny_tokenizer().save_pretrained(folder)
    return ModelSource(str(folder))


class Counting:
    """`safe_open`, with a count of the bytes that are read."""

    read = 0

    def __init__(self, opened: Any) -> None:
        self.opened = opened

    def __enter__(self) -> Self:
        self.opened.__enter__()
        return self

    def __exit__(self, *details: object) -> None:
        self.opened.__exit__(*details)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.opened, name)

    def get_slice(self, key: str) -> Counting:
        return Counting(self.opened.get_slice(key))

    def __getitem__(self, rows: object) -> Tensor:
        found: Tensor = self.opened[rows]
        Counting.read += found.nbytes
        return found


def assert_equal(found: Any, expected: Any) -> None:
    """Bit by bit, in number format, and in whether it is trained."""
    for (name, one), (_, other) in zip(
        found.named_parameters(), expected.named_parameters(), strict=True
    ):
        assert isinstance(one, DTensor), name
        assert one.requires_grad == other.requires_grad, name
        assert_close(whole(one.detach()), other.detach(), rtol=0, atol=0)
    buffers = dict(expected.named_buffers())
    assert buffers
    assert_close(dict(found.named_buffers()), buffers, rtol=0, atol=0)
    assert found.training == expected.training
    one, other = base_model(found), base_model(expected)
    tied = other.lm_head.weight is other.model.embed_tokens.weight
    assert (one.lm_head.weight is one.model.embed_tokens.weight) == tied
    for settings in ("config", "generation_config"):
        assert getattr(one, settings).to_dict() == getattr(other, settings).to_dict()


def compared(source: ModelSource, replicas: int) -> tuple[int, int, int]:
    """Load in both ways; numbers read from files, those that are kept, and those of the model."""
    mesh = init_device_mesh(
        "cpu", (replicas, dist.get_world_size() // replicas), mesh_dim_names=("copy", "shard")
    )
    expected, state = load_student(source), torch.get_rng_state()
    opening, slices.safe_open = slices.safe_open, lambda *a, **k: Counting(opening(*a, **k))
    found = load_student(source, sliced=True)
    assert Counting.read == 0
    sharding = Sharding(mesh if replicas > 1 else mesh["shard"], offload=replicas > 1)
    sharding.apply(found, decoder_blocks(found))
    assert_close(torch.get_rng_state(), state)
    assert_equal(found, expected)
    stored: Any = [p for name, p in found.named_parameters() if "lora_" not in name]
    kept, everything = sum(p.to_local().numel() for p in stored), sum(p.numel() for p in stored)
    return Counting.read, kept, everything


BFLOAT16 = {"dtype": torch.bfloat16}
SEVERAL = {"tied": False, "max_shard_size": "20KB"}


@FORKED
@pytest.mark.parametrize(
    ("stored", "changed", "processes"),
    [
        (BFLOAT16, {"activation_checkpointing": True}, 2),
        (SEVERAL, {"dtype": "bfloat16"}, 2),
        (BFLOAT16, {"dtype": "bfloat16", "lora": LoRA(4), "activation_checkpointing": True}, 2),
        (SEVERAL, {"trainable": ["layers[.]1"]}, 4),
    ],
)
def test_slices_are_those_of_the_whole(
    stored: dict[str, Any], changed: dict[str, Any], processes: int, tmp_path: Path
) -> None:
    """With four processes: two replicas, kept in the CPU's memory."""
    saved(tmp_path / "model", **stored)
    assert (tmp_path / "model" / WEIGHTS).exists() == (stored is not SEVERAL)
    source = ModelSource(str(tmp_path / "model"), **changed)
    size = 4 if stored is SEVERAL else 2
    found = in_processes(processes, lambda: compared(source, processes // 2), tmp_path / "out")
    for read, kept, everything in found:
        assert read == size * kept
        assert kept / everything == pytest.approx(0.5, abs=0.01)
    assert found[0][1] + found[1][1] == found[0][2]


def average(folder: Path) -> Run:
    return module(teacher=EMATeacher(0.5), source=ModelSource(str(folder / "model"))), data()


@FORKED
def test_training_starts_from_slices(tmp_path: Path) -> None:
    """Student and teacher: whole models are out of reach."""
    saved(tmp_path / "model")
    expected = outcome(lambda folder: average(tmp_path), tmp_path / "one")

    def together() -> dict[str, Any]:
        AutoModelForCausalLM.from_pretrained = None
        return outcome(lambda folder: average(tmp_path), tmp_path / "two", "fsdp2", 2)

    for found in in_processes(2, together, tmp_path / "out", start=False):
        assert_same(found, expected)


# ------------------------------------------------------------------------------ what is not sliced


def harm(folder: Path, kind: str) -> None:
    file = folder / WEIGHTS
    weights = load_file(file)
    if kind == "lacking":
        del weights["model.layers.1.mlp.up_proj.weight"]
    elif kind == "misshapen":
        weights["model.norm.weight"] = weights["model.norm.weight"][:-1]
    elif kind == "named otherwise":
        weights = {name.removeprefix("model."): weight for name, weight in weights.items()}
    elif kind == "pickled":
        torch.save(weights, folder / "pytorch_model.bin")
    save_file(weights, file, {"format": "pt"})
    if kind == "cut off":
        file.write_bytes(file.read_bytes()[:-8])
    elif kind == "pickled":
        file.unlink()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("lacking", "its files lack model.layers.1.mlp.up_proj.weight"),
        ("misshapen", "model.norm.weight occurs twice, or has another shape"),
        ("cut off", "incomplete metadata|metadataincomplete"),
    ],
)
def test_harm_is_told_as_without_slices(
    kind: str, reason: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    source = saved(tmp_path)
    harm(tmp_path, kind)
    told = []
    for sliced in (False, True):
        with pytest.raises(InputError) as raised:
            load_base(source, sliced=sliced)
        told.append(str(raised.value))
    assert told[0] == told[1]
    assert f"Each process reads all weights of {tmp_path}: " in caplog.text
    assert re.search(reason, caplog.text.lower())


def test_a_file_that_cannot_be_read_any_more(tmp_path: Path) -> None:
    """Cut off after the model was built, before its slices are read."""
    model = load_base(saved(tmp_path), sliced=True)
    file = tmp_path / WEIGHTS
    file.write_bytes(file.read_bytes()[:-8])
    with pytest.raises(InputError, match=f"File {re.escape(str(file))} should be readable until"):
        slices.fill(model, "cpu")


@pytest.mark.parametrize("stored", [BFLOAT16, SEVERAL], ids=["tied", "several files"])
def test_chosen_weights_alone(
    stored: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No others are read, and they stay without values."""
    source = saved(tmp_path, **stored)
    expected = dict(load_base(source).named_parameters())
    names = {"model.embed_tokens.weight", "model.layers.1.mlp.down_proj.weight"}
    opening = slices.safe_open
    monkeypatch.setattr(slices, "safe_open", lambda *a, **k: Counting(opening(*a, **k)))
    monkeypatch.setattr(Counting, "read", 0)
    model = load_base(source, sliced=True)
    slices.fill(model, "cpu", names)
    found = dict(model.named_parameters())
    assert {name for name, weight in found.items() if not weight.is_meta} == names
    for name in names:
        assert_close(found[name], expected[name], rtol=0, atol=0)
    width = stored.get("dtype", torch.float32).itemsize
    assert Counting.read == width * sum(expected[name].numel() for name in names)


def test_what_is_read_in_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Pickles, and weights that are to be damaged; names without their prefix are no matter."""
    source = saved(tmp_path)
    expected = load_base(source).state_dict()
    harm(tmp_path, "named otherwise")
    assert next(load_base(source, sliced=True).parameters()).is_meta
    noise = Noise(mix=0.5)
    noisy = load_student(ModelSource(source.path, noise=noise), sliced=True)
    assert not next(noisy.parameters()).is_meta
    assert "noise" in caplog.text
    saved(tmp_path)
    harm(tmp_path, "pickled")
    assert_close(load_base(source, sliced=True).state_dict(), expected)
    assert "it has no safetensors files" in caplog.text


def test_weights_that_are_converted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Experts are stored one by one, and held together."""
    config = MixtralConfig(
        vocab_size=8, hidden_size=8, intermediate_size=8, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, num_local_experts=2,
    )  # fmt: skip
    MixtralForCausalLM(config).save_pretrained(tmp_path)
    assert slices.without_weights(str(tmp_path), {}, torch.float32, "sdpa") is None
    assert "has to be converted" in caplog.text
