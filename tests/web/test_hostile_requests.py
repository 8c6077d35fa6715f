"""Bodies that are too long, too deep, too slow, or never end: refused unparsed and unauthorized."""

from __future__ import annotations

import json
import socket
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest
from pydantic import ValidationError
from starlette.requests import Request

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import request_bodies
from assistant_queue.integrations.fastapi.invalid_requests import MOST, fields_of
from assistant_queue.integrations.fastapi.problems import ProblemRefusal
from assistant_queue.integrations.fastapi.request_bodies import (
    BodyBudget,
    JsonScanner,
    check_json,
)
from assistant_queue.integrations.fastapi.schemas import NewMessage
from tests.conftest import PATIENCE_S
from tests.web.conftest import running

Asgi = Callable[..., httpx.AsyncClient]
PATHS = ("/api/threads/t/messages", "/api/chat", "/api/threads/t/runs")
COMPLEX = {
    "arrays": "[" * 100_000,
    "objects": '{"a":' * 100_000,
    "closed": "[" * 100_000 + "]" * 100_000,
    "in a message": '{"message": [{"a": ' + "[" * 65 + "]" * 65 + "}]}",
    "behind a string": '{"message": "a \\\\", "metadata": ' + "[" * 65,
    "many values": '{"message": [' + "{}," * 60_000 + "{}]}",
    "many strings": "[" * 65 + '"",' * 110_000,
}


@pytest.fixture
def nothing_is_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    async def parse(_: Request) -> Any:
        pytest.fail("it was parsed")

    monkeypatch.setattr(Request, "json", parse)


def never(*_: object) -> bool:
    pytest.fail("authorize was asked")


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("body", COMPLEX.values(), ids=COMPLEX)
async def test_what_is_too_complex_is_refused_unparsed(
    asgi: Asgi, nothing_is_parsed: None, path: str, body: str
) -> None:
    client = asgi(authorize=never)
    answer = await client.post(path, content=body, headers={"Content-Type": "application/json"})
    assert (answer.status_code, answer.json()["code"]) == (400, "too_complex")
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "text",
    [
        json.dumps({"message": "[{" * 50_000 + '\\"' + "," * 60_000}),
        json.dumps(
            {"message": [{"type": "text", "text": f'"{number}" \\ [[['} for number in range(5000)]}
        ),
        "[" * 64 + "]" * 64,
        '{"message": "\\\\\\"[[[[' + "[" * 100 + '"}',
    ],
)
def test_what_stands_in_strings_is_no_depth(text: str) -> None:
    json.loads(text)
    check_json(text.encode())


@pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
@pytest.mark.parametrize("text", ['{"a \\\\": "\\"[", "b": "\\\\\\"{,"}', '["[\\n\\u005b,\\\\"]'])
def test_depth_and_values_are_the_same_however_a_body_is_cut(
    monkeypatch: pytest.MonkeyPatch, text: str, size: int
) -> None:
    def scan(depth: int, values: int) -> None:
        monkeypatch.setattr(request_bodies, "MAX_DEPTH", depth)
        monkeypatch.setattr(request_bodies, "MAX_VALUES", values)
        scanner = JsonScanner()
        for start in range(0, len(text), size):
            scanner.feed(text[start : start + size].encode())

    has_comma = text.startswith("{")
    scan(1, 2 if has_comma else 1)
    with pytest.raises(ProblemRefusal):
        scan(0, 2)
    if has_comma:
        with pytest.raises(ProblemRefusal):
            scan(1, 1)


INVALID = {
    "strings as content parts": {"message": ["a"] * 49_000},
    "unknown names": {"message": "a", **{f"k{number}": 1 for number in range(49_000)}},
    "metadata of numbers": {
        "message": "a",
        "metadata": {f"k{number}": 1 for number in range(49_000)},
    },
}


