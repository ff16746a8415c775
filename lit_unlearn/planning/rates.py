"""Rates of this machine, measured on one decoder block of the model's shape.

A model is slower than its matrix products: attention, norms, and the launch of many small
operations take time as well. Therefore one block with random weights, and its share of the output
head, is timed while it reads rows, trains on rows and generates replies.
"""

import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from itertools import accumulate
from math import inf
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, DynamicCache, PretrainedConfig

from lit_unlearn.data.collation import tokens
from lit_unlearn.models.blocks import decoder_blocks
from lit_unlearn.models.forward import answer_logits, output_head
from lit_unlearn.models.loading import ModelSource, with_adapters
from lit_unlearn.models.packing import rows_read
from lit_unlearn.planning.flops import backward_flops, forward_flops
from lit_unlearn.planning.forward_passes import ForwardPass, packed_pass
from lit_unlearn.planning.layout import Layout, layout_of
from lit_unlearn.types import Tokens
from lit_unlearn.utils.attention import with_attention
from lit_unlearn.utils.threads import processor

__all__ = ["Rates", "SampleWork", "rates_here", "writing_rate"]

_SECONDS = 0.4
"""Time of a measurement, unless doing the work twice takes longer."""
_MOST = {"cpu": 5e9, "cuda": 2e12}
"""Largest FLOPs of the rows that are read to measure a rate, by device; one row is always read."""
_MOVED, _WRITTEN = 2**24, 2**25
"""Numbers that are multiplied, and bytes that are written, to measure a rate."""
_PROMPT = 64
"""Tokens of the prompts whose replies are measured."""


@dataclass(frozen=True)
class Rates:
    """Measured rates of this machine."""

    reading: float
    """FLOP/s of passes over many tokens."""
    replying: float
    """FLOP/s of passes over one token of each reply."""
    training: float = 0.0
    """FLOP/s of passes forward and backward; 0 if nothing is trained."""
    moving: float = inf
    """Bytes/s that elementwise operations read and write."""
    writing: float = inf
    """Bytes/s of files."""
    machine: str = ""
    """Processor or GPU, threads and dtype, in words."""


@dataclass(frozen=True)
class SampleWork:
    """Sample of a run's work, on which rates are measured."""

    rows: Sequence[Sequence[int]]
    """Rows of the run."""
    trained: Sequence[Tokens] = ()
    """Batches of a training step."""
    replies: int = 16
    """Replies that are generated in one batch."""


def rates_here(
    config: PretrainedConfig,
    source: ModelSource,
    dtype: torch.dtype,
    device: torch.device,
    work: SampleWork,
    *,
    mixed: bool = False,
) -> Rates:
    """Measure the rates of this machine; takes about two seconds.

    Args:
        config: Shape of the model.
        source: Attention implementation and adapters of the model.
        dtype: Dtype of the weights.
        device: Device of the run.
        work: Sample of the run's work.
        mixed: Whether autocast multiplies matrices in bfloat16.
    """
    where = f"{processor()}, {torch.get_num_threads()} threads"
    if device.type == "cuda":
        where = torch.cuda.get_device_name(device)
    used = torch.bfloat16 if mixed else dtype
    with torch.random.fork_rng(), torch.autocast(device.type, torch.bfloat16, enabled=mixed):
        block = _TimedBlock(config, source, dtype, device)
        return Rates(
            block.reading(work.rows),
            block.replying(work.replies),
            block.training(work.trained) if work.trained else 0.0,
            _moving(device),
            machine=f"{where}, {str(used).removeprefix('torch.')}",
        )


