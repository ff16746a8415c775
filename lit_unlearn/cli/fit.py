"""`lit-unlearn fit`, `validate`, `test` and `predict`: run a config.

Only this file uses Lightning's command line. The parser is generated from the constructors of
`UnlearnModule`, `UnlearnDataModule` and `Trainer`: annotations give the types, docstrings the help.
"""

from __future__ import annotations

import json
import sys
import warnings
from argparse import ArgumentError
from collections.abc import Sequence
from contextlib import ExitStack
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule, LightningModule, Trainer
from lightning.pytorch.cli import ArgsType, LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger

from lit_unlearn.callbacks import PredictionFile
from lit_unlearn.cli.blame import blame
from lit_unlearn.cli.checkpoints import find_given
from lit_unlearn.cli.classes import load_classes
from lit_unlearn.cli.config import Config, read_configs, take_config_args
from lit_unlearn.cli.failures import one_line
from lit_unlearn.cli.fit_forecast import print_fit_forecast, with_step_lines
from lit_unlearn.cli.mistakes import check_keys, explain, unknown_strategy
from lit_unlearn.cli.overrides import lay_over
from lit_unlearn.cli.parsing import plain
from lit_unlearn.cli.quiet import silence
from lit_unlearn.cli.resume import make_resumable, run_logger, run_settings
from lit_unlearn.cli.run_files import (
    RunConfig,
    as_list,
    check_run_folder,
    config_text,
    default_folder,
    divert_debug,
    is_first,
)
from lit_unlearn.cli.suite_names import known_suites
from lit_unlearn.cli.validation_table import validation_table
from lit_unlearn.distributed.strategy import by_alias, check_strategy
from lit_unlearn.errors import InputError, check_number
from lit_unlearn.training.run_checks import check_parts, check_run
from lit_unlearn.training.trainer import UnlearnTrainer
from lit_unlearn.utils.paths import local_path
from lit_unlearn.utils.tables import terminal

__all__ = ["STAGES", "UnlearnCLI", "main", "run", "start"]

STAGES = ("fit", "validate", "test", "predict")
"""Stages of Lightning that are commands."""


def main(args: list[str]) -> None:
    """Run one stage, the first of the arguments."""
    start(UnlearnCLI, args)


def start(line: type[Line], args: list[str]) -> Line:
    """Run one stage with the classes of the package and the given class of command line."""
    load_classes("lit_unlearn.callbacks", "lit_unlearn.distributed.strategy")
    known_suites()
    from lit_unlearn.data.datamodule import UnlearnDataModule
    from lit_unlearn.training.module import UnlearnModule

    return run(UnlearnModule, UnlearnDataModule, args, line)


def run(
    model_class: type[LightningModule],
    data_class: type[LightningDataModule],
    args: list[str],
    line: type[Line],
) -> Line:
    """Run one stage, the first of the arguments, with the given classes of `model` and `data`.

    Raises:
        InputError: The config or the command line cannot be used.
    """
    stage, *options = args
    files, overrides = take_config_args(options)
    config, overrides = lay_over(read_configs(files), overrides)
    silence()
    try:
        return line(model_class, data_class, stage, config, overrides, files)
    except MisconfigurationException as error:
        raise InputError(one_line(error)) from error
    except Exception as error:
        blame(error, config, overrides)
        raise


Line = TypeVar("Line", bound="UnlearnCLI")
"""Class of the command line: `UnlearnCLI` runs a stage; a subclass may only check it."""

_PRINT = "--print_config"
_PARSERS: dict[tuple[str, Any, Any], tuple[Any, Any, Any]] = {}
"""Parser, parsers of subcommands and their arguments, by stage and classes; none holds a run."""


