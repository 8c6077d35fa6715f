"""A provider in a separate process that costs next to nothing: both protocols, one text a run, thousands of open streams.

A run of the Assistants protocol is streamed, or polled if its request does not ask for a stream.

The stand-in of `assistant_queue.testing` checks every request and keeps everything; that is far
more work than the worker's own. This one answers what a batch without tools needs, from templates,
over plain asyncio. `python -m tests.benchmarks.lean_provider --hold 10` prints its port; `GET
/stats` says what it has seen, `GET /count` the same in two numbers, and `GET /reset?hold=10` starts
again.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import sys
import time
from collections.abc import Callable
from typing import Any

REPLY = "You will have it on Tuesday. Is there anything else?"
WORDS = 8
"""Pieces in which a reply arrives."""
QUESTION = b"Where is my order?"
"""Part of each message of the benchmarks: its occurrences in requests are the messages sent."""

_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: %s\r\n"
_STREAM = _HEAD % b"text/event-stream" + b"transfer-encoding: chunked\r\n\r\n"


def _frame(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()


def _pieces() -> list[str]:
    size = -(-len(REPLY) // WORDS)
    return [REPLY[start : start + size] for start in range(0, len(REPLY), size)]


def _response(**fields: Any) -> dict[str, Any]:
    return {
        "id": "resp_@", "object": "response", "created_at": 1, "background": True, "error": None, "incomplete_details": None,
        "instructions": None, "max_output_tokens": None, "model": "lean", "output": [], "parallel_tool_calls": True,
        "temperature": 1.0, "tool_choice": "auto", "tools": [], "top_p": 1.0, "truncation": "disabled", "metadata": {}, **fields,
    }  # fmt: skip


def _response_frames() -> tuple[bytes, bytes]:
    text = {"type": "output_text", "text": REPLY, "annotations": [], "logprobs": []}
    item = {
        "id": "msg_@",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [text],
    }
    begun = {**item, "status": "in_progress", "content": []}
    where = {"item_id": "msg_@", "output_index": 0, "content_index": 0}
    usage = {"input_tokens": 9, "output_tokens": 9, "total_tokens": 18, "input_tokens_details": {"cached_tokens": 0},
             "output_tokens_details": {"reasoning_tokens": 0}}  # fmt: skip
    started = [
        ("response.created", {"response": _response(status="in_progress")}),
        ("response.in_progress", {"response": _response(status="in_progress")}),
    ]
    ended = [
        ("response.output_item.added", {"output_index": 0, "item": begun}),
        ("response.content_part.added", {**where, "part": {**text, "text": ""}}),
        *(
            ("response.output_text.delta", {**where, "delta": piece, "logprobs": []})
            for piece in _pieces()
        ),
        ("response.output_text.done", {**where, "text": REPLY, "logprobs": []}),
        ("response.content_part.done", {**where, "part": text}),
        ("response.output_item.done", {"output_index": 0, "item": item}),
        (
            "response.completed",
            {"response": _response(status="completed", output=[item], usage=usage)},
        ),
    ]
    numbers = itertools.count()
    first, rest = (
        b"".join(_frame(name, {"type": name, "sequence_number": next(numbers), **data}) for name, data in part)
        for part in (started, ended)
    )  # fmt: skip
    return first, rest


def _a_run(**fields: Any) -> dict[str, Any]:
    return {
        "id": "run_@", "object": "thread.run", "created_at": 1, "thread_id": "thread_@", "assistant_id": "asst", "status": "queued",
        "model": "lean", "instructions": "", "tools": [], "metadata": {}, "required_action": None, "last_error": None, "usage": None,
        **fields,
    }  # fmt: skip


def _message(text: str, **fields: Any) -> dict[str, Any]:
    content = {"type": "text", "text": {"value": text, "annotations": []}}
    return {"id": "msg_@", "object": "thread.message", "created_at": 1, "thread_id": "thread_@", "role": "assistant", "run_id": "run_@",
            "status": "completed", "content": [content], "metadata": {}, **fields}  # fmt: skip


_USAGE = {"prompt_tokens": 9, "completion_tokens": 9, "total_tokens": 18}


def _run_frames() -> tuple[bytes, bytes]:
    run = _a_run()
    message = _message(REPLY)
    started = [
        ("thread.run.created", run),
        ("thread.run.in_progress", {**run, "status": "in_progress"}),
    ]
    deltas = [
        {"content": [{"index": 0, "type": "text", "text": {"value": piece}}]} for piece in _pieces()
    ]
    ended = [
        *(
            (
                "thread.message.delta",
                {"id": "msg_@", "object": "thread.message.delta", "delta": delta},
            )
            for delta in deltas
        ),
        ("thread.message.completed", message),
        ("thread.run.completed", {**run, "status": "completed", "usage": _USAGE}),
    ]
    first, rest = (b"".join(_frame(name, data) for name, data in part) for part in (started, ended))
    return first, rest + b"event: done\ndata: [DONE]\n\n"


class Provider:
    """Requests so far, and the frames of answers; `hold_s` separates a run's start from its text."""

    def __init__(self, hold_s: float) -> None:
        self.hold_s = hold_s
        self.ids = itertools.count(1)
        self.frames = {"resp": _response_frames(), "run": _run_frames()}
        self.messages: dict[str, list[dict[str, Any]]] = {}
        self.connections = self.most_connections = 0
        self.polled: dict[str, float] = {}
        self.holds_back = False
        self.reset()

    def reset(self, hold_s: float | None = None) -> None:
        """Count from here; what is open stays open.

        Args:
            hold_s: Of runs from now on; None leaves it as it is.
        """
        self.hold_s = self.hold_s if hold_s is None else hold_s
        self.open = self.most = 0
        self.requests = self.runs = self.messages_sent = 0
        self.overlaps = 0
        self.running: set[str] = set()
        self.started: dict[str, float] = {}
        self.ended: dict[str, float] = {}

    def response(self, run_id: str) -> dict[str, Any]:
        """A response in the background: in progress as long as all are held back."""
        if self.holds_back:
            return _response(id=run_id, status="in_progress")
        text = {"type": "output_text", "text": REPLY, "annotations": [], "logprobs": []}
        item = {
            "id": f"msg_{run_id}",
            "type": "message",
            "status": "completed",
            "role": "assistant",
            "content": [text],
        }
        return _response(id=run_id, status="completed", output=[item])

    def begin(self, thread: str) -> None:
        """Count a run's start."""
        self.runs += 1
        self.open += 1
        self.most = max(self.most, self.open)
        self.overlaps += thread in self.running
        self.running.add(thread)
        self.started[thread] = time.time()

    def end(self, thread: str) -> None:
        """Count a run's end."""
        self.open -= 1
        self.running.discard(thread)
        self.ended[thread] = time.time()

    def count(self) -> dict[str, Any]:
        """The part of `stats` that does not grow with the runs, for programs that wait."""
        return {"runs": self.runs, "messages_sent": self.messages_sent}

    def stats(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "open": self.open, "most": self.most, "requests": self.requests, "runs": self.runs, "overlaps": self.overlaps,
            "messages_sent": self.messages_sent, "connections": self.connections,
            "most_connections": self.most_connections, "started": self.started, "ended": self.ended,
        }  # fmt: skip


