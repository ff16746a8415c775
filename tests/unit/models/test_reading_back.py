"""A written folder against the trained model: equal, different, and without numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_unlearn.models.export import save_folder
from lit_unlearn.models.reading_back import compare_folder, reference_logits
from lit_unlearn.models.tiny import tiny_model, tiny_tokenizer

ROWS = [tuple(range(3, 150)), (5, 6, 7), (9,)]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_comparison(dtype: torch.dtype, tmp_path: Path) -> None:
    model: Any = tiny_model().to(dtype)
    save_folder(model, tiny_tokenizer(), tmp_path)
    expected = reference_logits(model, ROWS)
    assert [len(logits) for logits in expected] == [32, 3, 1]
    found = compare_folder(tmp_path, ROWS, expected, model, "sdpa")
    assert found.same
    assert (found.rows, found.positions) == (3, 36)
    assert found.dtype == str(dtype).removeprefix("torch.")
    with torch.no_grad():
        model.model.layers[1].mlp.down_proj.weight.mul_(1.5)
    changed = compare_folder(tmp_path, ROWS, reference_logits(model, ROWS), model, "sdpa")
    assert not changed.same
    assert changed.difference > changed.tolerance


def test_a_model_of_nan_is_itself_and_no_other(tmp_path: Path) -> None:
    model: Any = tiny_model()
    save_folder(model, tiny_tokenizer(), tmp_path)
    expected = reference_logits(model, ROWS)
    broken = [torch.full_like(logits, torch.nan) for logits in expected]
    found = compare_folder(tmp_path, ROWS, broken, model, "sdpa")
    assert (found.difference, found.same) == (float("inf"), False)
    model.model.norm.weight.data.fill_(torch.nan)
    save_folder(model, tiny_tokenizer(), tmp_path)
    again = compare_folder(tmp_path, ROWS, reference_logits(model, ROWS), model, "sdpa")
    assert (again.difference, again.same) == (0.0, True)
