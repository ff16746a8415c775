"""Sources of rows, and the place from which the rows of a source are read.

The places are tried in this order: the built-in set, a local file or folder, the data root, the
hub. The first that has the rows is used; only the hub needs a network.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

from lit_unlearn.data.benchmarks import Benchmark, find_benchmark
from lit_unlearn.data.raw_rows import suggestion
from lit_unlearn.data.readers import SUFFIXES, file_type
from lit_unlearn.errors import InputError
from lit_unlearn.types import Domain
from lit_unlearn.utils.paths import local_path

__all__ = ["ROOT_VARIABLE", "Place", "Source", "is_saved", "resolve"]

ROOT_VARIABLE = "LIT_UNLEARN_DATA"
"""Environment variable that names the data root if the config does not."""

_BUILTIN = "builtin:"


@dataclass
class Source:
    """Source of some rows of an objective.

    Args:
        path: Hub id such as `locuslab/TOFU`; or a local folder of the same layout; or a local
            file (.json, .jsonl, .csv, .tsv, .txt, .parquet, each also with .gz); or a folder that
            `save_to_disk` of datasets wrote; or `builtin:forget` or another set of the package.
        config: Configuration of the hub data set, such as `forget10`. In a local folder it selects
            the file `<config>.json`, `<config>_<split>.json` or `<config>/<split>.json` (or .jsonl,
            ...); in a downloaded copy of a hub data set, the files that its README.md names.
        split: Split of the data set; the built-in sets have `train` and `eval`.
        domain: Domain of the rows; null if the data set is a known benchmark or built-in.
        columns: Columns to rename, as `name here: name in the source`, for example
            `question: prompt`. `answer: ""` says that the source has only questions.
        limit: Largest number of rows, taken after `where`, `offset` and `every`; null for all.
        offset: Number of first rows to leave out, after `where`.
        every: Distance between the rows taken after `offset`: 2 takes every second row. It spreads
            the rows over a file that is sorted, by author for example.
        where: Values to keep, for example `subject: [Stephen King]`: only rows whose column has
            one of the listed values are read. The columns have the names of the source.
    """

    path: str
    config: str | None = None
    split: str = "train"
    domain: Domain | None = None
    columns: dict[str, str] = field(default_factory=dict)
    limit: int | None = None
    offset: int = 0
    every: int = 1
    where: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.path.strip():
            raise InputError(
                "Parameter `path` of a source should be a hub id, a file, a folder or "
                "`builtin:<name>`. Found an empty text."
            )
        if self.offset < 0 or self.every < 1 or (self.limit is not None and self.limit < 1):
            raise InputError(
                f"Parameters of source {self.name!r}: `offset` should be at least 0, `every` at "
                f"least 1, and `limit` at least 1 or null. Found {self.offset}, {self.every} and "
                f"{self.limit}."
            )
        empty = [ours for ours, theirs in self.columns.items() if not theirs and ours != "answer"]
        if empty:
            raise InputError(
                f"Parameter `columns` of source {self.name!r} should name a column for "
                f"{empty[0]!r}. Found an empty name, which only `answer` may have."
            )

    @property
    def name(self) -> str:
        """Hub id, configuration and split as one text: ``locuslab/TOFU[forget10/train]``."""
        part = f"{self.config}/{self.split}" if self.config else self.split
        return f"{self.path}[{part}]"


@dataclass(frozen=True)
class Place:
    """Place from which the rows of a source are read."""

    file: Path | Traversable | None
    """File with the rows; None for a copy of a hub data set in `folder`, or for the hub."""
    domain: Domain | None
    """Domain of the rows: `Source.domain`, or that of the known data set."""
    columns: Mapping[str, str] = field(default_factory=dict)
    where: Mapping[str, list[str]] = field(default_factory=dict)
    tried: tuple[Path, ...] = ()
    """Files that were looked for before the hub, the expected one first."""
    note: str = ""
    folder: Path | None = None
    """Downloaded copy of a hub data set, with files that only the hub's client can read."""


def resolve(source: Source, data_root: Path | None = None) -> Place:
    """Find the place from which the rows of a source are read, without reading them.

    Without ``data_root``, the folder that replaces the hub is named by `ROOT_VARIABLE`, if it is
    set. A local file, built-in set or data root that does not exist is an `InputError`.
    """
    local = local_path(source.path)
    root = _data_root(data_root)
    if source.path.startswith(_BUILTIN):
        return _builtin(source)
    if local.is_file():
        return _local_file(source, local)
    if local.is_dir():
        return _local_folder(source, local)
    if file_type(source.path):
        if root is not None and (root / local).is_file():
            return _local_file(source, root / local)
        where = "the working folder" if root is None else f"the working folder or {root}"
        raise InputError(
            f"Parameter `path` of a source names the file {source.path!r}, which should be in "
            f"{where}. Found no such file; correct the path or the data root."
        )
    return _named(source, root)


