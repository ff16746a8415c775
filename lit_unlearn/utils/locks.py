"""Locks between processes. A lock ends with its process, so a killed process blocks no other.

A lock file stays on the disk, unless its command created the folder and wrote nothing else into it:
then both are removed. filelock detects that a locked file was removed, and locks a new one.
"""

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
    """Folders that were created for the lock file, the innermost first."""

    def release(self) -> None:
        """Release the lock; remove folders that were created for it and have no other content."""
        file = Path(self.held.lock_file)
        with suppress(OSError):  # another process uses the folder
            if self.made and list(self.made[0].iterdir()) == [file]:
                file.unlink()
                for folder in self.made:
                    folder.rmdir()
        self.held.release()


def take_lock(file: Path, user: str, *, again: bool = False) -> Lock:
    """Lock a file, and create its missing folders; the caller releases the lock.

    `user` names the work that takes the lock, for the message. `again` lets this process take a
    lock that it has already.

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
    """Hold the lock of a file in an existing folder; wait for other processes first."""
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

    `wait` waits for a process that has the lock. Some network disks cannot lock folders.
    """
    try:
        return lock_descriptor(descriptor, blocking=wait)
    except OSError:
        return False
