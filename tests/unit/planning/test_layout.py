"""Models counted on the meta device."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from transformers import GPT2Config, MixtralConfig

from lit_unlearn.errors import InputError
from lit_unlearn.models.loading import ModelSource
from lit_unlearn.planning.architectures import KNOWN, model_config
from lit_unlearn.planning.layout import student_layout, teacher_layout
from tests.unit.planning.given import ADAPTED, CONFIG, PARTLY, PLAIN


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("Llama-3.2-1B", 1_235_814_400),
        ("Llama-3.1-8B", 8_030_261_248),
        ("Llama-3.1-70B", 70_553_706_496),
    ],
)
def test_shipped_architectures_have_the_published_sizes(name: str, parameters: int) -> None:
    layout = teacher_layout(model_config(PLAIN, name), 2)
    assert layout.parameters == parameters
    assert layout.weight_bytes == 2 * parameters
    assert layout.tied == (name == "Llama-3.2-1B")
    assert set(KNOWN) == {"Llama-3.2-1B", "Llama-3.1-8B", "Llama-3.1-70B"}


def test_adapters_beside_every_linear_layer_of_a_block() -> None:
    """Rank 8: 8 (in + out) for q, o (64+64), k, v (64+32), gate, up, down (64+192): 9728."""
    layout = student_layout(ADAPTED, CONFIG, 4)
    each = 8 * (2 * 128 + 2 * 96 + 3 * 256)
    assert layout.trained == 3 * each == 3 * 9728
    assert layout.head.rank == 0
    assert not layout.embedding_trained
    assert {m.rank for m in layout.of_block(2)} == {8}


def test_only_chosen_parameters_are_trained() -> None:
    layout = student_layout(PARTLY, CONFIG, 4)
    assert (layout.lowest, layout.reach, layout.trained) == (1, 4, 2 * 64 * 192)
    assert [m.role for m in layout.matrices if m.trained] == ["mlp_out", "mlp_out"]
    assert layout.norms_trained == (False,) * 4
    with pytest.raises(InputError, match="trainable"):
        student_layout(replace(PLAIN, trainable=["nothing"]), CONFIG, 4)


def test_other_families() -> None:
    """GPT-2 has one fused matrix into attention, no gate, and its own kind of linear layer."""
    layout = teacher_layout(GPT2Config(n_layer=2), 4)
    roles = [(m.role, m.inputs, m.outputs) for m in layout.of_block(1)]
    assert roles == [
        ("attention_in", 768, 2304),
        ("attention_out", 768, 768),
        ("mlp_in", 768, 3072),
        ("mlp_out", 3072, 768),
    ]
    with pytest.raises(InputError, match="mixtures of experts"):
        teacher_layout(MixtralConfig(num_hidden_layers=1), 2)


def test_a_config_that_cannot_be_had(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"--architecture Llama-3\.2-1B"):
        model_config(ModelSource("open-unlearning/tofu_Llama-3.2-1B-Instruct_full"))
    with pytest.raises(InputError, match=r"did you mean Llama-3\.1-8B"):
        model_config(PLAIN, "Llama-3.1-8b")
    file = tmp_path / "config.json"
    file.write_text('{"hidden_size": 8}')
    with pytest.raises(InputError, match="model_type"):
        model_config(PLAIN, str(tmp_path))
