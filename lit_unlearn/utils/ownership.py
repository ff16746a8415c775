"""Protection of the user's files: only files that the package wrote, unchanged since, are replaced.

Each output folder has a marker, `.lit_unlearn.json`, with the SHA-256 of every file that was
written. The digest of a new file is added before the file replaces the old one, so that both are
known if the process is killed between the two steps.
"""

import json
import logging
import os
import shutil
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.utils.atomic import whole_file, whole_folder
from lit_unlearn.utils.digests import checked_text, file_digest, read_checked_json
from lit_unlearn.utils.disk import writing
from lit_unlearn.utils.locks import lock_open, opened
from lit_unlearn.utils.paths import overlap

__all__ = ["MARKER"]
__all__ += [
    "check_reads",
    "check_targets",
    "claim",
    "clear",
    "free_name",
    "is_foreign",
    "own_file",
    "own_folder",
]
__all__ += ["record", "write_text"]

MARKER = ".lit_unlearn.json"
_ANY = "*"
"""Digest of a file that is being written, such as the output of a process."""

_OF_FILES = (".html", ".json", ".jsonl", ".txt", ".yaml")
"""Suffixes of files that commands write."""
_KEPT = 4
"""Number of digests of one file that are kept, the latest first."""

log = logging.getLogger(__name__)

Written = dict[str, list[str]]
"""Digests that a file may have, by its name in the folder."""


# ---------------------------------------------------------------------------------------- writing


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; see `own_file`."""
    with own_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def own_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces the target at the end.

    Raises:
        InputError: The disk refuses it, or the target is a file of the user.
    """
    with whole_file(target) as temporary:
        yield temporary
        _refuse([target])
        record(target, file_digest(temporary))


