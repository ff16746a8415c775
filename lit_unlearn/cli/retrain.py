"""`lit-unlearn retrain`: train a run again without the rows of a request."""

from collections.abc import Iterator
from pathlib import Path

from jsonargparse import ArgumentParser

from lit_unlearn.cli.checking import checked
from lit_unlearn.cli.parsing import ExamplesFormatter, make_parser, parse
from lit_unlearn.data.epochs import run_steps
from lit_unlearn.planning.plan import plan
from lit_unlearn.requests.folder import RequestFolder
from lit_unlearn.requests.retrain import Retraining, prepare_retraining, start_retraining
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import table, terminal

__all__ = ["main"]

_DESCRIPTION = """\
Train a run of `lit-unlearn fit` again without the rows of a request. This is exact: the new model
is equal, bit by bit, to one that was trained on files without these rows (on the same machine with
the same versions). It is the honest alternative to unlearning where the model was trained here, and
a model that never knew the content (`evaluate --reference`). Its cost is printed before it starts.
"""
_EPILOG = """\
examples:
  lit-unlearn retrain runs/target --without runs/erase/alice
  lit-unlearn retrain runs/target --without rows.jsonl --dry_run true

A row is left out if its question and its answer are those of a row of the request, except for
case, spaces and punctuation. RUN/config.yaml names the files of rows. If these paths are relative,
give the command in the folder in which the run was started.
"""


def main(args: list[str]) -> None:
    """Run the command."""
    given = parse(_parser(), args[1:])
    prepared = prepare_retraining(given.run, given.without, given.output)
    console = terminal()
    rows = [(key, str(count)) for key, count in prepared.left_out.items()]
    console.print(table("Rows that are left out", ("source", "rows"), rows))
    for line in _costs(prepared, local_path(given.without)):
        console.print(line)
    if given.dry_run:
        console.print(f"config: {prepared.config}", soft_wrap=True)
        return
    start_retraining(prepared, terminal(stderr=True))
    console.print(f"run: {prepared.run}", soft_wrap=True)


def _parser() -> ArgumentParser:
    parser = make_parser(
        "retrain", description=_DESCRIPTION, epilog=_EPILOG, formatter_class=ExamplesFormatter
    )
    parser.add_argument("run", type=Path, help="Folder of the run.")
    text = "Folder or YAML file of the request, or a file with questions and answers."
    parser.add_argument("--without", type=Path, required=True, help=text)
    text = "Folder of the new run; null takes <run>-without-<request>."
    parser.add_argument("--output", type=Path | None, help=text)
    text = "Write the config and the data of the new run, and do not start it."
    parser.add_argument("--dry_run", type=bool, default=False, help=text)
    return parser


def _costs(prepared: Retraining, request: Path) -> Iterator[str]:
    """Yield the FLOPs of the steps of the new run, and of the request's own run beside it."""
    again = _flops(prepared.config)
    yield f"training again: {again / 1e12:.3g} TFLOP in its steps"
    own = RequestFolder(request).run / "config.yaml"
    if own.is_file():
        unlearning = _flops(own)
        ratio = f"; training again takes {again / unlearning:.2g} times that" * bool(unlearning)
        yield f"unlearning: {unlearning / 1e12:.3g} TFLOP in its steps{ratio}"


def _flops(config: Path) -> float:
    """Return the FLOPs of all steps of a run."""
    run = checked(["--config", str(config)])
    made = plan(run.model, run.datamodule, run.settings)
    steps = run_steps(run.trainer, run.datamodule.epoch_steps())
    return steps * sum(sum(flops.values()) for flops in made.flops.values())
