"""Write the rows of the interference experiment that no data set has in the needed form.

    python benchmarks/interference_rows.py [--data FOLDER] [--model MODEL]

The files are written into runs/interference_rows, where configs/interference reads them:

* wikitext.jsonl: passages of one or two whole sentences (18 to 40 words) from wikitext-2's test
  articles, without names of France; the tokenised text is joined to plain text;
* xstest.jsonl: every tenth safe prompt of XSTest with the answer of the start model, since the data
  set has no answers and the model's behaviour should not change.
"""

import argparse
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from script import run_script

from lit_unlearn.data.passages import sentences
from lit_unlearn.data.sources import ROOT_VARIABLE, Source
from lit_unlearn.data.unify import load_examples
from lit_unlearn.types import Example
from lit_unlearn.utils.atomic import write_text

ROWS = Path("runs/interference_rows")
PASSAGES, PROMPTS = "wikitext.jsonl", "xstest.jsonl"
WIKITEXT = Source("Salesforce/wikitext", config="wikitext-2-v1", split="test", domain="passage")
WIKITEXT_FILE = Source("utility/wikitext2_test.txt.gz", domain="passage")
"""File of the same lines in a data root."""
XSTEST = Source("walledai/XSTest", split="test", where={"label": ["safe"]}, every=10)
_TOPIC = re.compile(r"\b(?:Fran\w+|French\w*|Paris\w*)\b")
_JOINED = (
    (re.compile(r" @([-,.])@ "), r"\1"),
    (re.compile(r" ([,.;:?!)\]%]|'\w|n't\b)"), r"\1"),
    (re.compile(r"([(\[$]) "), r"\1"),
)


def running_text(line: str) -> str:
    """Join a line of tokens to plain text."""
    for pattern, replacement in _JOINED:
        line = pattern.sub(replacement, line)
    return line.strip()


def short_passages(lines: Iterable[str], count: int) -> list[str]:
    """Return the first one or two sentences of paragraphs, 18 to 40 words.

    Args:
        lines: Lines of wikitext; headings, and beginnings with unknown words, quotation marks or
            names of France are left out.
        count: Maximum number of passages.
    """
    found: list[str] = []
    for line in lines:
        start = " ".join(sentences(running_text(line))[:2])
        words = len(start.split())
        odd = "=" in start or '"' in start or "<unk>" in start or "@" in start
        if 18 <= words <= 40 and not odd and not _TOPIC.search(start):
            found.append(start)
    return found[:count]


def write_passages(data_root: Path | None, count: int = 40) -> Path:
    """Write wikitext.jsonl."""
    local = data_root is not None and (data_root / WIKITEXT_FILE.path).is_file()
    source = WIKITEXT_FILE if local else WIKITEXT
    lines = [row.answer for row in load_examples([source], data_root, "raw", "skip")]
    return _write(PASSAGES, [{"text": text} for text in short_passages(lines, count)])


def write_prompts(data_root: Path | None, model: str, tokens: int = 24) -> Path:
    """Write xstest.jsonl.

    Args:
        data_root: Folder that replaces the hub.
        model: Model that answers the prompts.
        tokens: Maximum number of tokens of an answer.
    """
    from lit_unlearn.data.encoding import Encoder
    from lit_unlearn.models.generation import generate_answers
    from lit_unlearn.models.loading import ModelSource, load_base, load_tokenizer

    rows = load_examples([XSTEST], data_root)
    source = ModelSource(model)
    encoder = Encoder(load_tokenizer(source))
    prompts = [encoder.prompt_ids(row.turns) for row in rows]
    replies = generate_answers(
        load_base(source).eval(), encoder.tokenizer, prompts, max_new_tokens=tokens
    )
    return _write(PROMPTS, _answered(rows, list(replies)))


def _answered(rows: Sequence[Example], replies: Sequence[str]) -> list[dict[str, str]]:
    """Return rows with replies that are cut after their last whole sentence, if there is one."""
    ends = [" ".join(sentences(reply)[:-1]) or reply for reply in replies]
    pairs = zip(rows, ends, strict=True)
    return [{"question": row.question, "answer": end} for row, end in pairs if end.strip()]


def _write(name: str, rows: Sequence[dict[str, str]]) -> Path:
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    write_text(ROWS / name, text)
    return ROWS / name


def prepare(data_root: Path | None, model: str) -> None:
    """Write the files that do not exist yet."""
    if not (ROWS / PASSAGES).is_file():
        write_passages(data_root)
    if not (ROWS / PROMPTS).is_file():
        write_prompts(data_root, model)


def main() -> None:
    """Write both files."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, help=f"replaces the hub; default: {ROOT_VARIABLE}")
    parser.add_argument("--model", default="HuggingFaceTB/SmolLM2-135M-Instruct")
    given = parser.parse_args()
    prepare(given.data, given.model)


if __name__ == "__main__":
    run_script(main)