def _data_root(data_root: Path | None) -> Path | None:
    name = "data_root" if data_root is not None else ROOT_VARIABLE
    given = data_root or os.environ.get(ROOT_VARIABLE)
    if not given:
        return None
    data_root = local_path(given)
    if not data_root.is_dir():
        raise InputError(
            f"Parameter `{name}` should be an existing folder. Found {str(data_root)!r}, which is "
            "not a folder; correct it, or leave it out to read from the hub."
        )
    return data_root


def _builtin(source: Source) -> Place:
    folder = resources.files("lit_unlearn.data").joinpath("builtin")
    name = source.path.removeprefix(_BUILTIN)
    file = folder.joinpath(f"{name}.jsonl")
    if not file.is_file():
        stems = (f.name.removesuffix(".jsonl") for f in folder.iterdir() if ".jsonl" in f.name)
        known = ", ".join(sorted(_BUILTIN + stem for stem in stems))
        raise InputError(
            f"Parameter `path` of a source should be one of the built-in sets {known}. Found "
            f"{source.path!r}{suggestion(source.path, known.split(', '))}."
        )
    where = {"split": [source.split]}
    return Place(file, source.domain or "question_answer", source.columns, where)


def _local_file(source: Source, file: Path) -> Place:
    if file_type(file.name) is None:
        raise InputError(
            f"Parameter `path` of a source should end in one of {', '.join(SUFFIXES)}, with or "
            f"without .gz. Found {source.path!r}; convert the file."
        )
    return Place(file, source.domain, source.columns)


def _local_folder(source: Source, folder: Path) -> Place:
    stems = [folder / source.split]
    if source.config is not None:
        config = folder / source.config
        stems = [config / source.split, config.with_name(f"{config.name}_{source.split}"), config]
    saved = next((f for f in (folder / (source.config or ""), folder) if is_saved(f)), None)
    tried = (file for stem in stems for file in _files(stem))
    found = None if saved else next((file for file in tried if file.is_file()), None)
    copy = saved or (folder if found is None and _is_hub_copy(folder) else None)
    if copy is not None:
        return Place(None, source.domain, source.columns, folder=copy)
    if found is None:
        looked = ", ".join(str(stem.relative_to(folder)) for stem in stems)
        raise InputError(
            f"Folder {source.path!r} should hold one of {looked} with one of the suffixes "
            f"{', '.join(SUFFIXES)} (also with .gz). Found none of them; correct `path`, "
            "`config` or `split`."
        )
    return _local_file(source, found)


def is_saved(folder: Path) -> bool:
    """Return whether a folder was written by ``save_to_disk`` of datasets."""
    return (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()


def _is_hub_copy(folder: Path) -> bool:
    """Return whether a folder holds parquet files, or a README.md that names its data files."""
    readme = folder / "README.md"
    says = readme.is_file() and "data_files:" in readme.read_text("utf-8", errors="replace")
    return is_saved(folder) or says or next(folder.rglob("*.parquet"), None) is not None


def _files(stem: Path) -> list[Path]:
    names = [stem.name + suffix + gz for suffix in SUFFIXES for gz in ("", ".gz")]
    return [stem.with_name(name) for name in names]


def _named(source: Source, root: Path | None) -> Place:
    """Return the place of a hub id: the file of that name in the data root, or the hub."""
    known = find_benchmark(source.path, source.config, source.split)
    tried = _root_files(source, known, root) if root is not None else ()
    found = next((file for file in tried if file.is_file()), None)
    copy = root / source.path if root is not None and found is None else None
    folder = copy if copy is not None and copy.is_dir() and _is_hub_copy(copy) else None
    if known is None:
        return Place(found, source.domain, source.columns, tried=tried, folder=folder)
    partial = root is not None and found == root / known.file
    return Place(
        found,
        source.domain or known.domain,
        {**known.columns, **source.columns},
        known.where,
        tried,
        known.note if partial else "",
        folder,
    )


def _root_files(source: Source, known: Benchmark | None, root: Path) -> tuple[Path, ...]:
    generic = root.joinpath(source.path, source.config or "", source.split)
    first = [root / known.file] if known else []
    return (*first, *_files(generic))
