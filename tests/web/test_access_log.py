"""The access log of `serve`: addresses are shortened, and no text of a client breaks a line."""

from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import access_log, allow_all
from assistant_queue.integrations.fastapi.app import app_of, make_service
from tests.conftest import PATIENCE_S

COMBINED = (
    r"127\.0\.0\.0 - - \[\d\d/\w{3}/\d{4}:\d\d:\d\d:\d\d \+0000\] "
    r'"GET /api/health/live HTTP/1\.1" 200 \d+ "-" "a\.b\.c"'
)


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    yield (made := io.StringIO())
    made.close()
    access_log.log.handlers.clear()
    access_log.log.propagate = True
    access_log.log.setLevel(logging.NOTSET)


@pytest.fixture
async def client(queue: AssistantMessageQueue) -> AsyncIterator[httpx.AsyncClient]:
    service = make_service(queue, allow_all, {})
    app = app_of(service, page=False, assistant_name="A")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=access_log.AccessLog(app, service.origins)),
        base_url="http://test",
    ) as open_client:
        yield open_client
    await service.close()


async def test_a_request_is_a_line_as_web_servers_write_it(
    client: httpx.AsyncClient, stream: io.StringIO
) -> None:
    access_log.start("combined", stream)
    await client.get("/api/health/live?token=secret", headers={"User-Agent": 'a"b\\c'})
    (line,) = stream.getvalue().splitlines()
    assert re.fullmatch(COMBINED, line), line


async def test_a_request_is_a_line_of_json_with_the_id_that_the_worker_logs_too(
    queue: AssistantMessageQueue,
    client: httpx.AsyncClient,
    stream: io.StringIO,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue.batches")
    access_log.start("json", stream)
    queue.start_worker()
    taken = await client.post(
        "/api/threads/ann/messages", json={"message": "Hi!"}, headers={"X-Request-ID": "req-77"}
    )
    place = f"/api/threads/ann/messages/{taken.json()['message_id']}"
    await client.get(place, params={"wait": PATIENCE_S})
    await client.get("/nowhere")
    posted, read, missing = (json.loads(line) for line in stream.getvalue().splitlines())
    assert (posted["method"], posted["path"], posted["status"], posted["request_id"]) == (
        "POST",
        "/api/threads/ann/messages",
        202,
        "req-77",
    )
    assert (read["path"], read["status"]) == (place, 200)
    assert read["request_id"] not in {None, "req-77"}
    assert missing["status"] == 404
    assert "Hi!" not in stream.getvalue()
    ended = next(one for one in list(caplog.records) if vars(one).get("outcome") == "completed")
    assert vars(ended)["request_ids"] == ["req-77"]


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("203.0.113.77", "203.0.113.0"),
        ("2001:db8:1234:5678::1", "2001:db8:1234::"),
        ("unknown", "-"),
    ],
)
def test_an_address_is_shortened_to_its_network(address: str, shown: str) -> None:
    assert access_log.shortened(address) == shown