class Connection(asyncio.Protocol):
    """One connection: requests one after another."""

    transport: asyncio.Transport

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._bytes = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        provider = self._provider
        provider.connections += 1
        provider.most_connections = max(provider.most_connections, provider.connections)

    def connection_lost(self, exc: Exception | None) -> None:
        self._provider.connections -= 1

    def data_received(self, data: bytes) -> None:
        self._bytes += data
        while (end := self._bytes.find(b"\r\n\r\n")) >= 0:
            head = self._bytes[:end]
            at = head.lower().find(b"content-length:")
            length = int(head[at + 15 :].split(b"\r\n", 1)[0]) if at >= 0 else 0
            if len(self._bytes) < end + 4 + length:
                return
            body, self._bytes = (
                self._bytes[end + 4 : end + 4 + length],
                self._bytes[end + 4 + length :],
            )
            method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            where, _, query = path.partition("?")
            if not self._control(where, query):
                self._answer(method, where, body)

    def _control(self, path: str, query: str) -> bool:
        """Answer a question of the benchmark's, if it is one."""
        provider = self._provider
        if path in {"/hold-back", "/let-go"}:
            provider.holds_back = path == "/hold-back"
        elif path == "/reset":
            hold = query.partition("hold=")[2]
            provider.reset(float(hold) if hold else None)
        elif path not in {"/stats", "/count"}:
            return False
        self._json(provider.stats() if path == "/stats" else provider.count())
        return True

    def _answer(self, method: str, path: str, body: bytes) -> None:
        provider = self._provider
        provider.requests += 1
        provider.messages_sent += body.count(QUESTION)
        if method == "GET" and "/responses/" in path:
            return self._json(provider.response(path.rsplit("/", maxsplit=1)[-1]))
        if method == "POST" and path.endswith("/responses") and b'"stream"' not in body:
            run_id = f"resp_{next(provider.ids):024d}"
            provider.runs += 1
            return self._json(_response(id=run_id, status="queued"))
        if method == "POST" and path.endswith("/responses"):
            # The conversation, without parsing the body: a provider is not what is measured.
            start = body.find(b'"conversation":"') + 16
            return self._run("resp", body[start : body.find(b'"', start)].decode())
        if method == "POST" and path.endswith("/runs"):
            thread_id = path.split("/")[-2]
            if b'"stream":true' not in body and b'"stream": true' not in body:
                return self._polled_run(thread_id)
            return self._run("run", thread_id, lambda run_id: self._keep(thread_id, run_id, body))
        if method == "POST" and path.endswith(("/conversations", "/threads")):
            kind = "conv" if path.endswith("/conversations") else "thread"
            return self._json(
                {
                    "id": f"{kind}_{next(provider.ids):024d}",
                    "object": kind,
                    "created_at": 1,
                    "metadata": {},
                }
            )
        if method == "POST" and path.endswith("/messages"):
            number = f"msg_{next(provider.ids):024d}"
            return self._json(_message("", id=number, thread_id=path.split("/")[-2], role="user"))
        if method == "GET" and "/runs/" in path:
            return self._poll(*path.split("/")[-3::2])
        shown = provider.messages.get(path.split("/")[-2], []) if path.endswith("/messages") else []
        return self._json(
            {
                "object": "list",
                "data": shown[::-1],
                "has_more": False,
                "first_id": None,
                "last_id": None,
            }
        )

    def _keep(self, thread_id: str, run_id: str, body: bytes) -> None:
        """The messages of a thread's latest run: the backend reads back, once, whether they were taken."""
        shown = [
            {"id": f"msg_{number}", "object": "thread.message", "created_at": 1, "thread_id": thread_id, "status": "completed",
             "run_id": run_id, **message}
            for number, message in enumerate(json.loads(body).get("additional_messages") or ())
        ]  # fmt: skip
        self._provider.messages[thread_id] = shown

    def _run(self, kind: str, thread: str, keep: Callable[[str], None] = lambda _: None) -> None:
        provider = self._provider
        number = f"{next(provider.ids):024d}"
        keep(f"run_{number}")
        first, rest = (
            _chunk(part.replace(b"_@", b"_" + number.encode())) for part in provider.frames[kind]
        )
        provider.begin(thread)

        def end() -> None:
            provider.end(thread)
            self.transport.write(rest + b"0\r\n\r\n")

        if provider.hold_s:
            self.transport.write(_STREAM + first)
            asyncio.get_running_loop().call_later(provider.hold_s, end)
        else:
            self.transport.write(_STREAM + first)
            end()

    def _polled_run(self, thread: str) -> None:
        """A run without a stream, and its reply for the request that lists the messages."""
        provider = self._provider
        run_id = f"run_{next(provider.ids):024d}"
        provider.messages[thread] = [_message(REPLY, thread_id=thread, run_id=run_id)]
        provider.begin(thread)
        provider.polled[run_id] = time.time() + provider.hold_s
        if provider.hold_s:
            asyncio.get_running_loop().call_later(provider.hold_s, provider.end, thread)
        else:
            provider.end(thread)
        self._json(_a_run(id=run_id, thread_id=thread))

    def _poll(self, thread: str, run_id: str) -> None:
        fields = (
            {"status": "completed", "usage": _USAGE}
            if time.time() >= self._provider.polled.get(run_id, 0.0)
            else {"status": "in_progress"}
        )
        self._json(_a_run(id=run_id, thread_id=thread, **fields))

    def _json(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        self.transport.write(
            _HEAD % b"application/json" + b"content-length: %d\r\n\r\n" % len(body) + body
        )


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


async def serve(host: str, hold_s: float) -> None:
    """Serve until stdin is closed."""
    loop = asyncio.get_running_loop()
    provider = Provider(hold_s)
    server = await loop.create_server(lambda: Connection(provider), host, 0, backlog=4096)
    sys.stdout.write(f"{server.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--hold", type=float, default=0.0, help="seconds from a run's start to its text"
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    told = parser.parse_args()
    asyncio.run(serve(told.host, told.hold))
