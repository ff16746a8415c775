"""Salt of a request: the random number by which digests of private content cannot be guessed."""

import hashlib
import os
import re
import secrets
from pathlib import Path

from lit_unlearn.errors import InputError
from lit_unlearn.utils.ownership import own_file
from lit_unlearn.utils.paths import read_file

__all__ = ["SALT", "check_salt", "make_salt", "read_salt", "salted"]

SALT = "salt.txt"
"""File with the salt, 64 hexadecimal digits without a line break."""


def make_salt(folder: Path) -> str:
    """Return the salt of a request's folder; create one if there is none.

    Raises:
        InputError: See `check_salt`.
    """
    file = folder / SALT
    if not os.path.lexists(file):
        with own_file(file) as temporary:
            temporary.chmod(0o600)
            temporary.write_text(secrets.token_hex(32), "ascii")
    check_salt(folder)
    return read_salt(folder) or ""


def check_salt(folder: Path) -> None:
    """Refuse a salt that was changed, such as an empty one, which would hide nothing.

    Raises:
        InputError: There is a file or folder of that name that is no salt.
    """
    file = folder / SALT
    if os.path.lexists(file) and not re.fullmatch(r"[0-9a-f]{64}", read_salt(folder) or ""):
        raise InputError(
            f"File {file} should have 64 hexadecimal digits. Found another content; restore it, or "
            "move it away, and the evidence gets a new one."
        )


def read_salt(folder: Path) -> str | None:
    """Return the content of the salt's file, or None if it cannot be read."""
    try:
        return read_file(folder / SALT).decode("utf-8")
    except (OSError, UnicodeDecodeError):
        return None


def salted(salt: str, content: bytes) -> str:
    """Return the SHA-256 of a salt that is followed by a content."""
    return hashlib.sha256(salt.encode() + content).hexdigest()
