"""Local paths as users write them."""

import errno
import os
import re
from pathlib import Path

from lit_unlearn.errors import InputError

__all__ = ["local_path", "overlap", "read_file"]

_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})")


def local_path(path: str | Path) -> Path:
    """Return a path with `~` and environment variables replaced.

    Every command and option passes its local paths through this function. A relative path stays
    relative to the working folder.

    Raises:
        InputError: A variable is not set, a user has no home, or the path is an address (`s3://`).
    """
    text = os.fspath(path)
    if re.match(r"\w+:/", text):
        raise InputError(
            f"Path {text} should be in a local folder. Found an address; give a folder, and copy "
            "it there afterwards."
        )
    expanded = os.path.expanduser(os.path.expandvars(text))  # noqa: PTH111 - no error of its own
    unset = _VARIABLE.search(expanded)
    if unset is not None and not os.path.lexists(expanded):
        raise InputError(
            f"Path {text} should name variables that are set. Found {unset[0]} without a value; "
            "set it, or write the folder out."
        )
    if expanded.startswith("~"):
        raise InputError(
            f"Path {text} should begin with the home of a user. Found no home of "
            f"{Path(expanded).parts[0]}; write the folder out, or ./{text}."
        )
    return Path(expanded)


def overlap(target: Path, other: Path) -> bool:
    """Return whether two paths are equal or one is inside the other; resolve symbolic links."""
    # `Path.resolve` fails at a link that leads to itself
    first, second = (Path(os.path.realpath(each)) for each in (target, other))
    return first.is_relative_to(second) or second.is_relative_to(first)


def read_file(path: Path) -> bytes:
    """Return the bytes of a file.

    Raises:
        OSError: It cannot be read, or is something else than a file: a named pipe would wait.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise OSError(errno.EINVAL, "Not a regular file", str(path))
    return path.read_bytes()
