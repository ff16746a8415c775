"""One request of OpenAI's chat-completions protocol, with a deadline."""

import json
import re
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any

import requests
from urllib3.exceptions import HTTPError

from lit_unlearn.rewriting.journal import Reply

__all__ = ["NoAnswerError", "Pace", "bearer", "parse", "request"]

_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 529})
"""Statuses after which the same request may succeed."""
_ALONE = frozenset({400, 413, 422})
"""Statuses that may be due to one question: it is too long, or a filter refuses it."""
_LARGEST_BODY = 4_000_000  # bytes of a response
_CHUNK = 65_536


class NoAnswerError(Exception):
    """A request that failed; the reason does not contain the key.

    Attributes:
        again: Whether the same request may succeed later.
        wait: Seconds that the server asks to wait.
        alone: Whether only this question may have caused the failure.
    """

    def __init__(
        self, reason: str, *, again: bool = True, wait: float | None = None, alone: bool = False
    ) -> None:
        super().__init__(reason)
        self.again = again
        self.wait = wait
        self.alone = alone


class Pace:
    """Rate limit that starts the requests of all threads at equal intervals."""

    def __init__(self, per_minute: float | None) -> None:
        self._interval = 60 / per_minute if per_minute else 0.0
        self._next = 0.0
        self._lock = threading.Lock()

    def wait(self, stop: threading.Event) -> bool:
        """Wait until the next request may start, or `stop` is set; return whether it is set."""
        if not self._interval or stop.is_set():
            return stop.is_set()
        with self._lock:
            now = time.monotonic()
            at = max(now, self._next)
            self._next = at + self._interval
        return stop.wait(at - now)


def bearer(key: str) -> Callable[[requests.PreparedRequest], requests.PreparedRequest]:
    """Return a function that adds the key to a request, so that none is taken from ~/.netrc."""

    def with_key(request: requests.PreparedRequest) -> requests.PreparedRequest:
        if key:
            request.headers["Authorization"] = f"Bearer {key}"
        return request

    return with_key


def request(
    session: requests.Session, address: str, body: Mapping[str, Any], timeout: float
) -> Reply:
    """Send one request, without retries.

    ``timeout`` is in seconds, until the last byte of the response.

    Raises:
        NoAnswerError: The request did not succeed.
    """
    start = time.monotonic()
    try:
        with session.post(
            address, json=body, timeout=timeout, stream=True, allow_redirects=False
        ) as response:
            content = _read(response, start + timeout)
    except (requests.RequestException, HTTPError, TimeoutError) as error:
        raise NoAnswerError(f"{type(error).__name__}: {error}") from None
    status = response.status_code
    if status == requests.codes.ok:
        return parse(content, time.monotonic() - start)
    wait = response.headers.get("Retry-After", "")
    raise NoAnswerError(
        f"status {status}: {_one_line(content)}",
        again=status in _AGAIN,
        wait=float(wait) if re.fullmatch(r"\d+(\.\d+)?", wait) else None,
        alone=status in _ALONE,
    )


def _read(response: requests.Response, deadline: float) -> bytes:
    """Return the body, read before the deadline; `requests` only limits the time between bytes."""
    content = b""
    while chunk := response.raw.read1(_CHUNK, decode_content=True):
        content += chunk
        if time.monotonic() > deadline:
            raise TimeoutError("the response took too long")
        if len(content) > _LARGEST_BODY:
            raise TimeoutError("the response does not end")
    return content


def parse(content: bytes, seconds: float) -> Reply:
    """Return the first choice of the completion in a response's body.

    Raises:
        NoAnswerError: The body is not a completion but, for example, a proxy's error page.
    """
    try:
        body = json.loads(content)
        choice = body["choices"][0]
        used = body.get("usage") or {}
        return Reply(
            str(choice["message"]["content"] or ""),
            seconds,
            int(used.get("prompt_tokens") or 0),
            int(used.get("completion_tokens") or 0),
            str(body.get("id") or ""),
            choice.get("finish_reason") == "length",
        )
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError, RecursionError):
        raise NoAnswerError(f"no chat completion: {_one_line(content)}") from None


def _one_line(content: bytes) -> str:
    return " ".join(content.decode("utf-8", "replace").split())[:300] or "an empty body"
