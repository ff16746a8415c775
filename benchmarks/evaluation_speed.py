"""Compare the cost of evaluation with plain forward passes and plain generation.

    python benchmarks/evaluation_speed.py [--model MODEL] [--data FOLDER] [--out FILE.json]

Rows are those of TOFU's forget01_perturbed (answer, paraphrase, five wrong answers). Times are CPU
seconds of one thread; each repeat runs all methods in turn. A ratio is the median over repeats of
a method's time divided by ours in the same repeat.

Forcing; every method computes all figures of each token (log-probability, hit, mean, deviation):
  ours              `lit_unlearn.evaluation.teacher_forced.force`, with encoding
  per candidate     batches of candidates, each of which reads the question again
  per figure        the same, and the answer again for each of three further figures
  ideal             question and candidates in one sequence with a mask: no padding, no copies
Replies, greedy:
  ours              `lit_unlearn.models.generation.generate_answers`
  generate          `generate` of transformers on left-padded batches of the tokenizer

The time of encoding counts only for ours. All methods of forcing must agree to 1e-3 nats.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from script import run_script

os.environ["OMP_NUM_THREADS"] = "1"

import torch
from cost import machine
from rich.console import Console
from rich.table import Table
from torch import Tensor

from lit_unlearn.data.collation import tokens
from lit_unlearn.evaluation.probes import Probe, Subject
from lit_unlearn.evaluation.subjects import Loading, load_subject
from lit_unlearn.evaluation.teacher_forced import force
from lit_unlearn.metrics.functional.tokens import token_statistics
from lit_unlearn.models.forward import answer_logits
from lit_unlearn.models.generation import generate_answers, stop_ids
from lit_unlearn.types import EncodedExample, Example, Turn

PROJECT = Path(__file__).resolve().parents[1]
FURTHER_FIGURES = 3
"""Extraction strength, exact memorisation, Min-K++: other tools read the answer again for each."""


def read_probes(data: Path, rows: int) -> list[Probe]:
    """Read the first rows of forget01_perturbed with their seven candidates."""
    lines = (data / "tofu" / "forget01_perturbed.json").read_text("utf-8").split("\n")
    probes = []
    for number, line in enumerate(filter(None, lines[:rows])):
        row: dict[str, Any] = json.loads(line)
        turns = (Turn("user", row["question"]),)
        wrong = {f"wrong/{k}": text for k, text in enumerate(row["perturbed_answer"])}
        probes.append(
            Probe(
                probe_id=f"forget/{number}",
                group="forget",
                example=Example(str(number), turns, row["answer"], "question_answer"),
                turns=turns,
                candidates={"answer": row["answer"], "paraphrase": row["paraphrased_answer"]}
                | wrong,
            )
        )
    return probes


# -------------------------------------------------------------------------------- ways of forcing


def encode(subject: Subject, probes: Sequence[Probe]) -> list[list[EncodedExample]]:
    """Encode the candidates of each probe."""
    encoded = [
        [subject.encoder.encode(p.example, t) for t in p.candidates.values()] for p in probes
    ]
    return [[row for row in rows if row is not None] for rows in encoded]


def per_candidate(subject: Subject, rows: Sequence[EncodedExample], batch_size: int) -> Tensor:
    """Return ``[4, N]`` statistics from one sequence per candidate, longest first."""
    order = sorted(range(len(rows)), key=lambda index: -len(rows[index].student_ids))
    found: dict[int, Tensor] = {}
    for start in range(0, len(order), batch_size):
        members = order[start : start + batch_size]
        batch = [rows[index] for index in members]
        counts = [row.target_count for row in batch]
        read = tokens([r.student_ids for r in batch], [r.student_start for r in batch], counts, 0)
        targets = [t for row in batch for t in row.student_ids[row.student_start :]]
        part = token_statistics(answer_logits(subject.model, read), torch.tensor(targets))
        found.update(zip(members, part.split(counts, dim=1), strict=True))
    return torch.cat([found[index] for index in range(len(rows))], dim=1)


def ideal(subject: Subject, rows: Sequence[Sequence[EncodedExample]]) -> Tensor:
    """Return ``[4, N]`` statistics from one pass per question, with all its candidates."""
    found = []
    for candidates in rows:
        start = candidates[0].student_start
        prompt = candidates[0].student_ids[:start]
        answers = [row.student_ids[start:] for row in candidates]
        inputs = [token for answer in answers for token in answer[:-1]]
        owner = torch.tensor([0] * start + [k + 1 for k, a in enumerate(answers) for _ in a[:-1]])
        within = [k for answer in answers for k in range(len(answer) - 1)]
        positions = torch.tensor([*range(start), *(start + k for k in within)])
        seen = (owner[:, None] == owner) | (owner == 0)
        visible = seen & (positions[None] <= positions[:, None])
        mask = torch.zeros(visible.shape).masked_fill(~visible, torch.finfo(torch.float32).min)
        columns, at = [], start
        for answer in answers:
            columns += [start - 1, *range(at, at + len(answer) - 1)]
            at += len(answer) - 1
        hidden = subject.model.get_submodule("model")(
            input_ids=torch.tensor([[*prompt, *inputs]]),
            position_ids=positions[None],
            attention_mask=mask[None, None],
            use_cache=False,
        ).last_hidden_state
        model: Any = subject.model
        logits = model.get_output_embeddings()(hidden[0, columns])
        targets = torch.tensor([token for answer in answers for token in answer])
        found.append(token_statistics(logits, targets))
    return torch.cat(found, dim=1)


def forcing_ways(
    subject: Subject, probes: Sequence[Probe], batch_size: int
) -> dict[str, Callable[[], object]]:
    """Return the methods of forcing, as functions to time."""
    rows = encode(subject, probes)
    flat = [row for candidates in rows for row in candidates]
    answers = [candidates[0] for candidates in rows] * FURTHER_FIGURES
    return {
        "ours": lambda: force(subject.model, subject.encoder, probes, batch_size),
        "per candidate": lambda: per_candidate(subject, flat, batch_size),
        "per figure": lambda: per_candidate(subject, flat + answers, batch_size),
        "ideal": lambda: ideal(subject, rows),
    }


def largest_difference(subject: Subject, probes: Sequence[Probe], batch_size: int) -> float:
    """Return the largest difference of a log-probability between the methods, in nats."""
    forced = force(subject.model, subject.encoder, probes, batch_size)
    ours = torch.tensor([x for found in forced for f in found.values() for x in f.log_probs])
    rows = encode(subject, probes)
    flat = [row for candidates in rows for row in candidates]
    others = (per_candidate(subject, flat, batch_size)[0], ideal(subject, rows)[0])
    return max(float((ours - other).abs().max()) for other in others)


# -------------------------------------------------------------------------------- ways of replying


def reply_ways(
    subject: Subject, probes: Sequence[Probe], batch_size: int, max_new_tokens: int
) -> dict[str, Callable[[], object]]:
    """Return the methods of generation, as functions to time."""
    prompts = [subject.encoder.prompt_ids(probe.turns) for probe in probes]
    model: Any = subject.model
    stops = stop_ids(model, subject.tokenizer)
    subject.tokenizer.padding_side = "left"
    if subject.tokenizer.pad_token is None:
        subject.tokenizer.pad_token = subject.tokenizer.eos_token

    def plain() -> list[str]:
        found: list[str] = []
        for start in range(0, len(prompts), batch_size):
            ids = {"input_ids": prompts[start : start + batch_size]}
            batch = subject.tokenizer.pad(ids, return_tensors="pt")
            output = model.generate(
                **batch,
                max_new_tokens=max_new_tokens,
                do_sample=False,
                eos_token_id=stops,
                pad_token_id=subject.tokenizer.pad_token_id,
            )
            new = output[:, batch["input_ids"].shape[1] :]
            found += subject.tokenizer.batch_decode(new, skip_special_tokens=True)
        return found

    def ours() -> list[str]:
        return generate_answers(
            model, subject.tokenizer, prompts, max_new_tokens=max_new_tokens, batch_size=batch_size
        )

    return {"ours": ours, "generate": plain}


# ----------------------------------------------------------------------------------------- timing


def measure(ways: dict[str, Callable[[], object]], repeats: int) -> dict[str, list[float]]:
    """Return CPU seconds of each method in each repeat, after an untimed first repeat."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for repeat in range(repeats + 1):
        for name, way in ways.items():
            start = time.process_time()
            way()
            if repeat:
                seconds[name].append(time.process_time() - start)
    return seconds


