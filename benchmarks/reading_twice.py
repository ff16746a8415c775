"""Measure the savings of reading common prefixes once and of caching the outputs of the trunk.

    OMP_NUM_THREADS=1 python benchmarks/reading_twice.py
        [--config configs/quickstart.yaml] [--steps 3] [--repeats 1] [--out FILE.json]

Forward and backward passes of a config's first steps are run in four ways in turn: each row by
itself without padding (`apart`), with shared prefixes (`tree`), above the stored trunk (`trunk`),
and with both (`both`). The teacher's logits are computed before; optimizer and diagnostics are left
out. Printed are CPU seconds of a step, tokens that the blocks read, and the largest difference of a
loss from that of `apart`.
"""

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from cost import report
from rich.console import Console
from script import run_script
from torch import Tensor

from lit_unlearn.cli.checking import checked
from lit_unlearn.data.encoding import Encoder
from lit_unlearn.models import packing
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import FrozenReader
from lit_unlearn.models.hidden import ModelReader
from lit_unlearn.models.loading import load_base
from lit_unlearn.models.prefix_tree import separate
from lit_unlearn.training.setup.prepare import prepare
from lit_unlearn.training.setup.start import store_trunk
from lit_unlearn.training.setup.teacher_gate import Gate
from lit_unlearn.training.trunk_cache import TrunkCache
from lit_unlearn.types import Tokens

WAYS = ("apart", "tree", "trunk", "both")


class Known:
    """Teacher that reads each row once."""

    def __init__(self, model: torch.nn.Module) -> None:
        self._read = FrozenReader(model).logits
        self._found: dict[bytes, Tensor] = {}

    def logits(self, tokens: Tokens) -> Tensor:
        """Return the logits of these tokens."""
        parts = (tokens.input_ids, tokens.attention_mask, tokens.rows, tokens.columns)
        key = b"".join(part.numpy().tobytes() for part in parts)
        if key not in self._found:
            self._found[key] = self._read(tokens)
        return self._found[key]


@contextmanager
def beginnings(*, shared: bool) -> Iterator[None]:
    """Share common prefixes of rows, or read each row separately."""
    before: Any = packing.prefix_tree
    packing.prefix_tree = before if shared else separate
    try:
        yield
    finally:
        packing.prefix_tree = before


def step(module: Any, batch: Any, teacher: Known, trunk: TrunkCache | None) -> list[float]:
    """Run forward and backward passes of a step, and return the losses."""
    reader, losses = ModelReader(module.student, trunk), []
    for name, objective in module.objectives.items():
        for one in batch[name]:
            loss = objective(one, reader, teacher).values.mean()
            loss.backward()
            losses.append(float(loss.detach()))
    module.student.zero_grad()
    return losses


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--config", default="configs/quickstart.yaml")
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("runs/reading_twice/result.json"))
    args = parser.parse_args()
    torch.set_num_threads(1)
    run: Any = checked(["--config", args.config])
    run.model.prepare_data()  # find the model in the user's cache before the cache is replaced
    with tempfile.TemporaryDirectory() as folder:
        os.environ["LIT_UNLEARN_CACHE"] = folder
        rows = measured(run.model, run.datamodule, args, Path(folder))
    report(f"Reading twice, {args.config}, {args.steps} steps", rows, {"ways": rows}, args.out)


def measured(
    module: Any, data: Any, args: argparse.Namespace, folder: Path
) -> list[dict[str, Any]]:
    """Return a line for each way."""
    data.prepare_data()
    module.configure_model()
    encoder = Encoder(module.tokenizer, data.max_length, data.on_problem)
    store, gate = folder / "preparation.json", Gate(action="off")
    data.set_rows(prepare(data.objectives, data.examples, None, encoder, gate, store).encoded, 0)
    plan = data.plan()
    batches = [data.batch(plan.step(number)) for number in range(args.steps)]
    teacher = Known(load_base(module.source))
    trunk = store_trunk(module, data, args.steps)
    losses: dict[str, list[float]] = {}
    seconds: dict[str, list[float]] = {way: [] for way in WAYS}
    read = dict.fromkeys(WAYS, 0)
    way = ""

    def count(_: Any, given: tuple[Tensor, ...]) -> None:
        read[way] += given[0].shape[0] * given[0].shape[1]

    blocks = decoder_blocks(module.student)
    for block in blocks:
        block.get_submodule("mlp").register_forward_pre_hook(count)
    for repeat in range(args.repeats + 1):  # the first time fills the teacher's answers
        for way in WAYS:
            stored = trunk if way in ("trunk", "both") else None
            read[way], losses[way], start = 0, [], time.process_time()
            with beginnings(shared=way in ("tree", "both")):
                for batch in batches:
                    losses[way] += step(module, batch, teacher, stored)
            if repeat:
                seconds[way].append((time.process_time() - start) / args.steps)
            Console(stderr=True).print(f"{way}: {time.process_time() - start:.1f} CPU s")
    return [
        {
            "way": way,
            "CPU s": statistics.median(seconds[way]),
            "ratio": statistics.median(seconds[way]) / statistics.median(seconds["apart"]),
            "tokens by block": read[way] / args.steps / len(blocks),
            "difference": max(
                abs(one - other) / max(abs(other), 1e-9)
                for one, other in zip(losses[way], losses["apart"], strict=True)
            ),
        }
        for way in WAYS
    ]


if __name__ == "__main__":
    run_script(main)