class UnlearnCLI(LightningCLI):
    """Lightning's command line with merged config files, short errors and two fixed classes.

    `given` holds the merged config files; the options in `overrides` take precedence at any
    position. By default, the run's folder is named after the last of the `files`.
    """

    def __init__(
        self,
        model_class: type[LightningModule],
        data_class: type[LightningDataModule],
        stage: str,
        given: Config,
        overrides: list[str],
        files: Sequence[Path] = (),
    ) -> None:
        self.stage, self.files = stage, files
        self.given, self.overrides = given, overrides
        self.done = 0
        """Number of steps that were done before the run was resumed."""
        self.debug = False
        """Whether a flag of the trainer lets the run write to a temporary folder."""
        merged = ["--config", json.dumps(given.values, default=str)] if given.values else []
        with ExitStack() as self.closing:
            super().__init__(
                model_class,
                data_class,
                trainer_class=UnlearnTrainer,
                args=[stage, *merged, *overrides],
                seed_everything_default=0,
                auto_configure_optimizers=False,  # it would run before sharded parameters exist
                load_from_checkpoint_support=False,  # no module saves hyperparameters
                save_config_callback=RunConfig,
                save_config_kwargs={"text": lambda: self.text},
                trainer_defaults={
                    "use_distributed_sampler": False,  # the step plan divides rows among ranks
                    "enable_model_summary": False,  # it repeats the line about the student
                },
                parser_kwargs={
                    "prog": "lit-unlearn",
                    "exit_on_error": False,
                    "allow_abbrev": False,
                },
            )

    def setup_parser(
        self, add_subcommands: bool, main_kwargs: dict[str, Any], subparser_kwargs: dict[str, Any]
    ) -> None:
        """Set up the parser of the stage, once for all runs of a process; it takes 0.3 s."""
        key = (self.stage, self._model_class, self._datamodule_class)
        if key not in _PARSERS:
            super().setup_parser(add_subcommands, main_kwargs, subparser_kwargs)
            found = (self.parser, self._subcommand_parsers, self._subcommand_method_arguments)
            _PARSERS[key] = found
        self.parser, self._subcommand_parsers, self._subcommand_method_arguments = _PARSERS[key]

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]  # is called on it
        """Return the stage with the arguments of the trainer's method that are not options."""
        return {self.stage: LightningCLI.subcommands()[self.stage] | {"return_predictions"}}

    @cached_property
    def text(self) -> str:
        """The whole config in YAML."""
        return config_text(self._parser(self.stage), self.config[self.stage])

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Give the seed of the run to the data as well; `predict` has options of its own."""
        if self.stage == "predict":
            parser.add_lightning_class_args(PredictionFile, "replies")
        parser.link_arguments("seed_everything", "data.seed", compute_fn=_seed)

    def parse_arguments(self, parser: LightningArgumentParser, args: ArgsType) -> None:
        """Parse the command line; errors name the place of a mistake, and its repair."""
        inner = self._subcommand_parsers[self.stage]
        check_keys(self.given, inner)
        given = list(args or ())
        if self.stage == "validate":  # Lightning would print a column for each objective
            inner.set_defaults({"verbose": False})
        try:  # the outer parser would check everything again
            if any(option.split("=")[0] == _PRINT for option in self.overrides):
                parser.parse_args(given)  # prints the config and ends the process
            options = plain(inner.parse_args(given[1:]))
        except ArgumentError as error:
            raise InputError(explain(str(error), inner, self.given, self.overrides)) from None
        check_number("seed_everything", _seed(options.seed_everything), 0, 2**32 - 1)
        trainer = options.trainer
        trainer.default_root_dir = str(trainer.default_root_dir or default_folder(self.files))
        self.config = Namespace(subcommand=self.stage, **{self.stage: options})

    def _parse_ckpt_path(self) -> None:
        """Find the checkpoint; Lightning would replace options by the settings stored in it."""
        find_given(self.config[self.stage])

    def before_fit(self) -> None:
        """Check that rows and model exist, and report everything that is missing at once."""
        if self.stage in ("test", "predict"):
            check_strategy(self.trainer)
        else:
            check = check_run if self.stage == "fit" else check_parts
            check(self.trainer, self.model, self.datamodule)
        if self.stage != "fit":  # no checkpoint is written
            warnings.filterwarnings("ignore", message="The dirpath has changed")
        missing = []
        for check in (self.datamodule.prepare_data, self.model.prepare_data):
            try:
                check()
            except InputError as error:
                missing.append(str(error))
        if missing:
            hint = "A run that needs no hub: lit-unlearn fit --config configs/quickstart.yaml"
            raise InputError("\n".join([*missing, hint] if "hub" in missing[-1] else missing))
        if self.trainer.is_global_zero:
            self._print_start()

    def _print_start(self) -> None:
        """Print the precision and, for training, where files go and what time it takes."""
        places = [] if self.stage != "fit" or self.debug else [_places(self.trainer)]
        for line in filter(None, [getattr(self.trainer, "precision_note", ""), *places]):
            print(line, file=sys.stderr)
        if self.stage == "fit":
            print_fit_forecast(self.trainer, self.model, self.datamodule, self.done)

    before_validate = before_fit

    def after_validate(self) -> None:
        """Print the figures."""
        if self.trainer.is_global_zero:
            terminal().print(validation_table(self.trainer.callback_metrics))

    def before_test(self) -> None:
        """Check that a callback evaluates, and that rows and model exist."""
        from lit_unlearn.callbacks import SuiteEvaluation

        trainer: Any = self.trainer
        if not any(isinstance(callback, SuiteEvaluation) for callback in trainer.callbacks):
            raise InputError(
                "trainer.callbacks: `lit-unlearn test` needs a SuiteEvaluation, found none; add "
                "{class_path: SuiteEvaluation, init_args: {suites: {boundary: Boundary}}}"
            )
        self.before_fit()

    def before_predict(self) -> None:
        """Check the questions and the file of the replies, and that rows and model are there."""
        callbacks: list[Any] = self.trainer.callbacks  # type: ignore[attr-defined]
        for callback in callbacks:
            if isinstance(callback, PredictionFile):
                callback.check(self.trainer, self.datamodule)
        self.before_fit()

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Trainer:
        """Make the trainer, with a TensorBoard logger unless the config says otherwise."""
        config["strategy"] = by_alias(config.get("strategy"))
        if self.stage in ("fit", "validate"):
            callbacks = with_step_lines(config, callbacks)
        if self.stage == "predict":  # it has a bar of its own, and nothing to log
            config |= {"logger": False, "enable_progress_bar": False}
        self._prepare(config)
        try:
            return super()._instantiate_trainer(config, callbacks)
        except (ValueError, MisconfigurationException) as error:
            raise InputError(unknown_strategy(config) or f"trainer: {one_line(error)}") from error

    def _prepare(self, config: dict[str, Any]) -> None:
        """Check the run's folder, and give the trainer its checkpoint and its logger."""
        config["callbacks"] = as_list(config.get("callbacks"))
        saved = None
        self.debug = divert_debug(config, self.closing)
        if not self.debug:
            config["default_root_dir"] = str(local_path(config["default_root_dir"]))
            if is_first() and self.stage != "predict":
                check_run_folder(config, self.stage, self.text, self.datamodule, self.files)
            if self.stage == "fit":
                options = self.config_init["fit"]
                given = options.get("ckpt_path")
                saved = make_resumable(config, run_settings(self.text), given, self.closing)
                if saved is not None:
                    options["ckpt_path"], self.done = str(saved.state), saved.step
        if config.get("logger") in (None, True):
            config["logger"] = run_logger(config["default_root_dir"], saved)


def _places(trainer: Any) -> str:
    """Return a line that says where a run writes its files and curves."""
    root = trainer.default_root_dir
    curves = any(isinstance(logger, TensorBoardLogger) for logger in trainer.loggers)
    return f"Files: {root}{f'; curves: tensorboard --logdir {root}' * curves}"


def _seed(value: bool | int) -> int:
    """Return the seed of the data; as in Lightning, true and false give 0."""
    return 0 if isinstance(value, bool) else value