def summary(seconds: dict[str, list[float]]) -> dict[str, dict[str, float]]:
    """Return minimum and median seconds of each method, and its median ratio to ours."""
    ours = seconds["ours"]
    return {
        name: {
            "min_s": min(taken),
            "median_s": statistics.median(taken),
            "ratio": statistics.median(t / o for t, o in zip(taken, ours, strict=True)),
        }
        for name, taken in seconds.items()
    }


def table(title: str, rows: dict[str, dict[str, float]]) -> Table:
    """Return a table with one line per method."""
    made = Table("way", "least s", "median s", "by ours", title=title)
    for name, row in rows.items():
        made.add_row(name, f"{row['min_s']:.3f}", f"{row['median_s']:.3f}", f"{row['ratio']:.2f}")
    return made


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description="Cost of evaluation.")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    parser.add_argument("--data", type=Path, default=PROJECT.parent / "shared" / "data")
    parser.add_argument("--rows", type=int, default=40)
    parser.add_argument("--batch-size", type=int, default=14, help="sequences per forward pass")
    parser.add_argument("--max-new-tokens", type=int, default=32)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("evaluation_speed.json"))
    return parser.parse_args()


@torch.no_grad()
def main() -> None:
    """Measure, print the tables, write the file."""
    args = arguments()
    torch.set_num_threads(1)
    subject = load_subject(args.model, Loading(device="cpu"))
    probes = read_probes(args.data, args.rows)
    before = machine()
    difference = largest_difference(subject, probes[:4], args.batch_size)
    if difference > 1e-3:
        raise SystemExit(f"the methods differ by {difference:.2g} nats; do not compare their times")
    forcing = measure(forcing_ways(subject, probes, args.batch_size), args.repeats)
    replies = measure(
        reply_ways(subject, probes, args.batch_size, args.max_new_tokens), args.repeats
    )
    console = Console()
    size = f"{len(probes)} rows, CPU seconds of one thread"
    console.print(table(f"Forcing, 7 candidates a row: {size}", summary(forcing)))
    console.print(table(f"Replies, at most {args.max_new_tokens} tokens: {size}", summary(replies)))
    settings = {k: v for k, v in vars(args).items() if k not in ("data", "out")}
    record = {
        "settings": settings,
        "machine": before,
        "largest_difference_nats": difference,
        "forcing": {"seconds": forcing, **summary(forcing)},
        "replies": {"seconds": replies, **summary(replies)},
    }
    args.out.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    console.print(f"written: {args.out}", highlight=False)


if __name__ == "__main__":
    run_script(main)
