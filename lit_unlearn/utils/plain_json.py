"""Strict JSON, which every reader understands: NaN and infinities are ``null``."""

import json
import math
from collections.abc import Mapping

__all__ = ["json_text", "nan_to_null"]


def json_text(content: object, indent: int | None = None) -> str:
    """Return content as strict JSON; objects without a JSON type, such as paths, become text."""
    plain = nan_to_null(content)
    return json.dumps(plain, indent=indent, allow_nan=False, ensure_ascii=False, default=str)


def nan_to_null(value: object) -> object:
    """Return content with None in place of NaN and infinities, at any depth."""
    if isinstance(value, Mapping):
        return {str(key): nan_to_null(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [nan_to_null(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