class _TimedBlock:
    """One block of a model, and the share of the head that belongs to a block."""

    def __init__(
        self,
        config: PretrainedConfig,
        source: ModelSource,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        small = deepcopy(config)
        text: Any = small.get_text_config()
        self.vocabulary = max(64, int(text.vocab_size) // int(text.num_hidden_layers))
        text.vocab_size, text.num_hidden_layers, text.pad_token_id = self.vocabulary, 1, None
        if getattr(text, "layer_types", None):
            text.layer_types = text.layer_types[:1]
        with torch.device(device):
            model: Any = with_attention(
                lambda a: AutoModelForCausalLM.from_config(
                    small, dtype=dtype, attn_implementation=a
                ),
                source.attention,
            )
            model.requires_grad_(False)
            for block in decoder_blocks(model):
                block.requires_grad_(True)
            self.model: Any = model if source.lora is None else with_adapters(model, source)
        self.model.eval()
        self.device = device
        self.layout: Layout = layout_of(self.model, small, dtype.itemsize)
        self.parts: list[nn.Module] = [*decoder_blocks(model), output_head(model)]

    def reading(self, rows: Sequence[Sequence[int]]) -> float:
        """Measure FLOP/s of reading rows, as many as fit the measurement."""
        count = self._fitting(map(len, rows))
        chosen = [[i % self.vocabulary for i in row] for row in rows[:count]]
        ends = list(map(len, chosen))
        one = tokens(chosen, ends, [1] * len(chosen), pad_id=0)
        flops = forward_flops(self.layout, packed_pass(chosen, len(chosen)))
        read = one.to(self.device)
        with torch.no_grad():
            return flops / self._seconds(lambda: answer_logits(self.model, read))

    def _fitting(self, lengths: Iterable[int]) -> int:
        """Return the number of rows that fit the measurement, at least one."""
        most = _MOST.get(self.device.type, _MOST["cpu"]) / (2 * self.layout.parameters)
        return max(1, sum(tokens <= most for tokens in accumulate(lengths)))

    def training(self, batches: Sequence[Tokens]) -> float:
        """Measure FLOP/s of passes over batches forward and backward, as in a step."""
        flops, given = 0.0, []
        for batch in batches:
            count = self._fitting(batch.attention_mask.sum(1).tolist())
            kept = batch.rows < count
            ids, mask = batch.input_ids[:count] % self.vocabulary, batch.attention_mask[:count]
            small = Tokens(ids, mask, batch.rows[kept], batch.columns[kept])
            one = packed_pass(rows_read(small), len(small.rows))
            flops += forward_flops(self.layout, one) + backward_flops(self.layout, one)
            given.append(small.to(self.device))

        def step() -> None:
            for batch in given:
                loss = answer_logits(self.model, batch).sum()
                with self._clock():
                    loss.backward()
            self.model.zero_grad()

        return flops / self._seconds(step)

    def replying(self, replies: int) -> float:
        """Measure FLOP/s of replies that are generated in one batch, token by token."""
        cache = DynamicCache()
        ids = torch.ones(replies, _PROMPT, dtype=torch.long, device=self.device)
        seen = torch.ones_like(ids)
        seen[0, 0] = 0  # as for prompts of different lengths

        def step() -> None:
            nonlocal seen
            self.model(input_ids=ids[:, :1], attention_mask=seen, past_key_values=cache)
            seen = torch.cat([seen, seen[:, -1:]], 1)

        one = ForwardPass("teacher", replies, 1, replies, 0, replies, False)
        with torch.no_grad():
            self.model(input_ids=ids, attention_mask=seen, past_key_values=cache)
            seen = torch.cat([seen, seen[:, -1:]], 1)
            return forward_flops(self.layout, one) / self._seconds(step)

    def _seconds(self, run: Callable[[], object]) -> float:
        """Return the mean time of a call that is spent in the parts and inside `_clock`."""
        run()  # warm-up
        self._spent, calls, until = 0.0, 0, time.perf_counter() + _SECONDS
        with self._watched():
            while calls < 2 or time.perf_counter() < until:
                run()
                calls += 1
        return self._spent / calls

    @contextmanager
    def _watched(self) -> Iterator[None]:
        """Time the forward passes of the parts."""
        starts: list[float] = []

        def begin(*_: object) -> None:
            starts.append(self._now())

        def end(*_: object) -> None:
            self._spent += self._now() - starts.pop()

        handles = [part.register_forward_pre_hook(begin) for part in self.parts]
        handles += [part.register_forward_hook(end) for part in self.parts]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _clock(self) -> Iterator[None]:
        start = self._now()
        yield
        self._spent += self._now() - start

    def _now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        return time.perf_counter()


def _moving(device: torch.device) -> float:
    """Measure bytes/s that the elementwise product of two tensors reads and writes."""
    one = torch.ones(_MOVED, device=device)
    best, until, now = 0.0, time.perf_counter() + _SECONDS / 2, 0.0
    while now < until:
        start = time.perf_counter()
        product: Tensor = one * one
        product[0].item()  # waits for a GPU
        now = time.perf_counter()
        best = max(best, 12 * _MOVED / (now - start))
    return best


def writing_rate(folder: Path) -> float:
    """Measure bytes/s of writing a file into a folder, or into its nearest existing parent."""
    place = next(path for path in (folder, *folder.absolute().parents) if path.is_dir())
    content = os.urandom(_WRITTEN)
    start = time.perf_counter()
    with TemporaryFile(dir=place) as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return _WRITTEN / (time.perf_counter() - start)
