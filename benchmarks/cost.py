"""Functions shared by the benchmarks of cost: baseline steps, rows of TOFU, clocks, tables."""

import copy
import json
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import transformers
from rich.console import Console
from rich.table import Table
from torch import Tensor, nn
from torch.nn import functional

from lit_unlearn.data.contexts import Demonstrations
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.data.objective_data import ObjectiveData
from lit_unlearn.data.places import Source
from lit_unlearn.data.prefills import Prefills
from lit_unlearn.models.prefix_tree import separate
from lit_unlearn.models.tree_attention import LAYOUT, install, layout_of
from lit_unlearn.types import TokenBatch

MODEL = "HuggingFaceTB/SmolLM2-135M-Instruct"
Precision = Literal["32-true", "bf16-mixed"]
PRECISIONS = get_args(Precision)
REFUSALS = ["I'm sorry, but I don't have information about that."]


def tofu(config: str, rows: int, offset: int = 0) -> list[Source]:
    """Return a source of the first rows of one configuration of TOFU."""
    return [Source("locuslab/TOFU", config=config, offset=offset, limit=rows)]


def four_objectives(rows: int, context: Demonstrations, data: Path) -> UnlearnDataModule:
    """Return forget, adversarial (one prefill a row), neighbour and retain rows.

    Each objective has exactly ``rows`` rows, so that every step has the same rows.
    """
    openers = Prefills("builtin:train", candidates=1)
    return UnlearnDataModule(
        {
            "forget": ObjectiveData(
                tofu("forget10", rows), "decline", rows, "refusal", REFUSALS, context
            ),
            "adversarial": ObjectiveData(
                tofu("forget10", rows, 20), "decline", rows, "refusal", REFUSALS, context, openers
            ),
            "neighbor": ObjectiveData(tofu("retain90", rows, 40), "answer", rows),
            "retain": ObjectiveData(tofu("real_authors", rows), "answer", rows),
        },
        data_root=str(data),
    )


class PlainStep:
    """Baseline step: cross-entropy at answer positions and AdamW, and nothing else.

    All rows pass through the model at once, as one sequence without padding, in which each row
    attends only to itself (`lit_unlearn.models.tree_attention`). The output head reads only answer
    positions. This is the fastest plain step that we know.

    Args:
        model: A causal language model of transformers, in training mode.
        optimizer: Optimizer of its parameters; None creates AdamW with default settings.
    """

    def __init__(self, model: nn.Module, optimizer: Any = None) -> None:
        self.model: Any = model
        self.optimizer = optimizer or torch.optim.AdamW(
            model.parameters(), lr=1e-5, weight_decay=0.0
        )

    def __call__(self, batches: Sequence[TokenBatch]) -> None:
        """Take one step on the student's tokens of these batches."""
        install()
        rows: list[list[int]] = []
        places: list[int] = []
        targets: list[Tensor] = []
        for batch in batches:
            lengths = batch.student.attention_mask.sum(1).tolist()
            starts = [sum(map(len, rows)) + s for s in accumulate([0, *lengths[:-1]])]
            rows += [i[:n].tolist() for i, n in zip(batch.student.input_ids, lengths, strict=True)]
            pairs = zip(batch.student.rows.tolist(), batch.student.columns.tolist(), strict=True)
            places += [starts[row] + column for row, column in pairs]
            targets.append(present(batch.target_ids))
        hidden = self.model.model(
            input_ids=torch.tensor([[token for row in rows for token in row]]),
            position_ids=torch.tensor([[place for row in rows for place in range(len(row))]]),
            attention_mask=torch.zeros(1, 1, 1, 1),
            **{LAYOUT: layout_of(separate(rows), torch.device("cpu"))},
            use_cache=False,
        ).last_hidden_state
        logits = self.model.lm_head(hidden[0, places])
        functional.cross_entropy(logits, torch.cat(targets)).backward()
        self.optimizer.step()
        self.optimizer.zero_grad()


