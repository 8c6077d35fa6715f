"""Chat servers for tests: each says exactly what a test wants, byte by byte and at its own pace."""

from __future__ import annotations

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any

import openai

from assistant_queue.backends.chat_completions.backend import ChatCompletionsBackend
from assistant_queue.core.runs import (
    ActionRequired,
    InputItem,
    RunAccepted,
    RunEnded,
    RunEvent,
    RunRequest,
    TextChunk,
)
from assistant_queue.models import Batch, Message

# The HTTP library of the installed client: httpx with openai 2.x, httpx2 with 3.x.
http = importlib.import_module(type(openai.DEFAULT_CONNECTION_LIMITS).__module__.partition(".")[0])

STREAM = "text/event-stream"
DONE = "[DONE]"

Piece = bytes | float | BaseException
"""Next step of a body: bytes to send, seconds to wait (for ever if infinite), or a break."""


class Body(http.AsyncByteStream):  # type: ignore[misc, name-defined]
    """A body in pieces."""

    def __init__(self, *pieces: Piece) -> None:
        self.pieces = pieces
        self.is_closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            if isinstance(piece, bytes):
                yield piece
            elif isinstance(piece, BaseException):
                raise piece
            elif piece == float("inf"):
                await asyncio.Event().wait()
            else:
                await asyncio.sleep(piece)

    async def aclose(self) -> None:
        self.is_closed = True


def event(data: Any, end: str = "\n\n") -> bytes:
    return ("data: " + (data if isinstance(data, str) else json.dumps(data)) + end).encode()


def chunk(delta: Any = None, finish: Any = None, **more: Any) -> dict[str, Any]:
    """A chunk as the API describes it."""
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "choices": [{"index": 0, "delta": {} if delta is None else delta, "finish_reason": finish}],
        **more,
    }


def text(*words: str, finish: Any = None) -> list[dict[str, Any]]:
    """Chunks with text; the reason, if there is one, in a separate chunk."""
    chunks = [chunk({"content": word}) for word in words]
    return chunks if finish is None else [*chunks, chunk({}, finish)]


USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def stream(*events: Any, kind: str | None = STREAM) -> Any:
    """An answer that is a stream of these, closed in order."""
    return answer(
        *(one if isinstance(one, bytes | float | BaseException) else event(one) for one in events),
        kind=kind,
    )


def answer(*pieces: Piece, kind: str | None = STREAM, status: int = 200) -> Any:
    return http.Response(
        status, headers={} if kind is None else {"content-type": kind}, stream=Body(*pieces)
    )


class Server:
    """Answers its requests one after the other, the last answer again and again.

    Attributes:
        bodies: What it was sent.
    """

    def __init__(self, *answers: Callable[[], Any]) -> None:
        self.answers = answers
        self.bodies: list[dict[str, Any]] = []

    def __call__(self, sent: Any) -> Any:
        self.bodies.append(json.loads(sent.content))
        return self.answers[min(len(self.bodies), len(self.answers)) - 1]()

    def backend(self, **options: Any) -> ChatCompletionsBackend:
        http_client = http.AsyncClient(transport=http.MockTransport(self))
        client = openai.AsyncOpenAI(
            api_key="k", base_url="http://server.test/v1", http_client=http_client, max_retries=0
        )
        return ChatCompletionsBackend(client, model="m", **options)


def request(
    *texts: str, batch: str = "b", anchor: str | None = None, transcript: str | None = None
) -> RunRequest:
    messages = tuple(
        Message(id=f"{batch}-m{place}", content=one)
        for place, one in enumerate(texts or ("hello",))
    )
    return RunRequest(
        batch=Batch(id=batch, thread_id="t", messages=messages),
        conversation_id="t",
        anchor=anchor,
        items=tuple(
            InputItem(content=message.content, message_ids=(message.id,)) for message in messages
        ),
        transcript=transcript,
    )


class Heard:
    """All that a run said.

    Attributes:
        started: Its first event.
        text: Its deltas.
        stop: Its last event.
    """

    def __init__(self, events: Sequence[RunEvent]) -> None:
        assert isinstance(events[0], RunAccepted)
        assert sum(isinstance(one, RunAccepted) for one in events) == 1
        self.started = events[0]
        self.text = "".join(one.text for one in events if isinstance(one, TextChunk))
        self.stop: Any = events[-1]
        assert isinstance(self.stop, RunEnded | ActionRequired)
        assert self.stop.run_id == self.started.run_id

    @property
    def reply(self) -> str | None:
        return "\n\n".join(self.stop.replies) or None


async def heard(backend: ChatCompletionsBackend, asked: RunRequest | None = None) -> Heard:
    """One batch, to its end or its calls."""
    return Heard([one async for one in backend.start(asked or request())])


async def ask(*events: Any, kind: str | None = STREAM, **options: Any) -> Heard:
    """Return the outcome of a backend that reads a stream of these events."""
    backend = Server(lambda: stream(*events, kind=kind)).backend(**options)
    try:
        return await heard(backend)
    finally:
        await backend.close()
