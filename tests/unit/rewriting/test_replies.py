"""Replies are read as the reference implementation of JSON schemas reads them."""

from __future__ import annotations

import copy
import random
from typing import Any

import jsonschema
import pytest

from lit_unlearn.rewriting.prompts import PAIRS, RATING, SUPPORT, TRUTH
from lit_unlearn.rewriting.replies import read_reply, violation

GOOD: list[tuple[Any, Any]] = [
    (RATING, {"rating": 3}),
    (PAIRS, {"pairs": [{"question": "a", "answer": "b"}, {"question": "", "answer": "c"}]}),
    (PAIRS, {"pairs": []}),
    (SUPPORT, {"clear": True, "supported": False}),
    (TRUTH, {"clear": False, "true": True}),
]
JUNK: list[Any] = [None, 1, 3.0, True, "3", "true", [], {}, {"rating": 9}, [{"question": 1}]]


def spoilt(value: Any, chance: random.Random) -> Any:
    """The value with one part of it replaced, removed or added to."""
    value = copy.deepcopy(value)
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys = node.keys() if isinstance(node, dict) else range(len(node))
        for key in keys:
            places.append((node, key))
            if isinstance(node[key], dict | list):
                walk(node[key])

    walk(value)
    node, key = chance.choice(places)
    action = chance.randrange(3)
    if action == 0:
        node[key] = copy.deepcopy(chance.choice(JUNK))
    elif action == 1:
        del node[key]
    elif isinstance(node, dict):
        node["more"] = 1
    else:
        node.append(chance.choice(JUNK))
    return value


def test_schemas_mean_what_they_mean_elsewhere() -> None:
    chance = random.Random(0)
    refused = 0
    for _ in range(300):
        schema, good = chance.choice(GOOD)
        value = spoilt(good, chance) if chance.random() < 0.8 else good
        expected = jsonschema.Draft202012Validator(schema).is_valid(value)
        if any(isinstance(v, float) for v in [value, *getattr(value, "values", list)()]):
            continue  # 3.0 is an integer there, not here: no model needs it
        assert (violation(value, schema) == "") == expected, value
        refused += not expected
    assert 100 < refused < 290


@pytest.mark.parametrize(
    ("text", "rating", "problem"),
    [
        ('{"rating": 3}', 3, ""),
        ('Sure!\n```json\n{"rating": 3}\n```\nDone {', 3, ""),
        ('{"rating": 3', None, "broken JSON"),
        ("3", None, "no JSON object"),
        ("", None, "no JSON object"),
        ('{"rating": "3"}', None, "reply.rating should be integer, found '3'"),
        ('{"rating": 7}', None, "one of [1, 2, 3, 4, 5]"),
        ('{"score": 3}', None, "keys rating, found score"),
        ("{" * 100_000, None, "broken JSON"),
        ('{"rating": ' + "1" * 5000 + "}", None, "broken JSON"),
        ('{"rating": "\\ud83d"}', None, "broken JSON"),
        ('{"rating": "\ud83d"}', None, "broken JSON"),
    ],
)
def test_what_is_around_a_reply_does_not_matter(
    text: str, rating: int | None, problem: str
) -> None:
    value, found = read_reply(text, RATING)
    assert (value or {}).get("rating") == rating
    assert problem in found
    assert bool(problem) == bool(found)
