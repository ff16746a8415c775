"""Any server that speaks OpenAI's chat-completions protocol: OpenAI, vLLM, llama.cpp and others."""

from __future__ import annotations

import os
import random
import re
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from typing import Any, Literal

import requests

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.rewriting.backends import RETRY_TEMPERATURE, Backend
from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.protocol import Bearer, NoAnswerError, Pace, request

_LONGEST_WAIT = 60.0
_SPARED = 9
"""So many questions may be refused before the first reply; if more are, the settings are wrong."""


@dataclass
class Server(Backend):
    """A server with OpenAI's chat-completions protocol.

    The key is read from an environment variable, goes into the header of the requests, and
    nowhere else.

    Args:
        model: The model's name on the server.
        url: Where the protocol begins; requests go to `<url>/chat/completions`.
        key_variable: Environment variable that holds the key; servers of your own need none.
        structured: How the form of the reply is asked for: a JSON schema, JSON of any form, or
            not at all where a server knows neither. It is checked in every case.
        concurrency: Requests at a time.
        requests_per_minute: Most requests in a minute, retries counted; null for no limit.
        timeout: Seconds for one request, from its start to the last byte of its response.
        retries: How often a request is repeated after a time-out, a broken connection, or an
            answer that says so (429, 5xx), with waits that double from `first_wait` seconds on,
            or as long as the server asks, a minute at most.
        first_wait: See `retries`.
        body: Further fields of each request, such as `{top_p: 0.9}`; null leaves a field out.
        price_prompt: Price of a million prompt tokens, for the estimate.
        price_reply: Price of a million reply tokens.
    """

    model: str
    url: str = "http://localhost:8000/v1"
    key_variable: str = "OPENAI_API_KEY"
    structured: Literal["json_schema", "json_object", "none"] = "json_schema"
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout: float = 120.0
    retries: int = 6
    first_wait: float = 1.0
    body: dict[str, Any] = field(default_factory=dict)
    price_prompt: float | None = None
    price_reply: float | None = None

    def __post_init__(self) -> None:
        check_number("concurrency", self.concurrency, 1)
        check_number("requests_per_minute", self.requests_per_minute, 0, above=True)
        check_number("timeout", self.timeout, 0, above=True)
        check_number("retries", self.retries, 0)
        check_number("first_wait", self.first_wait, 0)
        if not re.match(r"https?://[^/@]+(/|$)", self.url):
            raise InputError(
                "Parameter `backend.url` should be like http://localhost:8000/v1. Found another "
                "form, or a name or password in it; a key belongs into the environment variable "
                "that `backend.key_variable` names."
            )
        self.parallel = self.concurrency
        self._pace = Pace(self.requests_per_minute)
        self._random = random.Random()

    @property
    def name(self) -> str:
        """The model's name on the server."""
        return self.model

    def identity(self) -> str:
        """Model and settings; not the address, which changes when a server is started anew."""
        return f"{self.model} {self.structured} {sorted(self.body.items())}"

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float | None:
        if self.price_prompt is None or self.price_reply is None:
            return None
        return (prompt_tokens * self.price_prompt + reply_tokens * self.price_reply) / 1e6

    def least_seconds(self, calls: int) -> float:
        return 60 * calls / self.requests_per_minute if self.requests_per_minute else 0.0

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Replies in the order in which they come.

        After an error no more requests are sent; replies to those under way are still given. At
        most `concurrency` questions are unanswered, or answered and not yet taken, at a time. A
        question that is refused is left out, if the server has ever answered another.
        """
        key = self._key()
        failure: InputError | None = None
        stop, slots = threading.Event(), threading.Semaphore(self.concurrency)
        spared = threading.Semaphore(min(_SPARED, len(asks[1:])))

        def reply_to(ask: Ask) -> Reply | None:
            slots.acquire()  # so that no more replies wait to be taken than requests are sent
            return self._reply(session, ask, attempt, stop, spared)

        with requests.Session() as session, ThreadPoolExecutor(self.concurrency) as pool:
            adapter = requests.adapters.HTTPAdapter(pool_maxsize=self.concurrency)
            session.mount("http://", adapter)
            session.mount("https://", adapter)
            session.auth = Bearer(key)
            jobs = {pool.submit(reply_to, ask): index for index, ask in enumerate(asks)}
            try:
                for job in as_completed(jobs):
                    try:
                        reply = job.result()
                    except InputError as error:
                        failure = failure or error
                        stop.set()
                    else:
                        if reply is not None:
                            yield {jobs[job]: reply}
                    slots.release()
            finally:  # also when an interrupt ends the loop
                stop.set()
                slots.release(len(jobs) + 1)
        if failure is not None:
            raise failure

    def _reply(
        self,
        session: requests.Session,
        ask: Ask,
        attempt: int,
        stop: threading.Event,
        spared: threading.Semaphore,
    ) -> Reply | None:
        """One reply, with retries; None where the server does not take this question.

        Raises:
            InputError: The server cannot be used.
        """
        wait = self.first_wait
        for left in range(self.retries, -1, -1):
            if self._pace.wait(stop):
                break
            try:
                reply = self._request(session, ask, attempt)
            except NoAnswerError as error:
                if error.alone and (self.proven or spared.acquire(blocking=False)):
                    break
                if not error.again or not left:
                    stop.set()
                    raise self._unusable(str(error), error.again) from None
                jitter = self._random.uniform(0.75, 1.25)
                stop.wait(min(_LONGEST_WAIT, error.wait or wait * jitter))
                wait *= 2
            else:
                self.proven = True
                return reply
        return None

    def _request(self, session: requests.Session, ask: Ask, attempt: int) -> Reply:
        place = f"{self.url.rstrip('/')}/chat/completions"
        return request(session, place, request_body(self, ask, attempt), self.timeout)

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not re.fullmatch("[!-~]*", key):
            raise InputError(
                f"Environment variable {self.key_variable} should hold a key of visible ASCII "
                "characters. Found a space, a line break or another character in it; set it anew."
            )
        return key

    def _unusable(self, reason: str, again: bool) -> InputError:
        key = self._key()
        reason = reason.replace(key, "<key>") if key else reason
        repair = (
            f"gave up after {self.retries + 1} attempts; start the command again later, it goes on "
            "where it was"
            if again
            else "correct `backend`"
            + ("" if key else f", or set the environment variable {self.key_variable}")
        )
        return InputError(
            f"Parameter `backend.url` = {self.url} should be a server that answers chat "
            f"completions of {self.model!r}. Found {reason}; {repair}."
        )


def request_body(server: Server, ask: Ask, attempt: int) -> dict[str, Any]:
    """The JSON of one request."""
    body: dict[str, Any] = {
        "model": server.model,
        "messages": [{"role": turn.role, "content": turn.content} for turn in ask.turns],
        "max_tokens": ask.max_tokens,
        "temperature": RETRY_TEMPERATURE if attempt else 0.0,
        "seed": attempt,
    }
    if server.structured == "json_schema":
        form = {"name": ask.task, "schema": ask.schema, "strict": True}
        body["response_format"] = {"type": "json_schema", "json_schema": form}
    elif server.structured == "json_object":
        body["response_format"] = {"type": "json_object"}
    body |= server.body
    return {name: value for name, value in body.items() if value is not None}
