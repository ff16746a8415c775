"""`lit-unlearn export`: a model as a GGUF file for llama.cpp."""

from lit_unlearn.cli.parsing import call
from lit_unlearn.evaluation.subjects import named_model
from lit_unlearn.models.gguf_file import write_gguf
from lit_unlearn.utils.tables import terminal

__all__ = ["main"]


def main(args: list[str]) -> None:
    """Run the command."""
    with named_model():
        written = call(write_gguf, args, "model", "file")
    found = str(written.comparison or "not read back; check it with the program that serves it")
    if written.comparison and written.kind.startswith("q"):
        found = f"rounding changes logits by at most {written.comparison.difference:.2g}"
    terminal().print(f"{written.file} ({written.kind}): {found}", soft_wrap=True)