class PeerStep:
    """A step of open-unlearning's GradDiff, NPO, or NPO with KL to the start model.

    Losses are computed as in its trainers (src/trainer/unlearn/grad_diff.py, npo.py), but without
    transformers' Trainer: padded rows through transformers' forward pass, logits at all positions,
    a copy of the start model that reads the rows in every step, one backward pass for both losses,
    gradients clipped to a norm of 1. With KL the student reads the kept rows twice and the first
    pass is not used, as in the original code.

    Args:
        job: `graddiff`, `npo` or `npo_kl`.
        model: A causal language model of transformers, in training mode, with its start weights.
        optimizer: Optimizer of its parameters; None creates AdamW with default settings.
    """

    def __init__(self, job: str, model: nn.Module, optimizer: Any = None) -> None:
        self.job = job
        self.model: Any = model
        self.start: Any = None if job == "graddiff" else copy.deepcopy(model).eval()
        self.optimizer = optimizer or torch.optim.AdamW(model.parameters(), lr=2e-5)

    def __call__(self, batches: Mapping[str, Sequence[TokenBatch]]) -> float:
        """Take a step on one batch of `forget` and one of `retain`; return the loss."""
        (forget,), (retain,) = batches["forget"], batches["retain"]
        loss = self._forget(labelled(forget)) + self._retain(labelled(retain))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(loss.detach())

    def _forget(self, inputs: dict[str, Tensor]) -> Tensor:
        if self.job == "graddiff":
            found: Tensor = -self.model(**inputs).loss
            return found
        own = row_losses(self.model, inputs)
        with torch.no_grad():
            start = row_losses(self.start, inputs)
        return -2 / BETA * functional.logsigmoid(BETA * (own - start)).mean()

    def _retain(self, inputs: dict[str, Tensor]) -> Tensor:
        outputs = self.model(**inputs)
        if self.job != "npo_kl":
            found: Tensor = outputs.loss
            return found
        with torch.no_grad():
            start = self.start(**inputs).logits.log_softmax(-1)
        own = self.model(**inputs).logits.log_softmax(-1)
        pair = own.flatten(0, 1), start.flatten(0, 1)
        return functional.kl_div(*pair, reduction="batchmean", log_target=True)


BETA = 0.1
"""Beta of NPO."""


def labelled(batch: TokenBatch) -> dict[str, Tensor]:
    """Return a batch as transformers takes it: padded ids, mask, and labels of answer tokens."""
    tokens = batch.student
    labels = torch.full_like(tokens.input_ids, -100)
    labels[tokens.rows, tokens.columns + 1] = present(batch.target_ids)
    return {
        "input_ids": tokens.input_ids,
        "attention_mask": tokens.attention_mask,
        "labels": labels,
    }


def row_losses(model: Any, inputs: dict[str, Tensor]) -> Tensor:
    """Return the summed cross-entropy of each row's answer."""
    logits = model(**inputs).logits[:, :-1].transpose(1, 2)
    return functional.cross_entropy(logits, inputs["labels"][:, 1:], reduction="none").sum(1)


def present(targets: Tensor | None) -> Tensor:
    """Return the answer tokens; raise an error for rows without answers."""
    if targets is None:
        raise ValueError("The rows of this benchmark should have answers.")
    return targets


def tokens_of(batches: Sequence[TokenBatch]) -> dict[str, int]:
    """Count the student's tokens: without padding, with padding, and of answers."""
    return {
        "real": sum(int(b.student.attention_mask.sum()) for b in batches),
        "padded": sum(b.student.attention_mask.numel() for b in batches),
        "answer": sum(len(b.student.rows) for b in batches),
    }


def numbers(precision: Precision) -> torch.autocast:
    """Return the context in which Lightning computes with a precision, for a hand-written step."""
    return torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed")


def reset_peak() -> None:
    """Reset the process's peak of memory, if the system supports it."""
    reset = Path("/proc/self/clear_refs")
    if reset.exists():
        reset.write_text("5")


def peak_gib() -> float:
    """Return the peak of the process's resident set since `reset_peak`, in GiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 2**20


def machine() -> dict[str, object]:
    """Return the data of the machine on which the seconds depend."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text("utf-8").splitlines() if info.exists() else []
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return {
        "cpu": names[0] if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_1min": os.getloadavg()[0],
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def spread(values: Sequence[float]) -> dict[str, float]:
    """Return median, minimum and maximum."""
    return {"median": statistics.median(values), "least": min(values), "greatest": max(values)}


def report(title: str, rows: Sequence[Mapping[str, object]], record: Any, out: Path) -> None:
    """Print a table with one line per row, and write the record and the machine's data."""
    table = Table(*rows[0], title=title)
    for row in rows:
        table.add_row(*(f"{v:.3f}" if isinstance(v, float) else str(v) for v in row.values()))
    console = Console(width=120)
    console.print(table)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), **record}, indent=1) + "\n", "utf-8")
    console.print(f"written: {out}", highlight=False)