@pytest.mark.parametrize("body", INVALID.values(), ids=INVALID)
async def test_fifty_thousand_errors_cost_as_little_as_a_few(asgi: Asgi, body: Any) -> None:
    with pytest.raises(ValidationError) as refused:
        NewMessage.model_validate(body)
    assert refused.value.error_count() <= 5
    answer = await asgi().post(PATHS[0], json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_an_answer_about_many_errors_reads_only_the_first() -> None:
    errors = [
        {"type": "string_type", "loc": ("body", "message", number), "msg": ""}
        for number in range(50_000)
    ]
    began = time.process_time()
    rows = fields_of(errors, {"message": [1] * 50_000})
    assert time.process_time() - began < 1.0
    assert len(rows) == MOST


async def test_a_language_of_two_bytes_a_letter_is_not_looked_into(asgi: Asgi) -> None:
    body = ("[" * 100 + "]" * 100).encode("utf-16")
    answer = await asgi(authorize=never).post(
        PATHS[0], content=body, headers={"Content-Type": "application/json"}
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


@pytest.mark.parametrize("path", PATHS)
async def test_a_hundred_megabytes_are_not_read(
    asgi: Asgi, nothing_is_parsed: None, path: str
) -> None:
    sent = []

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            sent.append(100_000)
            yield b"x" * 100_000

    client = asgi(authorize=never)
    tracemalloc.start()
    try:
        chunked = await client.post(
            path, content=in_pieces(), headers={"Content-Type": "application/json"}
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    said = await client.post(
        path,
        content=in_pieces(),
        headers={"Content-Type": "application/json", "Content-Length": "100000000"},
    )
    for answer in (chunked, said):
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_long")
    assert sum(sent) <= 1_200_000, (
        "as much as one body may have, and none of what says that it is longer"
    )
    assert peak < 10_000_000


def test_a_real_server_answers_before_a_body_has_come(queue: AssistantMessageQueue) -> None:
    with (
        running(queue, authorize=never) as site,
        socket.create_connection(("127.0.0.1", site.port), timeout=PATIENCE_S) as client,
    ):
        client.sendall(
            b"POST /api/chat HTTP/1.1\r\nHost: x\r\nContent-Length: 100000000\r\nContent-Type: application/json\r\n\r\n[[["
        )
        assert client.recv(1000).startswith(b"HTTP/1.1 413 ")


async def test_what_is_too_complex_need_not_arrive_to_its_end(asgi: Asgi) -> None:
    sent = []

    async def in_pieces() -> AsyncIterator[bytes]:
        for _ in range(1000):
            sent.append(1000)
            yield b"[" * 1000

    answer = await asgi(authorize=never).post(PATHS[0], content=in_pieces())
    assert (answer.status_code, answer.json()["code"]) == (400, "too_complex")
    assert sum(sent) <= 2000


async def test_a_limit_is_counted_before_a_body_is_read(asgi: Asgi) -> None:
    client = asgi(authorize=never, request_limit="1/minute")

    async def unread() -> AsyncIterator[bytes]:
        pytest.fail("it was read")
        yield b""

    assert (await client.post(PATHS[0], content="[" * 100_000)).status_code == 400
    assert (await client.post(PATHS[0], content=unread())).status_code == 429


async def test_a_body_that_breaks_off_is_not_taken_for_a_whole_one(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi(authorize=never)
    sent: list[Any] = []
    told = [
        {"type": "http.request", "body": b'{"message": "Hi!"}', "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Any:
        return told.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http", "http_version": "1.1", "method": "POST", "scheme": "http", "path": PATHS[0], "raw_path": PATHS[0].encode(),
        "query_string": b"", "root_path": "", "headers": [(b"host", b"test"), (b"content-type", b"application/json")],
        "client": ("127.0.0.1", 1), "server": ("test", 80), "state": {},
    }  # fmt: skip
    await client.app(scope, receive, send)  # type: ignore[attr-defined]
    assert sent[0]["status"] == 422
    assert queue.get_thread_status("t").pending_count == 0


def test_bodies_that_arrive_at_once_are_bounded_for_each_client_and_in_all() -> None:
    budget = BodyBudget(1000)
    for _ in range(request_bodies.BODIES_EACH):
        budget.take("ann", 1000)
    with pytest.raises(ProblemRefusal, match="Too many bodies"):
        budget.take("ann", 1)
    for number in range(request_bodies.BODIES - request_bodies.BODIES_EACH):
        budget.take(f"client {number}", 1000)
    with pytest.raises(ProblemRefusal) as refused:
        budget.take("bob", 1)
    assert (refused.value.status, refused.value.code, refused.value.headers) == (
        503,
        "too_many_bodies",
        {"Retry-After": "5"},
    )
    budget.give_back("ann", 10_000)
    budget.take("bob", 1000)
    assert "ann" not in budget._held


async def test_a_budget_is_given_back_however_a_body_ends(
    asgi: Asgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = asgi()
    for content in (b'{"message": "Hi!"}', b"[" * 100_000, b"x" * 2_000_000):
        await client.post(PATHS[0], content=content, headers={"Content-Type": "application/json"})
    budget = client.service.bodies  # type: ignore[attr-defined]
    assert (budget.total, dict(budget._held)) == (0, {})
    monkeypatch.setattr(budget, "_most_each", 5)
    answer = await client.post(PATHS[0], content=b'{"message": "Hi!"}')
    assert (answer.status_code, answer.json()["code"]) == (503, "too_many_bodies")
