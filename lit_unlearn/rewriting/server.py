"""Servers with OpenAI's chat-completions protocol: OpenAI, vLLM, llama.cpp and others."""

import os
import random
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal, TypeVar

import requests

from lit_unlearn.errors import InputError, check_number
from lit_unlearn.rewriting.backends import RETRY_TEMPERATURE, Backend
from lit_unlearn.rewriting.journal import Reply
from lit_unlearn.rewriting.prompts import Ask
from lit_unlearn.rewriting.protocol import NoAnswerError, Pace, bearer, request

__all__ = ["Server", "T", "request_body"]

T = TypeVar("T")
_LONGEST_WAIT = 60.0
_SPARED = 9
"""Questions that may be refused before the first reply; if more are, the settings are wrong."""
_jitter = random.Random()  # not the global generator, which a seed of the user may govern


@dataclass
class Server(Backend):
    """A server with OpenAI's chat-completions protocol.

    The key is read from an environment variable, and is sent only in the header of requests.

    Args:
        model: The model's name on the server.
        url: Base address; requests go to `<url>/chat/completions`.
        key_variable: Environment variable that holds the key; your own servers need none.
        structured: Request for the form of the reply: a JSON schema, JSON of any form, or none for
            a server that knows neither. The form is checked in every case.
        concurrency: Number of simultaneous requests.
        requests_per_minute: Largest number of requests per minute, with retries; null for no limit.
        timeout: Seconds for one request, from its start to the last byte of its response.
        retries: Largest number of repetitions of a request after a timeout, a broken connection, or
            a status such as 429 or 5xx. The server may set the wait before each; otherwise it
            doubles from `first_wait` on. It is a minute at most.
        first_wait: Seconds before the first repetition.
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
                "form, or a name or password in it; put a key into the variable `key_variable`."
            )
        self.parallel = self.concurrency
        self._pace = Pace(self.requests_per_minute)

    @property
    def name(self) -> str:
        return self.model

    def identity(self) -> str:
        # without the address, which changes when a server is restarted
        return f"{self.model} {self.structured} {sorted(self.body.items())}"

    def cost(self, prompt_tokens: float, reply_tokens: float) -> float | None:
        if self.price_prompt is None or self.price_reply is None:
            return None
        return (prompt_tokens * self.price_prompt + reply_tokens * self.price_reply) / 1e6

    def least_seconds(self, calls: int) -> float:
        return 60 * calls / self.requests_per_minute if self.requests_per_minute else 0.0

    def ask(self, asks: Sequence[Ask], attempt: int) -> Iterator[dict[int, Reply]]:
        """Yield replies in the order in which they arrive.

        After an error no more requests are sent, but replies to earlier ones are still yielded. A
        refused question is left out if the server has answered any other question.
        """
        failure: BaseException | None = None
        stop = threading.Event()
        spared = threading.Semaphore(min(_SPARED, len(asks[1:])))

        def reply_to(index: int) -> Reply | None:
            return self._reply(session, request_body(self, asks[index], attempt), stop, spared)

        with self._session() as session, ThreadPoolExecutor(self.concurrency) as pool:
            try:
                for index, job in _completed(pool, reply_to, len(asks), self.concurrency, stop):
                    failure = failure or job.exception()
                    reply = None if job.exception() else job.result()
                    if reply is not None:
                        yield {index: reply}
            finally:  # an interrupt ends the loop too
                stop.set()
        if failure is not None:
            raise failure

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.auth = bearer(self._key())
        for scheme in ("http://", "https://"):
            session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=self.concurrency))
        return session

    def _reply(
        self,
        session: requests.Session,
        body: dict[str, Any],
        stop: threading.Event,
        spared: threading.Semaphore,
    ) -> Reply | None:
        """Return one reply, after retries; None if the server refuses this question."""
        address = f"{self.url.rstrip('/')}/chat/completions"
        for number in range(self.retries + 1):
            if self._pace.wait(stop):
                break
            try:
                reply = request(session, address, body, self.timeout)
            except NoAnswerError as error:
                if error.alone and (self.proven or spared.acquire(blocking=False)):
                    break
                if not error.again or number == self.retries:
                    stop.set()
                    raise self._unusable(str(error), error.again) from None
                pause = self.first_wait * 2 ** min(number, 16) * _jitter.uniform(0.75, 1.25)
                stop.wait(min(_LONGEST_WAIT, error.wait or pause))
            else:
                self.proven = True
                return reply
        return None

    def _key(self) -> str:
        key = os.environ.get(self.key_variable, "").strip()
        if not re.fullmatch("[!-~]*", key):
            raise InputError(
                f"Environment variable {self.key_variable} should hold a key of visible ASCII "
                "characters. Found a space, a line break or another character in it; set it again."
            )
        return key

    def _unusable(self, reason: str, again: bool) -> InputError:
        key = self._key()
        repair = "correct `backend`"
        repair += "" if key else f", or set the environment variable {self.key_variable}"
        if again:
            repair = f"gave up after {self.retries + 1} attempts; repeat the command later to ask "
            repair += "the unanswered questions"
        return InputError(
            f"Parameter `backend.url` = {self.url} should be a server that answers chat "
            f"completions of {self.model!r}. Found "
            f"{reason.replace(key, '<key>') if key else reason}; {repair}."
        )


def _completed(
    pool: ThreadPoolExecutor, work: Callable[[int], T], count: int, most: int, stop: threading.Event
) -> Iterator[tuple[int, Future[T]]]:
    """Run ``work`` for each index, ``most`` at a time; yield index and future on completion.

    A future counts as running until it is yielded. After ``stop`` is set no work is started.
    """
    waiting = iter(range(count))
    jobs: dict[Future[T], int] = {}
    while True:
        for index in islice(waiting, 0 if stop.is_set() else most - len(jobs)):
            jobs[pool.submit(work, index)] = index
        if not jobs:
            return
        for job in wait(jobs, return_when=FIRST_COMPLETED).done:
            yield jobs.pop(job), job


def request_body(server: Server, ask: Ask, attempt: int) -> dict[str, Any]:
    """Return the JSON of one request; a field that the user sets to null is left out."""
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
