"""SHA-256 digests of files, texts and JSON values, and JSON files that contain their digest."""

import hashlib
import json
from pathlib import Path
from typing import Any

from lit_unlearn.utils.atomic import write_text

__all__ = ["checked_text", "file_digest", "json_digest", "read_checked_json", "text_digest"]
__all__ += ["write_checked_json"]


def file_digest(file: Path) -> str:
    """Return the SHA-256 of a file's content, in 64 hexadecimal digits."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def text_digest(text: str) -> str:
    """Return the SHA-256 of a text, in 64 hexadecimal digits; it may have lone surrogates."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def json_digest(content: object) -> str:
    """Return the SHA-256 of a JSON value, in 64 hexadecimal digits.

    The order of keys does not matter. Values without a JSON type are converted by ``str``.
    """
    return text_digest(json.dumps(content, sort_keys=True, default=str))


def checked_text(content: object) -> str:
    """Return a JSON value with its digest as JSON; see `read_checked_json`."""
    return json.dumps({"content": content, "sha256": json_digest(content)}, indent=1)


def write_checked_json(file: Path, content: object) -> None:
    """Write a JSON value with its digest; see `read_checked_json`."""
    write_text(file, checked_text(content))


def read_checked_json(file: Path) -> Any:
    """Return the value of a JSON file, or None if it is missing, damaged or without a digest."""
    try:
        marked = json.loads(file.read_bytes())
        return marked["content"] if marked["sha256"] == json_digest(marked["content"]) else None
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None
