"""Read the value of the requested form from a reply of a model."""

import json
from typing import Any

from lit_unlearn.rewriting.prompts import Schema

__all__ = ["read_reply", "violation"]

_TYPES = {"object": dict, "array": list, "string": str, "integer": int, "boolean": bool}
_DECODER = json.JSONDecoder()


def read_reply(text: str, schema: Schema) -> tuple[Any, str]:
    """Return the first JSON object of a reply and "", or None and the problem.

    Words and code fences around the object are ignored.
    """
    start = text.find("{")
    if start < 0:
        return None, "no JSON object in the reply"
    try:
        value, _ = _DECODER.raw_decode(text, start)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate cannot be written
    except (ValueError, RecursionError) as error:
        return None, f"broken JSON: {error}"
    problem = violation(value, schema)
    return (None, problem) if problem else (value, "")


def violation(value: object, schema: Schema, path: str = "reply") -> str:
    """Return the first difference between a value and a JSON schema, or "".

    The schema consists of ``type``, ``properties``, ``required``, ``additionalProperties: false``,
    ``items`` and ``enum``, which every server with structured output knows. `path` is the value's
    name in the message.
    """
    kind = _TYPES[schema["type"]]
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        return f"{path} should be {schema['type']}, found {value!r:.40}"
    if "enum" in schema and value not in schema["enum"]:
        return f"{path} should be one of {schema['enum']}, found {value!r:.40}"
    parts = schema.get("properties", {})
    if isinstance(value, dict) and value.keys() != parts.keys():  # all of them are required
        names = ", ".join(parts)
        return f"{path} should have the keys {names}, found {', '.join(value) or 'none'}"
    inner: list[tuple[object, Schema, str]] = []
    if isinstance(value, dict):
        inner = [(value[n], part, f"{path}.{n}") for n, part in parts.items()]
    if isinstance(value, list):
        inner = [(v, schema["items"], f"{path}[{i}]") for i, v in enumerate(value)]
    return next(filter(None, (violation(*each) for each in inner)), "")
