"""The user's cache folder, and disk errors as messages with a repair."""

import errno
import logging
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.utils.paths import local_path

__all__ = ["refusal", "usable_cache", "user_cache", "writing"]

log = logging.getLogger(__name__)

_NAMES = "EACCES EDQUOT EEXIST EFBIG EIO ENOSPC ENOTDIR EPERM EROFS"
_REFUSALS = {getattr(errno, name) for name in _NAMES.split()}
"""Numbers of the errors with which a disk refuses a file."""


def user_cache() -> Path:
    """Return the user's cache folder.

    It is LIT_UNLEARN_CACHE if that is set, else ``lit_unlearn`` in XDG_CACHE_HOME or ~/.cache.
    """
    own = os.environ.get("LIT_UNLEARN_CACHE")
    shared = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return local_path(own or f"{shared}/lit_unlearn")


def usable_cache(*parts: str) -> Path | None:
    """Return a folder in the user's cache, which is created; None, with a warning, if unusable."""
    folder = user_cache().joinpath(*parts)
    try:
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if not os.access(folder, os.W_OK):
                raise PermissionError(errno.EACCES, "")
    except InputError as error:
        log.warning("Nothing is kept for later runs: %s (LIT_UNLEARN_CACHE)", error)
        return None
    return folder


@contextmanager
def writing(target: Path) -> Iterator[None]:
    """Turn an error of the disk (`refusal`) into an `InputError` with target and repair."""
    try:
        yield
    except Exception as error:
        reason = refusal(error)
        if reason is None:
            raise
        raise InputError(f"{target}: cannot be written: {reason}") from error


def refusal(error: Exception) -> str | None:
    """Return the cause and repair of a disk error, or None for an error of another kind.

    Libraries in Rust write the system's error number into their message. torch raises another
    error while it closes a file that could not be written.
    """
    written = re.search(r"\(os error (\d+)\)", str(error))
    number = error.errno if isinstance(error, OSError) else int(written[1]) if written else None
    if number is None or number not in _REFUSALS:
        before = error.__context__
        return refusal(before) if isinstance(before, Exception) else None
    full = number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
    repair = "make room, or take another folder" if full else "take a folder that can be written to"
    return f"{os.strerror(number)}; {repair}"
