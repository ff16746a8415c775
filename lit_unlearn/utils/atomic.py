"""Atomic writing: a file or folder appears under its name completely or not at all."""

import glob
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lit_unlearn.utils.disk import writing
from lit_unlearn.utils.locks import lock_open, opened

__all__ = ["sync", "whole_file", "whole_folder", "write_text"]


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8; see `whole_file`."""
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="")


@contextmanager
def whole_file(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary file, which replaces the target at the end.

    A reader sees the old content or the new, never a part. Missing folders are created. After an
    error the temporary file is removed and the target is unchanged.

    Raises:
        InputError: The disk refuses it.
    """
    with writing(target), _temporary(target, Path.touch) as temporary:
        yield temporary
        sync(temporary)
        temporary.replace(target)


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """Yield the path of a temporary folder, which replaces the target as `whole_file` does."""
    with writing(target), _temporary(target, Path.mkdir) as temporary:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                sync(file)
        replaced = temporary.with_name(f"{temporary.name}.old")
        if target.exists():  # moved, not deleted in place: a reader must not see a part of it
            target.replace(replaced)
        temporary.replace(target)
        shutil.rmtree(replaced, ignore_errors=True)


@contextmanager
def _temporary(target: Path, make: Callable[[Path], None]) -> Iterator[Path]:
    """Create a temporary file or folder next to the target, and remove it after an error.

    It is locked while this process uses it. A lock ends with its process, so a temporary file
    without a lock is left from a killed process, and is removed. The parent folder is locked
    meanwhile, so that no other process sees the new file before it is locked.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.part."
    temporary = target.with_name(prefix + secrets.token_hex(8))
    with ExitStack() as held:
        with opened(target.parent) as parent:
            if lock_open(parent, wait=True):
                _remove_abandoned(target.parent, prefix)
            make(temporary)
            lock_open(held.enter_context(opened(temporary)), wait=True)
        try:
            yield temporary
        except BaseException:
            _remove(temporary)
            raise


def _remove_abandoned(folder: Path, prefix: str) -> None:
    for path in folder.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError), opened(path) as descriptor:
            if lock_open(descriptor, wait=False):
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def sync(file: Path) -> None:
    """Wait until a file's content is on the disk."""
    with file.open("rb") as content:
        os.fsync(content.fileno())
