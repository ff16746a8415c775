"""The folder of a run: its name, the files that the run reads and writes, and debug runs."""

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint, OnExceptionCheckpoint
from lightning.pytorch.cli import SaveConfigCallback
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.utilities import rank_zero_only

from lit_unlearn.callbacks import Resumable
from lit_unlearn.callbacks.saved import UNFINISHED
from lit_unlearn.cli.board_session import write_session
from lit_unlearn.cli.config import read_dumped
from lit_unlearn.data.places import resolve
from lit_unlearn.errors import InputError
from lit_unlearn.training.setup.start import STORE
from lit_unlearn.utils.config_files import find_config
from lit_unlearn.utils.debug_flags import debug_flags
from lit_unlearn.utils.ownership import check_targets, claim, write_text
from lit_unlearn.utils.paths import local_path

__all__ = ["CONFIG", "RunConfig"]
__all__ += ["check_run_folder", "config_text", "default_folder", "divert_debug", "is_first"]
__all__ += ["as_list", "paths_of"]

CONFIG = "config.yaml"
_FOLDER = "--trainer.default_root_dir"
_PATH_KEYS = ("path", "reference", "refusals", "openers", "evaluation_prefills", "tokenizer")
"""Keys of a config whose values may be local files or folders that the run reads."""


def default_folder(configs: Sequence[Path]) -> str:
    """Return the default folder of a run, which has the name of the last config."""
    return f"runs/{configs[-1].stem if configs else 'fit'}"


def paths_of(values: object, key: str = "") -> Iterator[tuple[str, Path]]:
    """Yield dotted key and path of the local files and folders that a config names."""
    if isinstance(values, Mapping):
        for name, value in values.items():
            yield from paths_of(value, f"{key}.{name}")
    elif isinstance(values, list):
        for index, value in enumerate(values):
            yield from paths_of(value, f"{key}.{index}")
    elif isinstance(values, str) and any(part in _PATH_KEYS for part in key.split(".")):
        with suppress(InputError, OSError, ValueError):  # the text is not a path, or too long
            path = local_path(values)
            if path.exists():
                yield key.removeprefix("."), path


def check_run_folder(
    trainer: Mapping[str, Any], stage: str, text: str, data: Any, files: Sequence[Path]
) -> None:
    """Check that a run will not replace a file of the user or one that it reads.

    `trainer` are the trainer's arguments, with the run's folder and its callbacks; `text` is the
    whole config in YAML. The sources of the data module and the config files are read.
    """
    values, folder = read_dumped(text), Path(trainer["default_root_dir"])
    # only some files of a folder with rows are read; the data module knows them
    found = paths_of({key: values.get(key) for key in ("model", "data", "trainer")})
    read = [path for key, path in found if path.is_file() or not key.startswith("data.")]
    read += [*_sources(data), *(find_config(local_path(file)) for file in files)]
    targets = [folder / "lightning_logs" / "new"]  # in a folder that Lightning creates
    if stage != "test":
        targets.append(folder / STORE)
    if stage == "fit":
        targets.append(folder / UNFINISHED / "new")
    counted = trainer.get("max_epochs") is None  # the rows of an epoch are not read yet
    steps = (int(trainer.get("max_steps") or 0) if counted else 0) if stage == "fit" else None
    for callback in trainer["callbacks"]:
        targets += callback.writes(folder, steps) if hasattr(callback, "writes") else []
        if getattr(callback, "dirpath", None):
            targets.append(Path(callback.dirpath) / "new")
    targets += _of_lightning(trainer["callbacks"], trainer.get("logger"), trainer.get("profiler"))
    if stage == "fit" and not _holds(folder / CONFIG, text):
        targets.append(folder / CONFIG)
    check_targets(folder, targets, read, _FOLDER)


def _of_lightning(callbacks: Any, loggers: Any, profiler: Any) -> list[Path]:
    """Return the files that Lightning replaces or deletes because their names are fixed."""
    tables = [each for each in as_list(loggers) if isinstance(each, CSVLogger)]
    found = [Path(logger.log_dir) / "metrics.csv" for logger in tables]
    if getattr(profiler, "dirpath", None):
        found.append(Path(profiler.dirpath) / f"fit-{profiler.filename or ''}*.txt")
    for callback in callbacks:
        if isinstance(callback, OnExceptionCheckpoint):
            found.append(Path(callback.ckpt_path))
        elif not getattr(callback, "_enable_version_counter", True) and callback.dirpath:
            found.append(Path(callback.dirpath) / "*.ckpt")
    return [file.expanduser() for file in found]


def _holds(file: Path, text: str) -> bool:
    return file.is_file() and file.read_bytes() == text.encode()


def _sources(data: Any) -> Iterator[Path]:
    """Yield the local files and folders from which rows are read."""
    for spec in getattr(data, "objectives", {}).values():
        parts = [getattr(spec, name, []) for name in ("sources", "evaluation", "validation")]
        for source in (each for part in parts if isinstance(part, list) for each in part):
            with suppress(InputError):  # it is reported when the rows are read
                place = resolve(source, data.data_root)
                yield from (each for each in (place.file, place.folder) if isinstance(each, Path))


def config_text(parser: Any, options: Any) -> str:
    """Return a parsed config in YAML; the checkpoint from which a run starts is not part of it."""
    copied = options.clone()
    copied["ckpt_path"] = None
    return str(parser.dump(copied, skip_unset=False, skip_validation=True))


class RunConfig(SaveConfigCallback):
    """Callback that writes the settings: ``config.yaml``, and a line of TensorBoard's tab HPARAMS.

    Args:
        parser: Parser of the stage.
        config: The parsed options.
        text: Function that returns the whole config in YAML.
    """

    def __init__(self, parser: Any, config: Any, text: Callable[[], str]) -> None:
        super().__init__(parser, config, save_to_log_dir=False)
        self.text = text

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Write the config, except in ``test``, and claim Lightning's files."""
        file, text = Path(trainer.default_root_dir) / CONFIG, self.text()
        if stage == "fit" and not _holds(file, text):
            write_text(file, text)
        parts: Any = trainer
        for own in _of_lightning(parts.callbacks, parts.loggers, parts.profiler):
            own.parent.mkdir(parents=True, exist_ok=True)
            claim(own)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        write_session(trainer, self.text())


def divert_debug(trainer: dict[str, Any], closing: ExitStack) -> bool:
    """Let a debug run write to a temporary folder until `closing`; return whether it is one."""
    flags = debug_flags(trainer)
    if not flags:
        return False
    if is_first():
        print(
            f"Debug run ({', '.join(flags)}): nothing is exported, and nothing in "
            f"{trainer['default_root_dir']} is replaced or deleted; what the run writes is removed "
            "at its end.",
            file=sys.stderr,
        )
    folder = closing.enter_context(TemporaryDirectory(prefix="lit_unlearn_"))
    kept = [each for each in trainer["callbacks"] if not isinstance(each, Checkpoint | Resumable)]
    trainer |= {"default_root_dir": folder, "callbacks": kept, "enable_checkpointing": False}
    trainer["logger"] = False if trainer.get("logger") is False else None
    return True


def as_list(callbacks: Any) -> list[Any]:
    """Return callbacks as a list."""
    if callbacks is None:
        return []
    return callbacks if isinstance(callbacks, list) else [callbacks]


def is_first() -> bool:
    """Return whether this is the first process of the run."""
    return getattr(rank_zero_only, "rank", 0) in (None, 0)
