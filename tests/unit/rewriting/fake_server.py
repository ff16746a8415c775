"""A server that speaks the chat-completions protocol, and fails in every way that servers do.

Its replies depend on the request alone, so that runs can be compared. It lives in a process of its
own, forked, and writes one line for each request that arrives.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

KEY = "sk-very-secret"


@dataclass(frozen=True)
class Fake:
    """A running server."""

    url: str
    log: Path

    def seen(self) -> list[dict[str, Any]]:
        """The requests so far: ``name`` (equal for equal bodies), ``status``, ``body``.

        A line that the server is writing just now does not count yet.
        """
        if not self.log.exists():
            return []
        whole = self.log.read_text("utf-8", errors="replace").rpartition("\n")[0]
        return [json.loads(line) for line in whole.splitlines()]


def reply_to(body: dict[str, Any]) -> str:
    """What a well-behaved model says: JSON of the form that the request's schema names."""
    prompt = body["messages"][-1]["content"]
    task = body.get("response_format", {}).get("json_schema", {}).get("name", "write")
    number = int(hashlib.sha256(prompt.encode()).hexdigest()[:6], 16)
    if task == "rate":
        return json.dumps({"rating": 1 if "Lists:" in prompt else 4})
    if task == "judge":
        return json.dumps({"clear": True, "supported": number % 4 != 0})
    if task == "confirm":
        return json.dumps({"clear": True, "true": number % 4 != 0})
    if task == "anchor":
        pairs = [(f"Where does Alma{number}{i} live?", f"In Bern{number}{i}.") for i in "ab"]
    else:
        towns = re.findall(r"(\w+) lives in (\w+)", prompt)
        pairs = [(f"Where does {who} live?", f"{who} lives in {town}.") for who, town in towns]
        pairs.append(("What does he say in the passage?", "Nothing at all."))
    return json.dumps({"pairs": [{"question": q, "answer": a} for q, a in pairs]})


class Handler(BaseHTTPRequestHandler):
    """One request; ``trouble`` says what goes wrong with which, by the number of its arrival."""

    protocol_version = "HTTP/1.1"
    log: Path
    trouble: dict[int, str]
    delay: float
    arrived: int = 0

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        number = Handler.arrived
        Handler.arrived += 1
        time.sleep(self.delay)
        trouble = self.trouble.get(number, "")
        name = hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()[:16]
        line = {"name": name, "status": trouble or "ok", "body": body, "at": time.time()}
        line["key"] = self.headers.get("Authorization", "")
        with self.log.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        if self.path != "/v1/chat/completions":
            self._send(404, {"error": {"message": "no such path"}})
        elif trouble in ("", "malformed", "half", "other form", "cut off"):
            self._send(200, self._completion(body, name, trouble))
        else:
            self._fail(trouble)

    def _completion(self, body: dict[str, Any], name: str, trouble: str) -> dict[str, Any]:
        text, reason = reply_to(body), "stop"
        if trouble == "malformed":
            text = "Sure! Here are the questions: " + text.replace('":', "'=")
        elif trouble in ("half", "cut off"):
            text = text[: len(text) // 2]
            reason = "length" if trouble == "cut off" else "stop"
        elif trouble == "other form":
            text = json.dumps({"questions": [text]})
        else:
            text = f"```json\n{text}\n```"
        message = {"role": "assistant", "content": text}
        return {
            "id": f"chatcmpl-{name}",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": 50, "completion_tokens": len(text) // 4},
        }

    def _fail(self, trouble: str) -> None:
        if trouble == "time-out":
            time.sleep(5)
            self.close_connection = True
        elif trouble == "drips":  # a byte at a time: never silent for long, never done
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            for _ in range(50):
                self.wfile.write(b" ")
                self.wfile.flush()
                time.sleep(0.1)
            self.close_connection = True
        elif trouble == "hangs up":
            self.close_connection = True
        elif trouble == "half a body":
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b'{"choices": [{"mess')
            self.close_connection = True
        elif trouble == "error page":
            self._send(200, b"<html>bad gateway</html>")
        else:
            told = {"error": {"message": f"refused, your key was {KEY}"}}
            self._send(int(trouble), told, {"Retry-After": "0.01"} if trouble == "429" else {})

    def _send(
        self, status: int, content: dict[str, Any] | bytes, more: dict[str, str] | None = None
    ) -> None:
        data = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(data)), **(more or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing on the terminal."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """Clients that give up are part of the tests."""


def _serve(server: _Server, log: Path, trouble: dict[int, str], delay: float) -> None:
    Handler.log, Handler.trouble, Handler.delay, Handler.arrived = log, trouble, delay, 0
    server.serve_forever()


@contextmanager
def fake_server(
    folder: Path, trouble: dict[int, str] | None = None, delay: float = 0.0
) -> Iterator[Fake]:
    """A server in a process of its own.

    Args:
        folder: Where its log goes.
        trouble: What goes wrong with which request, by the number of its arrival.
        delay: Seconds before each response.
    """
    log = folder / "requests.jsonl"
    server = _Server(("127.0.0.1", 0), Handler)
    process = multiprocessing.get_context("fork").Process(
        target=_serve, args=(server, log, trouble or {}, delay)
    )
    process.start()
    try:
        yield Fake(f"http://127.0.0.1:{server.server_address[1]}/v1", log)
    finally:
        if process.pid is not None:
            os.kill(process.pid, signal.SIGKILL)
        process.join()
        server.server_close()
