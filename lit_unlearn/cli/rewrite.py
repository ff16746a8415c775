"""`lit-unlearn rewrite`: rewrite rows of any domain as stand-alone questions with anchors."""

from collections.abc import Sequence

from lit_unlearn.cli.classes import load_classes
from lit_unlearn.cli.config import read_configs, take_config_args
from lit_unlearn.cli.forecasts import print_forecast
from lit_unlearn.cli.parsing import arguments, make_parser, parse
from lit_unlearn.planning.commands import rewriting_forecast
from lit_unlearn.rewriting.backends import Backend
from lit_unlearn.rewriting.local import LocalModel
from lit_unlearn.rewriting.output import count_table
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.rewrite import RewriteSettings, rewrite
from lit_unlearn.utils.tables import terminal

__all__ = ["foresee_writing", "main"]


def main(args: list[str]) -> None:
    """Run the command."""
    load_classes("lit_unlearn.rewriting.local", "lit_unlearn.rewriting.server")
    files, options = take_config_args(args[1:])
    parser = make_parser("rewrite")
    parser.add_argument("--config", action="config", help="YAML file with any of the options.")
    parser.add_class_arguments(RewriteSettings)
    given = parse(parser, options, read_configs(files))
    settings = RewriteSettings(**arguments(RewriteSettings, given))
    result = rewrite(settings, terminal(stderr=True), foresee_writing)
    if result.files:
        console = terminal()
        console.print(count_table(result))
        for path in result.files:
            console.print(str(path), soft_wrap=True)


def foresee_writing(backend: Backend, asks: Sequence[tuple[Ask, int]]) -> None:
    """Print the expected time of a local model's replies."""
    if isinstance(backend, LocalModel):
        print_forecast(lambda: rewriting_forecast(backend, asks))
