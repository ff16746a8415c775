"""Locks between processes. A lock ends with its process, so that a killed one blocks nobody.

Lock files stay where they are, but for those of a command that wrote nothing else into a folder
that it made: such a folder is removed with its lock file. filelock notices that a file that it has
locked was removed, and does not take it for a lock.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import BaseFileLock, FileLock, Timeout, lock_descriptor

from lit_unlearn.errors import InputError
from lit_unlearn.utils.disk import writing

__all__ = ["Lock", "lock_open", "locked", "opened", "take_lock"]


@dataclass(frozen=True)
class Lock:
    """Lock that this process holds."""

    held: BaseFileLock
    made: tuple[Path, ...]
    """Folders that were made for the lock file, the innermost first."""

    def release(self) -> None:
        """Release the lock; folders that were made for it, and hold nothing else, are removed."""
        file = Path(self.held.lock_file)
        with suppress(OSError):  # another process is at work there
            if self.made and list(self.made[0].iterdir()) == [file]:
                file.unlink()
                for folder in self.made:
                    folder.rmdir()
        self.held.release()


def take_lock(file: Path, user: str, *, again: bool = False) -> Lock:
    """Lock a file, whose missing folders are made; whoever calls releases the lock.

    `user` is what takes the lock, for the message; `again` lets this process take a lock that it
    has.

    Raises:
        InputError: Another process has the lock, or the disk refuses the file.
    """
    lock = FileLock(file, thread_local=False, is_singleton=again)
    made = tuple(folder for folder in file.parents if not folder.exists())
    with writing(file.parent):
        file.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(
                f"Folder {file.parent} should be used by one {user} at a time. Found another "
                "process that writes there; wait until it has ended, or give another folder."
            ) from error
    return Lock(lock, made)


@contextmanager
def locked(file: Path) -> Iterator[None]:
    """Wait until no other process has the lock of a file in an existing folder, and hold it."""
    lock = FileLock(file)
    with writing(file.parent):
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open a file or folder, so that it can be locked with `lock_open`; close it at the end."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def lock_open(descriptor: int, *, wait: bool) -> bool:
    """Lock an open file or folder until it is closed, and return whether it is locked.

    `wait` waits for a process that has the lock. Some network disks lock no folders.
    """
    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError:
        return False
