"""One request of OpenAI's chat-completions protocol: sent, read with a deadline, and understood."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Mapping
from typing import Any

import requests
from requests.auth import AuthBase
from urllib3.exceptions import HTTPError

from lit_unlearn.rewriting.journal import Reply

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_OF_THE_REQUEST = frozenset({400, 413, 422})
"""Statuses that may be due to one question alone: too long, or refused by a filter."""
_LARGEST_BODY = 4_000_000  # bytes of a response
_CHUNK = 65_536


class NoAnswerError(Exception):
    """One request did not succeed.

    Args:
        reason: For people, without the key.
        again: Whether the same request may succeed later.
        wait: Seconds that the server asks to wait.
        alone: It may be due to this one question.
    """

    def __init__(
        self, reason: str, *, again: bool, wait: float | None = None, alone: bool = False
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.wait = wait
        self.alone = alone


class Bearer(AuthBase):
    """Puts the key into the header; set explicitly, so that ~/.netrc does not."""

    def __init__(self, key: str) -> None:
        self._key = key

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """The request, with the key."""
        if self._key:
            request.headers["Authorization"] = f"Bearer {self._key}"
        return request


class Pace:
    """Lets requests through at even intervals, whatever the number of threads."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Return when the next request may be sent, or at once on `stop`; whether it was that."""
        if not self._interval or stop.is_set():
            return stop.is_set()
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval
        return stop.wait(at - now)


def request(
    session: requests.Session, place: str, body: Mapping[str, Any], timeout: float
) -> Reply:
    """One request, without retries.

    Args:
        session: Holds the connections and the key.
        place: Address of the chat completions.
        body: Sent as JSON.
        timeout: Seconds until the response begins, and until it ends.

    Raises:
        NoAnswerError: It did not succeed.
    """
    begun = time.monotonic()
    try:
        with session.post(
            place, json=body, timeout=timeout, stream=True, allow_redirects=False
        ) as response:
            content = _read(response, begun + timeout)
    except (requests.RequestException, HTTPError, TimeoutError) as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}", again=True) from None
    status = response.status_code
    if status == requests.codes.ok:
        return _parsed(content, time.monotonic() - begun)
    raise NoAnswerError(
        f"status {status}: {_told(content)}",
        again=status in _AGAIN,
        wait=_retry_after(response.headers),
        alone=status in _OF_THE_REQUEST,
    )


def _read(response: requests.Response, deadline: float) -> bytes:
    """The whole body; the time-out of `requests` alone would allow that long for each byte."""
    content = b""
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the response took too long")
        if len(content) > _LARGEST_BODY:
            raise TimeoutError("the response does not end")
    return content


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds of the header ``Retry-After``; a date in it is not read."""
    value = headers.get("Retry-After", "")
    return float(value) if re.fullmatch(r"\d+(\.\d+)?", value) else None


def _told(content: bytes) -> str:
    """The server's own words about an error, on one line."""
    return " ".join(content.decode("utf-8", "replace").split())[:300] or "no words"


def _parsed(content: bytes, seconds: float) -> Reply:
    """The first choice of a completion.

    A body that is none (half of one, an error page of a proxy) counts as a failed request.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        text = choice["message"]["content"] or ""
        used = body.get("usage") or {}
        return Reply(
            str(text),
            seconds,
            int(used.get("prompt_tokens") or 0),
            int(used.get("completion_tokens") or 0),
            str(body.get("id") or ""),
            choice.get("finish_reason") == "length",
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise NoAnswerError(f"no chat completion: {_told(content)}", again=True) from None
