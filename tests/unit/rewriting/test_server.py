"""The protocol against a server that fails: what is repeated, what is not, and what never leaks."""

from __future__ import annotations

import threading
import time
from collections import deque
from pathlib import Path

import pytest

from lit_unlearn.errors import InputError
from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask, confirm
from lit_unlearn.rewriting.protocol import NoAnswerError, Pace, parse
from lit_unlearn.rewriting.server import Server, request_body
from lit_unlearn.rewriting.source_texts import QA
from tests.processes import FORKED
from tests.unit.rewriting.fake_server import KEY, Fake, fake_server

pytestmark = FORKED


def questions(count: int) -> list[Ask]:
    return [confirm(QA(f"Where is {number}?", "Here.")) for number in range(count)]


def backend(fake: Fake, **settings: object) -> Server:
    given = {"timeout": 0.4, "first_wait": 0.01, "concurrency": 2, **settings}
    return Server("some-model", fake.url, **given)  # type: ignore[arg-type]


def replies(server: Server, count: int, attempt: int = 0) -> dict[int, Reply]:
    found: dict[int, Reply] = {}
    for part in server.ask(questions(count), attempt):
        assert not part.keys() & found.keys()
        found |= part
    return found


def test_what_may_pass_is_tried_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven failures, one of each kind, and every question has its reply."""
    monkeypatch.setenv("OPENAI_API_KEY", f"{KEY}\n")
    kinds = ["time-out", "drips", "hangs up", "half a body", "error page", "429", "500"]
    with fake_server(tmp_path, dict(enumerate(kinds))) as fake:
        found = replies(backend(fake), 6)
        seen = fake.seen()
    assert sorted(found) == list(range(6))
    assert {line["status"] for line in seen} == {*kinds, "ok"}
    assert len(seen) == 13
    assert {line["key"] for line in seen} == {f"Bearer {KEY}"}
    assert all('"clear": true' in reply.text for reply in found.values())
    assert {(r.prompt_tokens, r.cut) for r in found.values()} == {(50, False)}
    assert all(0 < reply.seconds < 0.4 for reply in found.values())


def test_a_server_that_fails_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What was answered before is given; the error says what to do, and not the key."""
    monkeypatch.setenv("MY_KEY", KEY)
    trouble = dict.fromkeys(range(2, 99), "503")
    with fake_server(tmp_path, trouble) as fake:
        server = backend(fake, retries=2, key_variable="MY_KEY")
        found: dict[int, Reply] = {}
        with pytest.raises(InputError, match=r"status 503: .*gave up after 3 attempts") as error:
            deque(map(found.update, server.ask(questions(20), 0)))
        seen = fake.seen()
    assert len(found) == 2
    assert len(seen) <= 2 + 2 * 3  # two threads, three attempts each, none for the others
    assert KEY not in str(error.value)
    assert "<key>" in str(error.value)
    assert KEY not in repr(server)


@pytest.mark.parametrize("status", ["401", "404"])
def test_what_cannot_pass_is_not_tried_again(tmp_path: Path, status: str) -> None:
    with fake_server(tmp_path, {0: status}) as fake:
        with pytest.raises(InputError, match=f"status {status}.*variable OPENAI_API_KEY"):
            replies(backend(fake, concurrency=1), 3)
        assert len(fake.seen()) == 1


@pytest.mark.parametrize("refused", [0, 1, 2])
def test_one_question_that_is_refused_stops_nothing(tmp_path: Path, refused: int) -> None:
    with fake_server(tmp_path, {refused: "400"}) as fake:
        found = replies(backend(fake, concurrency=1), 3)
        assert len(fake.seen()) == 3
    assert sorted(found) == sorted({0, 1, 2} - {refused})


def test_a_server_that_refuses_everything_is_not_asked_for_ever(tmp_path: Path) -> None:
    """Unless it has answered in an earlier run: then it is left to refuse each."""
    with fake_server(tmp_path, dict.fromkeys(range(99), "400")) as fake:
        for count, asked in ((1, 1), (2, 2), (40, 10)):
            before = len(fake.seen())
            with pytest.raises(InputError, match=r"status 400.*correct `backend`"):
                replies(backend(fake, concurrency=1), count)
            assert len(fake.seen()) - before == asked
        proven = backend(fake, concurrency=1)
        proven.proven = True
        assert replies(proven, 12) == {}


def test_after_a_failure_nobody_waits_for_their_turn() -> None:
    server = Server("m", "http://127.0.0.1:9/v1", requests_per_minute=20, retries=0, concurrency=4)
    begun = time.monotonic()
    with pytest.raises(InputError, match="gave up after 1 attempts"):
        replies(server, 200)
    assert time.monotonic() - begun < 3


@pytest.mark.parametrize("key", ["sk-a\nsk-b", "sk-ключ", "sk a"])
def test_a_key_that_no_header_can_hold(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(InputError, match="variable OPENAI_API_KEY should hold") as error:
        replies(Server("m", "http://127.0.0.1:9/v1", retries=0), 1)
    assert not any(part in str(error.value) for part in ("sk", "ключ"))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 200_000,
        b'{"choices": [{"message": {"content": ""}}], "usage": {"prompt_tokens": 1e999}}',
    ],
)
def test_a_body_that_python_cannot_take_is_a_failed_request(body: bytes) -> None:
    with pytest.raises(NoAnswerError, match="no chat completion"):
        parse(body, 0.0)


def test_the_body() -> None:
    """The protocol's fields; a retry of the form draws, and null takes a field out."""
    (ask,) = questions(1)
    server = Server("m", body={"seed": None, "top_p": 0.9})
    body = request_body(server, ask, attempt=0)
    assert [m["role"] for m in body["messages"]] == ["system", "user"]
    assert (body["model"], body["temperature"], body["top_p"]) == ("m", 0.0, 0.9)
    assert "seed" not in body
    form = body["response_format"]["json_schema"]
    assert form["schema"]["required"] == ["clear", "true"]
    again = request_body(Server("m", structured="none"), ask, attempt=2)
    assert (again["temperature"], again["seed"]) == (0.7, 2)
    assert "response_format" not in again


def test_requests_keep_their_distance() -> None:
    pace, stop = Pace(6000), threading.Event()
    begun = time.monotonic()
    for _ in range(11):
        assert not pace.wait(stop)
    assert 0.1 <= time.monotonic() - begun < 1


def test_an_address_with_a_password_is_refused() -> None:
    with pytest.raises(InputError, match="name or password") as error:
        Server("m", "http://me:secret@host/v1")
    assert "secret" not in str(error.value)
