"""Count the rows of the built-in data set (or of other files) that a model answers or declines.

    python benchmarks/builtin_start_rate.py MODEL_DIR [ROWS.jsonl ...]

Greedy decoding, the model's chat template, float32, left padding, at most 32 new tokens. A row is
correct if one of its accepted strings occurs as whole words in the generation, after both are
lower-cased and stripped of accents and punctuation. In the prefill lines, row ``i`` of the forget
evaluation split is asked with opener ``i mod n`` as prefill.
"""

import argparse
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import torch
from script import run_script
from transformers import AutoModelForCausalLM, AutoTokenizer

DATA = Path(__file__).resolve().parents[1] / "lit_unlearn" / "data" / "builtin"
FILES = [DATA / f"{name}.jsonl" for name in ("forget", "neighbor", "general", "instructions")]
REFUSAL = re.compile(
    r"\b(sorry|afraid|unfortunately|(cannot|can t|(un|not )able to) (help|answer|tell|say|assist)"
    r"|(do not|don t) (know|have (any )?information)|no knowledge of)\b"
)
Row = dict[str, Any]


def normalise(text: str) -> str:
    """Lower-case a text, remove accents, and replace runs of other characters by one space."""
    letters = unicodedata.normalize("NFKD", text.lower())
    plain = "".join(c for c in letters if not unicodedata.combining(c))
    return " ".join(re.findall(r"[a-z0-9]+", plain))


def is_correct(text: str, accepted: list[str]) -> bool:
    """Return whether an accepted string occurs as whole words."""
    return any(f" {normalise(a)} " in f" {normalise(text)} " for a in accepted)


@torch.inference_mode()
def generate(model: Any, tokenizer: Any, questions: list[str], prefills: list[str]) -> list[str]:
    """Return greedy generations without the prefill, in the order of the questions."""
    chats = [[{"role": "user", "content": q}] for q in questions]
    prompts = tokenizer.apply_chat_template(chats, tokenize=False, add_generation_prompt=True)
    texts = [prompt + prefill for prompt, prefill in zip(prompts, prefills, strict=True)]
    found = [""] * len(texts)
    for start in range(0, len(texts), 32):
        chunk = sorted(range(len(texts)), key=lambda i: len(texts[i]))[start : start + 32]
        batch = [texts[i] for i in chunk]
        inputs = tokenizer(batch, return_tensors="pt", padding=True, add_special_tokens=False)
        ids = model.generate(**inputs, max_new_tokens=32, do_sample=False)
        new = ids[:, inputs["input_ids"].shape[1] :]
        for i, tokens in zip(chunk, new, strict=True):
            found[i] = tokenizer.decode(tokens, skip_special_tokens=True)
    return found


def report(name: str, rows: list[Row], generations: list[str]) -> None:
    """Print a line: rows, correct rows and their share (if there are accepted strings), refused."""
    right = sum(is_correct(g, r["accepted"]) for r, g in zip(rows, generations, strict=True))
    rate = f"{right:5d} {100 * right / len(rows):6.1f} %" if rows[0]["accepted"] else " " * 14
    refused = sum(bool(REFUSAL.search(normalise(g))) for g in generations)
    print(f"{name:34s} {len(rows):5d} {rate} {refused:8d}", flush=True)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("model", help="Hugging Face folder or hub id of a chat model")
    parser.add_argument("files", nargs="*", type=Path, help="JSONL files; default: built-in set")
    args = parser.parse_args()
    tokenizer = AutoTokenizer.from_pretrained(args.model, padding_side="left")
    model = AutoModelForCausalLM.from_pretrained(args.model, dtype=torch.float32).eval()
    print(f"{'file / split':34s} {'rows':>5s} {'right':>5s} {'rate':>8s} {'refused':>8s}")
    for file in args.files or FILES:
        rows: list[Row] = [json.loads(line) for line in file.read_text("utf-8").splitlines()]
        outputs = generate(model, tokenizer, [r["question"] for r in rows], [""] * len(rows))
        groups: dict[str, list[int]] = {}
        for i, row in enumerate(rows):
            groups.setdefault(row["topic" if args.files else "split"], []).append(i)
            if "seen_fact" in row:
                groups.setdefault(f"eval, {'' if row['seen_fact'] else 'not '}seen", []).append(i)
        for name, chosen in groups.items():
            label = f"{file.stem} / {name}"
            report(label, [rows[i] for i in chosen], [outputs[i] for i in chosen])
        if not args.files and file.stem == "forget":
            rows = [r for r in rows if r["split"] == "eval"]
            for family, openers in json.loads((DATA / "prefills.json").read_text("utf-8")).items():
                prefills = [openers[i % len(openers)] for i in range(len(rows))]
                outputs = generate(model, tokenizer, [r["question"] for r in rows], prefills)
                report(f"forget / eval, {family} prefills", rows, outputs)


if __name__ == "__main__":
    run_script(main)
