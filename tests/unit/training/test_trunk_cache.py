"""Training above a stored trunk: the same losses, gradients and weights, and what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from rich.console import Console
from torch.testing import assert_close

from lit_unlearn.data.collation import tokens
from lit_unlearn.errors import InputError
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.loading import ModelSource, load_student
from lit_unlearn.models.tiny import TINY_NAME
from lit_unlearn.models.trunk import trunk_outputs
from lit_unlearn.objectives import Objective
from lit_unlearn.teachers import FrozenTeacher
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.training.trunk_cache import TrunkCache, trunk_cache
from tests.small_runs import Recorder, losses, trainer
from tests.unit.training.test_module_cache import data_module, objectives

pytestmark = pytest.mark.usefixtures("own_cache")

UPPER = ["layers[.]1[.]", "model[.]norm"]


def run(
    folder: Path,
    cache_trunk: Literal["auto"] | bool,
    *,
    every: int = 0,
    checkpointing: bool = False,
    trainable: list[str] | None = UPPER,
    **named: Objective,
) -> tuple[UnlearnModule, Recorder, int]:
    """Three steps; how often the first block ran in them comes last."""
    source = ModelSource(
        TINY_NAME,
        trainable=trainable,
        cache_trunk=cache_trunk,
        activation_checkpointing=checkpointing,
    )
    module = UnlearnModule(
        source,
        {**objectives(), **named},
        FrozenTeacher(),
        gate=Gate(action="off"),
        optimizer=lambda p: torch.optim.SGD(p, lr=1e-2),
        diagnostics_every=every,
    )
    ran: list[int] = []

    class Counter(Recorder):
        def on_train_batch_start(self, *given: Any) -> None:
            if not ran:
                first: Any = decoder_blocks(module.student)[0].get_submodule("mlp")
                first.register_forward_hook(lambda *_: ran.append(1))
                ran.append(0)

    recorder = Counter()
    trainer(folder, recorder, max_steps=3).fit(module, datamodule=data_module())
    return module, recorder, sum(ran)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_losses_gramians_and_weights_are_those_of_whole_passes(
    tmp_path: Path, checkpointing: bool
) -> None:
    whole, expected, often = run(tmp_path, False, every=1, checkpointing=checkpointing)
    stored, found, never = run(tmp_path, "auto", every=1, checkpointing=checkpointing)
    assert isinstance(stored.trunk, TrunkCache)
    assert whole.trunk is None
    assert often > 0
    assert never == 0
    for one, two in zip(losses(found), losses(expected), strict=True):
        assert one == pytest.approx(two, rel=1e-5, abs=1e-6)
    for ours, theirs in zip(found.records, expected.records, strict=True):
        assert ours["gramian"] is not None
        assert theirs["gramian"] is not None
        limit = 1e-4 * float(theirs["gramian"].whole.abs().max())
        assert_close(ours["gramian"].whole, theirs["gramian"].whole, rtol=1e-4, atol=limit)
    for one, two in zip(stored.parameters_trained, whole.parameters_trained, strict=True):
        assert_close(one, two, rtol=1e-4, atol=1e-6)


def test_another_run_reads_nothing_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, True)
    assert "of which 0 new" not in capsys.readouterr().err
    run(tmp_path, True)
    assert "of which 0 new" in capsys.readouterr().err


def test_sequences_that_split_elsewhere_get_their_own_states() -> None:
    """Two sets of sequences share ids and a cache, and branch at other positions."""
    source = ModelSource(TINY_NAME, trainable=UPPER)
    model = load_student(source).eval()
    common, middle = list(range(5, 25)), list(range(30, 50))
    longest = [*common, *middle, 7, 8, 9]
    sets = (
        [longest, [*common, *middle, 60, 61]],
        [longest, [*common, *range(70, 90)]],
        [longest, [*common, *middle, 60, 61], [*common, *range(70, 90)]],
    )
    for rows in sets:
        asked = tokens(rows, [len(row) for row in rows], [1] * len(rows), pad_id=0)
        cache = trunk_cache(model, source, True, [asked], Console(quiet=True))
        assert cache is not None
        found = cache.states(rows)
        assert found is not None
        for states, whole in zip(found, trunk_outputs(model, 1, asked), strict=True):
            assert_close(states, whole, rtol=1e-5, atol=1e-6)


def test_a_sequence_that_is_not_stored_is_read_whole(tmp_path: Path) -> None:
    module, _, _ = run(tmp_path, True)
    assert module.trunk is not None
    assert module.trunk.states([[7, 7, 7]]) is None


def test_damage_is_named(tmp_path: Path) -> None:
    run(tmp_path, True)
    (shard,) = (tmp_path / "cache" / "trunk").rglob("*.safetensors")
    content = bytearray(shard.read_bytes())
    content[-5] ^= 1
    shard.write_bytes(content)
    with pytest.raises(InputError, match=r"Trunk cache .* damaged.*[Dd]elete"):
        run(tmp_path, True)


def test_states_of_another_model_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, _, _ = run(tmp_path, True)
    assert module.trunk is not None
    states = TrunkCache.states
    monkeypatch.setattr(TrunkCache, "states", lambda *a: [-s for s in states(*a) or []])
    with pytest.raises(InputError, match="Delete the folder"):
        run(tmp_path, True)


def test_where_the_trunk_moves(tmp_path: Path) -> None:
    module, _, often = run(tmp_path, "auto", trainable=None)
    assert module.trunk is None
    assert often > 0
    with pytest.raises(InputError, match=r"cache_trunk.*embed_tokens.weight is trained"):
        run(tmp_path, True, trainable=None)