@contextmanager
def own_folder(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder, which replaces the target at the end.

    Raises:
        InputError: The disk refuses it, or the target contains a file of the user.
    """
    with whole_folder(target) as temporary:
        yield temporary
        _refuse([target])
        for folder in {file.parent for file in temporary.rglob("*") if file.is_file()}:
            files = [file for file in folder.iterdir() if file.is_file() and file.name != MARKER]
            _write(folder, {file.name: [file_digest(file)] for file in files})


def claim(file: Path) -> None:
    """Record that a file is the package's, whatever its content; refuse a user's file."""
    _refuse([file])
    record(file, _ANY)


def record(file: Path, digest: str | None = None) -> None:
    """Add a file to the marker of its folder; ``digest`` is that of a file that will replace it."""
    with _locked(file.parent):
        written = _read(file.parent)
        if digest is None:
            written[file.name] = [file_digest(file)]
        else:
            now = [file_digest(file)] if file.is_file() else []
            # two commands at once may both have noted a digest before either file is in place
            earlier = [old for old in written.get(file.name, []) if old != _ANY]
            written[file.name] = list(dict.fromkeys([digest, *now, *earlier]))[:_KEPT]
        _write(file.parent, written)


def clear(path: Path) -> None:
    """Remove a file or folder that the package wrote; rename any other one to a `free_name`."""
    if not os.path.lexists(path):
        return
    if is_foreign(path):
        path.rename(free_name(path))
    elif path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()


def free_name(path: Path) -> Path:
    """Return the first numbered name that does not exist, such as ``config.yaml.1``."""
    number = 1
    while os.path.lexists(free := path.with_name(f"{path.name}.{number}")):
        number += 1
    return free


# --------------------------------------------------------------------------------------- checking


def is_foreign(path: Path) -> bool:
    """Return whether a path exists that the package did not write, or that was changed since.

    A folder is foreign if any file in it is, or if it is empty and in the place of a file. A
    pattern (``*.ckpt``) that is not claimed is foreign if any matching file is.
    """
    if path.is_symlink():
        return True
    if "*" in path.name and path.name not in _read(path.parent):
        return any(map(is_foreign, path.parent.glob(path.name)))
    if path.is_dir():
        inside = list(path.iterdir())
        wrong = not inside and path.suffix in _OF_FILES
        return wrong or any(is_foreign(each) for each in inside if each.name != MARKER)
    if not path.is_file():
        return path.exists()
    digests = _read(path.parent).get(path.name, [])
    return _ANY not in digests and (not digests or file_digest(path) not in digests)


def check_targets(
    folder: Path, targets: Iterable[Path], reads: Iterable[Path], option: str
) -> None:
    """Check before anything is loaded that a command will not replace a file of the user.

    Args:
        folder: Output folder of the command.
        targets: Files and folders that it will write or replace.
        reads: Files and folders that it reads.
        option: Option that names the folder, for the message.

    Raises:
        InputError: A target is not the package's, or is read; or a folder is a file.
    """
    targets = list(targets)
    for place in dict.fromkeys([folder, *(each.parent for each in targets)]):
        blocked = [p for p in (place, *place.parents) if os.path.lexists(p) and not p.is_dir()]
        if blocked:
            raise InputError(
                f"{option} {folder} should be a folder. Found a file in its place: "
                f"{blocked[0]}; give another folder."
            )
    check_reads(folder, targets, reads, option)
    for target in filter(_is_model, targets):
        _set_aside(target)
    for place in dict.fromkeys(each.parent for each in targets):
        _adopt(place, [each.name for each in targets if each.parent == place])
    _refuse(targets, folder, option)


def check_reads(
    folder: Path, targets: Collection[Path], reads: Iterable[Path], option: str
) -> None:
    """Check that a command will not replace or move what it reads; see `check_targets`."""
    for read in reads:
        if any(overlap(target, read) for target in targets):
            raise InputError(
                f"Folder {folder} should hold nothing that the command reads. Found {read}, which "
                f"it reads and would replace or write into; give another folder with {option}."
            )


def _refuse(targets: Iterable[Path], folder: Path | None = None, option: str = "") -> None:
    foreign = [each for each in targets if is_foreign(each)]
    if not foreign:
        return
    folder = folder or foreign[0].parent
    names = [str(each).removeprefix(f"{folder}/") for each in foreign]
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    repair = f"give another folder with {option}" if option else "give another folder"
    raise InputError(
        f"Folder {folder} should have no file of yours under the name of an output. Found "
        f"{', '.join(names[:3])}{more}, which lit-unlearn did not write, or which was changed "
        f"since; move it away, or {repair}."
    )


def _adopt(folder: Path, names: Iterable[str]) -> None:
    """Create the marker of results that an earlier version wrote without one.

    The folder of a run is recognised by its checked `preparation.json`, that of an evaluation by
    the keys of its `metrics.json`. `config.yaml`, which users edit, is renamed instead.
    """
    is_run = read_checked_json(folder / "preparation.json") is not None
    if (folder / MARKER).exists() or not (is_run or _is_evaluation(folder)):
        return
    if "config.yaml" in names and (folder / "config.yaml").is_file():
        _set_aside(folder / "config.yaml")
    files = [folder / name for name in names if (folder / name).is_file()]
    _write(folder, {file.name: [file_digest(file)] for file in files if not file.is_symlink()})


def _set_aside(path: Path) -> None:
    aside = free_name(path)
    path.rename(aside)
    log.warning("%s is of an earlier version; it was moved to %s.", path, aside)


def _is_evaluation(folder: Path) -> bool:
    try:
        metrics = json.loads((folder / "metrics.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(metrics, dict) and {"schema_version", "fingerprint"} <= metrics.keys()


def _is_model(folder: Path) -> bool:
    """Return whether a folder is a model without marker that has the package's model card."""
    if not folder.is_dir() or folder.is_symlink() or (folder / MARKER).exists():
        return False
    try:
        return "Made with lit_unlearn" in (folder / "README.md").read_text("utf-8", "replace")
    except OSError:
        return False


# ------------------------------------------------------------------------------------- the marker


def _read(folder: Path) -> Written:
    written = read_checked_json(folder / MARKER)
    found = written if isinstance(written, dict) else {}
    return {name: list(map(str, known)) for name, known in found.items() if isinstance(known, list)}


def _write(folder: Path, written: Written) -> None:
    """Replace the marker; the folder is locked, or no other process knows it."""
    temporary = folder / f"{MARKER}.part"
    with writing(folder / MARKER):
        try:
            with temporary.open("w", encoding="utf-8") as file:
                file.write(checked_text(written))
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(folder / MARKER)
        finally:
            temporary.unlink(missing_ok=True)


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Lock a folder, so that no other process changes its marker."""
    with opened(folder) as descriptor:
        lock_open(descriptor, wait=True)
        yield
