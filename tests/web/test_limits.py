"""Requests that are too many, too long, or from another site."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack

import httpx
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import Caller, allow_all, create_app, request_bodies
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until
from tests.web.conftest import running
from tests.web.listening import listening

Asgi = Callable[..., httpx.AsyncClient]


async def say(client: httpx.AsyncClient, **headers: str) -> httpx.Response:
    return await client.post(
        "/api/threads/t/messages",
        json={"message": "Hi!"},
        headers={name.replace("_", "-"): one for name, one in headers.items()},
    )


async def test_a_client_that_says_too_much_is_answered_with_when_to_come_back(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client, other = (
        asgi(rate_limit="2/minute"),
        asgi(rate_limit="2/minute", client=("127.0.0.2", 1)),
    )
    assert [(await say(client)).status_code for _ in range(3)] == [202, 202, 429]
    late = await say(client)
    assert 50 <= int(late.headers["retry-after"]) <= 60
    assert late.json()["code"] == "too_many_requests"
    chat = await client.post("/api/chat", json={"thread_id": "t", "message": "Hi!"})
    assert chat.status_code == 429
    assert (await say(other)).status_code == 202, "another client is not meant"
    assert (await client.get("/api/threads/t")).status_code == 200, "looking is not limited"
    assert queue.get_thread_status("t").pending_count == 3


async def test_processes_of_a_service_count_together(asgi: Asgi) -> None:
    one, two = asgi(rate_limit="2/minute"), asgi(rate_limit="2/minute")
    assert [
        (await say(one)).status_code,
        (await say(two)).status_code,
        (await say(one)).status_code,
    ] == [202, 202, 429]


async def test_a_caller_with_an_id_is_counted_from_any_address(asgi: Asgi) -> None:
    client = asgi(
        rate_limit="1/minute", authorize=lambda request, *_: Caller(id=request.headers["x-who"])
    )
    assert [(await say(client, x_who=who)).status_code for who in ("ann", "bob", "ann")] == [
        202,
        202,
        429,
    ]


async def test_all_requests_can_be_limited_before_authorize(asgi: Asgi) -> None:
    client = asgi(request_limit="3/minute", authorize=lambda *_: False)
    assert [(await client.get("/api/status")).status_code for _ in range(4)] == [403, 403, 403, 429]


async def test_no_address_of_a_person_is_written_to_redis(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    await say(asgi(rate_limit="5/minute", request_limit="100/minute", client=("203.0.113.77", 1)))
    keys = [
        key.decode() for key in queue._store.client.keys(f"{queue.config.queue_prefix}:limits*")
    ]
    assert len(keys) == 2
    assert not [key for key in keys if "203.0.113.77" in key]
    assert all(0 < queue._store.client.ttl(key) <= 61 for key in keys)


# --- client addresses -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("peer", "trusted", "forwarded", "client"),
    [
        ("198.51.100.1", [], "203.0.113.9", "198.51.100.1"),
        ("198.51.100.1", ["10.0.0.0/8"], "203.0.113.9", "198.51.100.1"),
        ("10.0.0.1", ["10.0.0.0/8"], "203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.0/8"], "6.6.6.6, 203.0.113.9", "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.0/8"], "203.0.113.9, 10.0.0.2", "203.0.113.9"),
        ("10.0.0.1", ["10.0.0.0/8"], "10.0.0.3, 10.0.0.2", "10.0.0.3"),
        ("10.0.0.1", ["10.0.0.0/8"], "nonsense", "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.0/8"], "", "10.0.0.1"),
        ("::1", ["::1"], "2001:db8::7", "2001:db8::7"),
        ("10.0.0.1", ["10.0.0.0/8"], "203.0.113.9:5123, 10.0.0.2:80", "203.0.113.9"),
        ("::1", ["::1"], "[2001:db8::7]:5123", "2001:db8::7"),
        ("::ffff:10.0.0.1", ["10.0.0.0/8"], "::ffff:203.0.113.9", "203.0.113.9"),
    ],
)
async def test_a_forwarded_address_is_believed_of_trusted_proxies_only(
    asgi: Asgi, peer: str, trusted: list[str], forwarded: str, client: str
) -> None:
    seen = []

    def authorize(request: httpx.Request, *_: object) -> bool:
        seen.append(http.service.origins.client_address(request))
        return True

    http = asgi(trusted_proxies=trusted, client=(peer, 1), authorize=authorize)
    await http.get("/api/health/live", headers={"X-Forwarded-For": forwarded} if forwarded else {})
    assert seen == [client]


async def test_a_client_with_a_network_of_addresses_is_one_client(asgi: Asgi) -> None:
    one, same, other = (
        asgi(rate_limit="1/minute", client=(address, 1))
        for address in ("2001:db8::1", "2001:db8::ffff:2", "2001:db8:0:1::1")
    )
    assert [(await say(client)).status_code for client in (one, same, other)] == [202, 429, 202]


# --- pages of other sites -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 202),
        ({"Origin": "http://test"}, 202),
        ({"Origin": "https://chat.example.com"}, 202),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "http://test.evil.example"}, 403),
        ({"Origin": "http://test:81"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "file://test"}, 403),
        ({"Cookie": "a=b"}, 403),
        ({"Cookie": "a=b", "Sec-Fetch-Site": "same-origin"}, 202),
        ({"Cookie": "a=b", "Sec-Fetch-Site": "cross-site"}, 403),
        ({"Cookie": "a=b", "Sec-Fetch-Site": "same-site"}, 403),
        ({"Cookie": "a=b", "Referer": "http://test/page"}, 202),
        ({"Cookie": "a=b", "Referer": "http://evil.example/http://test"}, 403),
        ({"X-Forwarded-Host": "evil.example", "Origin": "http://evil.example"}, 403),
    ],
)
async def test_another_sites_page_says_nothing_in_a_persons_name(
    asgi: Asgi, headers: dict[str, str], status: int
) -> None:
    client = asgi(allowed_origins=["https://chat.example.com"])
    answer = await client.post("/api/threads/t/messages", json={"message": "Hi!"}, headers=headers)
    assert answer.status_code == status, answer.text
    if status == 403:
        assert answer.json()["code"] == "foreign_origin"


def test_another_sites_page_opens_no_socket(queue: AssistantMessageQueue) -> None:
    with running(queue) as site:
        address = f"{site.url.replace('http', 'ws')}/api/socket"
        with pytest.raises(InvalidStatus) as refused:
            connect(address, origin="http://evil.example")
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body)["code"] == "foreign_origin"
        with connect(address, origin=site.url):
            pass


async def test_a_name_that_is_not_ours_is_refused(asgi: Asgi) -> None:
    client = asgi(allowed_hosts=["localhost", "test"])
    assert (await client.get("/api/health/live")).status_code == 200
    for path in ("/api/health/live", "/", "/page/settings.json"):
        answer = await client.get(path, headers={"Host": "evil.example:8000"})
        assert (answer.status_code, answer.json()["code"]) == (400, "unknown_host")


# --- how much -------------------------------------------------------------------------------------


async def test_a_request_under_a_wrong_name_counts_too(asgi: Asgi) -> None:
    """A flood of requests that are refused is a flood, too."""
    client = asgi(request_limit="1/hour", allowed_hosts=["chat.example.com"])
    assert [(await client.get("/api/threads/t")).status_code for _ in range(2)] == [400, 429]


async def test_a_body_that_is_too_long_is_refused(asgi: Asgi, queue: AssistantMessageQueue) -> None:
    client = asgi(max_body_bytes=1000)
    sent = json.dumps({"message": "x" * 2000}).encode()

    async def in_pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(sent), 100):
            yield sent[start : start + 100]

    for content in (sent, in_pieces()):
        answer = await client.post(
            "/api/threads/t/messages", content=content, headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_long")
    lying = await client.post(
        "/api/threads/t/messages", content=b"{}", headers={"Content-Length": "-1"}
    )
    assert lying.status_code == 413
    assert queue.get_thread_status("t").pending_count == 0


async def test_a_body_that_does_not_come_is_not_waited_for(
    asgi: Asgi, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(request_bodies, "BODY_S", 0.05)

    async def the_beginning() -> AsyncIterator[bytes]:
        yield b'{"message": '
        await asyncio.Event().wait()

    for path in ("/api/threads/t/messages", "/api/chat"):
        answer = await asgi().post(
            path, content=the_beginning(), headers={"Content-Type": "application/json"}
        )
        assert (answer.status_code, answer.json()["code"], answer.headers["connection"]) == (
            408,
            "body_too_slow",
            "close",
        )
    assert queue.get_thread_status("t").pending_count == 0


def test_a_real_server_reads_no_more_than_it_takes(queue: AssistantMessageQueue) -> None:
    with running(queue, max_body_bytes=1000) as site:
        answer = httpx.post(f"{site.url}/api/threads/t/messages", json={"message": "x" * 100_000})
        assert answer.status_code == 413
        with connect(f"{site.url.replace('http', 'ws')}/api/socket") as socket:
            socket.send("x" * 2000)
            with pytest.raises(Exception, match="1009"):
                socket.recv(10)


def test_a_client_has_so_many_streams_and_a_process_too(queue: AssistantMessageQueue) -> None:
    with running(queue, max_streams_per_client=2) as site, ExitStack() as stack:
        streams = [stack.enter_context(listening(site.url, "t")) for _ in range(2)]
        assert [stream.next()["type"] for stream in streams] == ["presence", "presence"]
        refused = httpx.get(f"{site.url}/api/threads/t/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "too_many_requests")
        assert int(refused.headers["retry-after"]) > 0
        waiting = httpx.post(f"{site.url}/api/chat", json={"thread_id": "t", "message": "Hi!"})
        assert waiting.status_code == 429, "who waits holds something open, too"
    with running(queue, max_streams=1) as site:
        with listening(site.url, "t") as stream:
            stream.next()
            refused = httpx.get(f"{site.url}/api/threads/t/events")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_streams")
        wait_until(lambda: not site.service.gate.total, "its place is given back", PATIENCE_S)
        with listening(site.url, "t") as stream:
            assert stream.next()["type"] == "presence"


async def test_whether_the_process_lives_does_not_depend_on_redis() -> None:
    gone = AssistantMessageQueue(redis_url="redis://127.0.0.1:1/0")
    app = create_app(gone, authorize=allow_all, request_limit="1/minute")
    async with httpx.AsyncClient(
        transport=httpx.ASGITransport(app=app), base_url="http://test"
    ) as client:
        assert [(await client.get("/api/health/live")).status_code for _ in range(3)] == [
            200,
            200,
            200,
        ]
        assert (await client.get("/api/health/ready")).status_code == 503
    gone.close()
