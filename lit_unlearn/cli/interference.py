"""`lit-unlearn interference`: measure conflicts between objectives on a model, without training."""

from collections.abc import Mapping

from lit_unlearn.cli.classes import load_classes
from lit_unlearn.cli.forecasts import print_forecast
from lit_unlearn.cli.parsing import arguments, make_parser, parse, read_run
from lit_unlearn.data.datamodule import UnlearnDataModule
from lit_unlearn.evaluation.subjects import device_named
from lit_unlearn.interference_study.interference import interference
from lit_unlearn.interference_study.interference_page import summary_table
from lit_unlearn.interference_study.measure import Amounts
from lit_unlearn.planning.studies import study_forecast
from lit_unlearn.training.module import UnlearnModule
from lit_unlearn.types import Representation
from lit_unlearn.utils.options import take_options
from lit_unlearn.utils.tables import print_paths, terminal

__all__ = ["main"]

_IDLE = ("trainer", "seed_everything", "ckpt_path", "weights_only")
"""Keys of a config for `fit` that this command ignores."""


def main(args: list[str]) -> None:
    """Run the command."""
    load_classes()
    models, rest = take_options(args[1:], lambda name: name == "--model")
    config, options = read_run(rest, _IDLE)
    parser = make_parser(
        "interference",
        description="Measure conflicts between the objectives of a config for `fit`, without "
        "training: cosines of gradients, the effect of small steps, and the distance between the "
        "objectives' data. --model NAME measures another model than the config's start model, such "
        "as the export of a run; the teacher remains that of the config.",
    )
    parser.add_argument("--config", action="config", help="YAML file for `fit`.")
    parser.add_function_arguments(interference, skip={"module", "data", "model", "foresee"})
    parser.add_class_arguments(UnlearnModule, "model")
    parser.add_class_arguments(UnlearnDataModule, "data")
    given = parse(parser, options, config)
    chosen = {"module": given.model, "model": models[-1][1] if models else None}

    def foresee(forms: Mapping[Representation, UnlearnDataModule], amounts: Amounts) -> None:
        print_forecast(
            lambda: study_forecast(given.model, forms, amounts, device_named(given.device))
        )

    options_given = arguments(interference, given) | chosen
    found = interference(**options_given, foresee=foresee)
    console = terminal()
    console.print(summary_table(found.estimates))
    for remark in found.remarks:
        console.print(remark)
    print_paths(console, found.files)
