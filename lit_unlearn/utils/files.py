"""Where files go: the user's cache; and how: written whole or not at all."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

_NAMES = "EACCES EDQUOT EEXIST EFBIG EIO ENOSPC ENOTDIR EPERM EROFS"
_DISK = {getattr(errno, name) for name in _NAMES.split()}
"""What a disk answers that does not take a file."""


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: a reader sees the old content or the new, never a half.

    Args:
        path: Target; missing folders are made.
        text: Content, written as UTF-8.

    Raises:
        InputError: The disk does not take it; what was there is as it was.
    """
    with writing(path), _beside(path, tempfile.mkstemp) as (temporary, descriptor):
        try:
            with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
                file.write(text)
                file.flush()
                os.fsync(descriptor)
            temporary.chmod(0o644)
            temporary.replace(path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise


@contextmanager
def whole_folder(target: Path) -> Iterator[Path]:
    """A folder to write into, which takes the target's place at the end; after an error it is gone.

    Args:
        target: Missing parents are made; a folder that is there already is replaced.

    Raises:
        InputError: The disk does not take it; what was there is as it was.
    """
    with writing(target), _beside(target, _new_folder) as (temporary, _):
        try:
            yield temporary
            for file in temporary.rglob("*"):
                _sync(file)
            temporary.chmod(0o755)
            replaced = temporary.with_name(f"{temporary.name}.old")
            if target.exists():  # it leaves whole, so that no half of it is ever in its place
                target.replace(replaced)
            temporary.replace(target)
            shutil.rmtree(replaced, ignore_errors=True)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise


def user_cache() -> Path:
    """The user's cache folder: LIT_UNLEARN_CACHE, or ``lit_unlearn`` where caches are kept."""
    own = os.environ.get("LIT_UNLEARN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return (Path(own) if own else Path(shared, "lit_unlearn")).expanduser()


# -------------------------------------------------------------------------- what the disk refuses


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """What the disk refuses becomes one message with the repair.

    Raises:
        InputError: See `refusal`.
    """
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        from lit_unlearn.errors import InputError

        raise InputError(f"{target}: expected to be written, found: {reason}") from error


def refusal(error: Exception) -> str | None:
    """Why a disk did not take a file, with the repair; None for errors of another kind.

    Libraries written in Rust give the number of the system's error in their text; torch raises
    another error when it closes a file that could not be written.
    """
    told = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(told[1]) if told else None
    if number is None or number not in _DISK:
        before = error.__context__
        return refusal(before) if isinstance(before, Exception) else None
    room = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    repair = "make room, or take another folder" if room else "take a folder that can be written to"
    return f"{os.strerror(number)}; {repair}"


def lock_alone(file: IO[Any], folder: Path, what: str) -> None:
    """Keep other processes out of a folder until an open file in it is closed.

    Args:
        file: The folder's file that all of them lock.
        folder: For the message.
        what: What the process does there, for the message.

    Raises:
        InputError: Another process has it.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        from lit_unlearn.errors import InputError

        raise InputError(
            f"Folder {folder}: expected to be the only {what} that writes there, found another "
            "process at work in it; wait for it, or give another folder"
        ) from error


# ------------------------------------------------------------------------ what is not yet in place


@contextmanager
def _beside(target: Path, make: Callable[..., tuple[int, str]]) -> Iterator[tuple[Path, int]]:
    """A temporary file or folder in the target's folder, and its descriptor.

    It is locked as long as it is written, and a lock ends with its process: what is there without
    one was left by a process that was killed, and is removed.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    prefix = f".{target.name}.part."
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        if _lock(folder, fcntl.LOCK_EX):
            _sweep(target.parent, prefix)
        descriptor, name = make(dir=target.parent, prefix=prefix)
        _lock(descriptor, fcntl.LOCK_EX)
    finally:
        os.close(folder)
    try:
        yield Path(name), descriptor
    finally:
        os.close(descriptor)


def _new_folder(**where: object) -> tuple[int, str]:
    name = tempfile.mkdtemp(**where)  # type: ignore[call-overload]
    return os.open(name, os.O_RDONLY), name


def _sync(file: Path) -> None:
    if file.is_file():
        with file.open("rb") as content:
            os.fsync(content.fileno())


def _sweep(folder: Path, prefix: str) -> None:
    """Remove what killed processes have left."""
    for left in folder.glob(f"{glob.escape(prefix)}*"):
        with suppress(OSError):
            descriptor = os.open(left, os.O_RDONLY)
            try:
                if _lock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB):
                    shutil.rmtree(left) if left.is_dir() else left.unlink()
            finally:
                os.close(descriptor)


def _lock(descriptor: int, how: int) -> bool:
    """Whether it could be locked; some network disks lock no folders."""
    try:
        fcntl.flock(descriptor, how)
    except OSError:
        return False
    return True
