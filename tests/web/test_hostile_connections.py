"""Connections that are opened and left, never end their request, send floods of frames, or read nothing."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
from websockets.sync.client import connect

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import (
    connections,
    protocols,
    sliced_reading,
    stream_routes,
)
from assistant_queue.integrations.fastapi.connections import Connections
from assistant_queue.integrations.fastapi.settings import Settings
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until
from tests.web.conftest import Site, running
from tests.web.listening import listening

LIVE = b"GET /api/health/live HTTP/1.1\r\nHost: x\r\n\r\n"
TEXT = 0x1
CONTINUATION = 0x0
CLOSE = 0x8
PING = 0x9
PONG = 0xA


@contextmanager
def raw(site: Site, sent: bytes = b"", *, room: int | None = None) -> Iterator[socket.socket]:
    """A connection of a client that has sent this; `room` is the size of its receive buffer."""
    with socket.socket() as client:
        client.settimeout(PATIENCE_S)
        if room is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, room)
        client.connect(("127.0.0.1", site.port))
        client.sendall(sent)
        yield client


def rest(client: socket.socket) -> bytes:
    """Everything until the server closes."""
    found = b""
    with contextlib.suppress(ConnectionError):
        while part := client.recv(65536):
            found += part
    return found


def problem(answer: bytes) -> tuple[int, str]:
    head, _, body = answer.partition(b"\r\n\r\n")
    assert b"application/problem+json" in head, answer
    told = json.loads(body)
    assert int(head.split()[1]) == told["status"]
    return told["status"], told["code"]


def frame(opcode: int, data: bytes = b"", *, final: bool = True) -> bytes:
    length = (
        bytes([0x80 | len(data)]) if len(data) < 126 else struct.pack("!BH", 0x80 | 126, len(data))
    )
    return bytes([(0x80 if final else 0) | opcode]) + length + bytes(4) + data


@contextmanager
def socketed(site: Site, **options: Any) -> Iterator[socket.socket]:
    """A WebSocket with frames that the test writes itself."""
    head = "GET /api/socket HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    with raw(site, f"{head}Sec-WebSocket-Key: {'A' * 22}==\r\n\r\n".encode(), **options) as client:
        answer = b""
        while b"\r\n\r\n" not in answer:
            answer += client.recv(1)
        assert answer.startswith(b"HTTP/1.1 101 ")
        yield client


# --- heads ----------------------------------------------------------------------------------------


def test_a_head_that_never_ends_has_a_deadline_and_a_stream_has_none(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "HEAD_S", 0.3)
    with running(queue) as site, listening(site.url, "t") as stream:
        stream.until("caught_up")
        with (
            raw(site, LIVE[:-2] + b"X-Slow: ") as slow,
            raw(site) as silent,
            raw(site, LIVE + LIVE[:20]) as second,
        ):
            assert problem(rest(slow)) == (408, "head_too_slow")
            assert rest(silent) == b""
            assert rest(second).count(b"HTTP/1.1 200 OK") == 1
        queue.add_message_to_thread("t", "Hi!")
        assert stream.until("message_queued")


def test_a_body_that_continues_after_the_answer_has_a_deadline(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "HEAD_S", 0.3)
    head = b"POST /api/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n"
    with running(queue) as site, raw(site, head) as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 404 ")
        client.sendall(b"x")
        rest(client)


ENDLESS = {
    "a header": (b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000, (431, "head_too_long")),
    "headers": (b"GET / HTTP/1.1\r\n" + b"X: x\r\n" * 101 + b"\r\n", (431, "head_too_long")),
    "one long header": (
        b"GET / HTTP/1.1\r\nX: " + b"x" * 9000 + b"\r\n\r\n",
        (431, "head_too_long"),
    ),
    "an address": (b"GET /" + b"x" * 100_000, (414, "url_too_long")),
    "a query": (b"GET /?" + b"x" * 9000 + b" HTTP/1.1\r\n\r\n", (414, "url_too_long")),
    "a handshake": (
        b"GET /api/socket HTTP/1.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        + b"X: x\r\n" * 200,
        (431, "head_too_long"),
    ),
    "no HTTP": (b"\x16\x03\x01\x02\x00" * 10, (400, "no_http")),
}


_LOGGING_ERROR = re.compile(
    r"^--- Logging error ---$.*?^Arguments: [^\n]*$", re.DOTALL | re.MULTILINE
)
"""Output of `logging` for a thread that outlives its test and logs to a closed stream."""


@pytest.mark.parametrize(("sent", "told"), ENDLESS.values(), ids=ENDLESS)
def test_a_head_has_a_size(
    queue: AssistantMessageQueue,
    sent: bytes,
    told: tuple[int, str],
    capfd: pytest.CaptureFixture[str],
) -> None:
    with running(queue) as site, raw(site, sent) as client:
        assert problem(rest(client)) == told
    assert "Traceback" not in _LOGGING_ERROR.sub("", capfd.readouterr().err)


def test_a_head_behind_a_stream_has_a_size_too(queue: AssistantMessageQueue) -> None:
    stream = b"GET /api/threads/t/events HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(queue) as site, raw(site, stream) as client:
        told = b""
        while b"caught_up" not in told:
            told += client.recv(65536)
        client.sendall(b"GET / HTTP/1.1\r\nX: " + b"x" * 100_000)
        assert b"HTTP/1.1" not in rest(client)
        wait_until(lambda: not site.service.gate.total, "the stream has ended", timeout=PATIENCE_S)


def test_a_body_of_a_stream_that_never_ends_is_cut(queue: AssistantMessageQueue) -> None:
    head = b"GET /api/threads/t/events HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"10000\r\n" + b"x" * 65536 + b"\r\n"
    with running(queue, max_body_bytes=100_000) as site, raw(site, head) as client:
        with pytest.raises(ConnectionError):
            for _ in range(2000):
                client.sendall(chunk)
        wait_until(lambda: not site.service.gate.total, "the stream has ended", timeout=PATIENCE_S)


def test_so_many_requests_wait_on_one_connection(queue: AssistantMessageQueue) -> None:
    with running(queue) as site, raw(site) as client:
        with contextlib.suppress(ConnectionError):
            client.sendall(LIVE * 5000)
        assert rest(client).count(b"HTTP/1.1 200 OK") < 5000
        assert httpx.get(f"{site.url}/api/health/live").status_code == 200


# --- how many -------------------------------------------------------------------------------------


def test_connections_that_are_left_make_room_and_others_are_refused(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Settings, "max_connections", 3)
    with running(queue) as site:
        monkeypatch.setattr(connections, "GRACE_S", 3600.0)
        with raw(site) as oldest, raw(site), listening(site.url, "t") as stream:
            stream.until("caught_up")
            refused = httpx.get(f"{site.url}/api/health/live")
            assert (refused.status_code, refused.json()["code"]) == (503, "too_many_connections")
            assert int(refused.headers["retry-after"]) > 0
            monkeypatch.setattr(connections, "GRACE_S", 0.0)
            assert httpx.get(f"{site.url}/api/health/live").status_code == 200
            assert rest(oldest) == b"", "it made room"
            queue.add_message_to_thread("t", "Hi!")
            assert stream.until("message_queued"), "what is in use is left alone"


def test_a_thousand_connections_beside_the_streams() -> None:
    assert (Settings().max_connections, Settings(max_streams=10).max_connections) == (4000, 1010)


def test_what_is_gone_is_counted_no_longer(queue: AssistantMessageQueue) -> None:
    with running(queue) as site:
        found: Connections = site.server.config.http_protocol_class.args[0]  # type: ignore[attr-defined]
        with (
            raw(site),
            raw(site, LIVE) as answered,
            socketed(site),
            listening(site.url, "t") as stream,
        ):
            stream.until("caught_up")
            answered.recv(100)
            wait_until(lambda: len(found) == 4, "all are counted", timeout=PATIENCE_S)
            assert len(found._waiting) == 2, "the silent one, and the one that was answered"
        wait_until(
            lambda: not len(found) and not found._waiting, "none is left", timeout=PATIENCE_S
        )


# --- after a refusal ------------------------------------------------------------------------------


def test_new_connections_of_an_address_are_read_one_after_the_other() -> None:
    found = Connections(10, is_proxy=lambda address: address == "10.0.0.1")
    assert [found.wait_s("a", 1.0, is_new=True) for _ in range(6)] == pytest.approx(
        [0.0, 0.0, 0.0, 0.0, 0.002, 0.004]
    )
    assert found.wait_s("b", 1.0, is_new=True) == 0.0
    assert [found.wait_s("a", 1.0, is_new=False) for _ in range(100)] == [0.0] * 100, (
        "one connection is one after the other anyway"
    )
    assert [found.wait_s("10.0.0.1", 1.0, is_new=True) for _ in range(100)] == [0.0] * 100, (
        "it sends for others"
    )
    assert found.wait_s("a", 2.0, is_new=True) == 0.0
    for number in range(connections.KEPT + 10):
        found.wait_s(f"{number}", 3.0, is_new=True)
    assert len(found._paces) == connections.KEPT


def test_an_address_that_was_refused_is_read_slowly_for_a_while() -> None:
    found = Connections(10)
    found.refused("a", 0.0)
    waits = [found.wait_s("a", 0.0, is_new=False) for _ in range(200)]
    most = int(connections.PATIENCE_S * connections.REFUSED_RATE)
    assert waits[:3] == pytest.approx([0.0, 0.05, 0.1])
    assert waits.count(None) in {200 - most - 1, 200 - most}, (
        "those that would wait too long are cut"
    )
    assert found.wait_s("b", 0.0, is_new=False) == 0.0
    assert found.wait_s("a", connections.REFUSED_S, is_new=False) == 0.0


@pytest.mark.parametrize("why", ["requests", "messages", "unreadable"])
def test_what_was_refused_for_sending_too_much_is_held_back(
    queue: AssistantMessageQueue, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REFUSED_RATE", 0.01)
    monkeypatch.setattr(connections, "PATIENCE_S", 0.0)
    with running(
        queue, request_limit="1/hour" if why == "requests" else None, frame_limit="1/hour"
    ) as site:
        if why == "requests":
            assert [httpx.get(f"{site.url}/api/threads/t").status_code for _ in range(2)] == [
                200,
                429,
            ]
        else:
            with socketed(site) as client:
                said = (
                    b"nonsense"
                    if why == "unreadable"
                    else json.dumps({"type": "leave", "thread_id": "t"}).encode()
                )
                client.sendall(frame(TEXT, said) * 10)
                told = b""
                while not told.endswith((b"send fewer", b"that cannot be read")):
                    told += client.recv(65536)
        with pytest.raises(httpx.TransportError):
            for _ in range(3):  # the first may be read at once
                httpx.get(f"{site.url}/api/health/live")


def test_a_connection_is_not_read_before_its_turn(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "BURST", 1)
    monkeypatch.setattr(connections, "RATE", 5.0)
    with running(queue) as site:
        assert [httpx.get(f"{site.url}/api/health/live").status_code for _ in range(3)] == [200] * 3
    monkeypatch.setattr(connections, "RATE", 0.01)
    monkeypatch.setattr(connections, "PATIENCE_S", 3600.0)
    with running(queue) as site, raw(site, LIVE) as first, raw(site, LIVE):
        wait_until(
            lambda: len(site.server.server_state.connections) == 2,
            "both are accepted",
            timeout=PATIENCE_S,
        )
        assert first.recv(65536).startswith(b"HTTP/1.1 200 ")
        held = [
            one for one in site.server.server_state.connections if not one.transport.is_reading()
        ]
        assert len(held) == 1, "the first has been answered, and the second not even read"


def test_a_proxy_is_not_held_back_for_what_others_sent_through_it(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "REFUSED_RATE", 0.01)
    monkeypatch.setattr(connections, "PATIENCE_S", 0.0)
    with running(queue, request_limit="1/hour", trusted_proxies=["127.0.0.1"]) as site:
        statuses = [
            httpx.get(
                f"{site.url}/api/threads/t", headers={"X-Forwarded-For": "203.0.113.9"}
            ).status_code
            for _ in range(4)
        ]
        assert statuses == [200, 429, 429, 429]
        assert (
            httpx.get(
                f"{site.url}/api/threads/t", headers={"X-Forwarded-For": "203.0.113.10"}
            ).status_code
            == 200
        )


# --- frames ---------------------------------------------------------------------------------------

FLOODS = {
    "pings": frame(PING),
    "pings that say something": frame(PING, b"x" * 125),
    "pongs": frame(PONG),
    "pieces of a message": frame(CONTINUATION, final=False),
}


@pytest.mark.parametrize("flood", FLOODS.values(), ids=FLOODS)
def test_a_flood_of_frames_that_no_route_sees_closes_the_socket(
    queue: AssistantMessageQueue, flood: bytes
) -> None:
    with running(queue) as site, socketed(site) as client:
        client.sendall(frame(TEXT, b"[", final=False))
        with contextlib.suppress(ConnectionError):
            client.sendall(flood * (protocols.CONTROL_BURST + 2000))
        told = rest(client)
        assert told.endswith(b"\x88\x19" + struct.pack("!H", 1008) + b"too many control frames"), (
            told[-40:]
        )
        most = protocols.CONTROL_BURST + protocols.SOCKET_SLICE // len(flood)
        assert told.count(b"\x8a") < most + 200, (
            "and no more of them are answered, but for a slice and what a slow machine lets pass"
        )


def test_pings_at_a_walk_are_answered(queue: AssistantMessageQueue) -> None:
    with running(queue) as site, connect(f"{site.url.replace('http', 'ws')}/api/socket") as client:
        for _ in range(50):
            assert client.ping().wait(PATIENCE_S)


def test_a_long_message_may_come_in_pieces(queue: AssistantMessageQueue) -> None:
    with running(queue) as site, connect(f"{site.url.replace('http', 'ws')}/api/socket") as client:
        client.send(["x" * 4000] * 200)
        assert json.loads(client.recv(PATIENCE_S))["code"] == "invalid_argument"


@pytest.mark.parametrize("kind", ["pings", "requests"])
def test_what_arrives_is_handled_in_slices(
    queue: AssistantMessageQueue, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "CONTROL_BURST", 1_000_000)
    monkeypatch.setattr(protocols, "PIPELINED", 1_000_000)
    turn = 0
    handled: Counter[int] = Counter()
    protocol, name = (
        (protocols.GuardedSocket, "handle_ping")
        if kind == "pings"
        else (protocols.GuardedHttp, "on_message_begin")
    )
    inner = getattr(protocol, name)

    def count(self: Any, *args: Any) -> None:
        handled[turn] += 1
        inner(self, *args)

    monkeypatch.setattr(protocol, name, count)
    with running(queue) as site, socketed(site) if kind == "pings" else raw(site) as client:

        def tick() -> None:
            nonlocal turn
            turn += 1
            site.loop.call_soon(tick)

        site.loop.call_soon_threadsafe(tick)
        sent = frame(PING) if kind == "pings" else b"GET / HTTP/1.1\r\n\r\n"
        client.sendall(sent * 5000 + (frame(CLOSE) if kind == "pings" else b""))
        wait_until(lambda: handled.total() > 2000, "most have been handled", timeout=PATIENCE_S)
        assert max(handled.values()) <= protocol.slice // len(sent) + 1


def test_a_socket_that_continues_after_its_close_is_cut(queue: AssistantMessageQueue) -> None:
    with running(queue) as site, socketed(site) as client:
        client.sendall(frame(TEXT, b"nonsense") * 10)
        told = b""
        while struct.pack("!H", 1007) not in told:
            told += client.recv(65536)
        with pytest.raises(ConnectionError):
            for _ in range(1000):
                client.sendall(frame(TEXT, b"x" * 1000) * 10)


def test_what_a_socket_sends_after_its_close_is_not_parsed(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "AFTER_CLOSE", 10_000_000)
    parsed: list[int] = []
    inner = protocols.GuardedSocket.handle_ping
    monkeypatch.setattr(
        protocols.GuardedSocket,
        "handle_ping",
        lambda self, *event: parsed.append(1) or inner(self, *event),
    )
    with running(queue) as site, socketed(site) as client:
        client.sendall(frame(TEXT, b"nonsense") * 5)
        told = b""
        while struct.pack("!H", 1007) not in told:
            told += client.recv(65536)
        (connection,) = site.server.server_state.connections
        client.sendall(frame(PING) * 10_000)
        wait_until(
            lambda: connection._after_close == 60_000, "all has been read", timeout=PATIENCE_S
        )  # type: ignore[union-attr]
        assert len(parsed) < 2000


def test_others_are_answered_while_sockets_flood(queue: AssistantMessageQueue) -> None:
    with running(queue, frame_limit=None) as site, contextlib.ExitStack() as stack:
        leave = frame(TEXT, json.dumps({"type": "leave", "thread_id": "t"}).encode())
        for _ in range(5):
            client = stack.enter_context(socketed(site))
            client.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                while client.send(leave * 1000):
                    pass
        for _ in range(5):
            assert httpx.get(f"{site.url}/api/health/live", timeout=PATIENCE_S).status_code == 200
        assert site.service.gate.total == 5, "they are at it still"


def test_nothing_is_unpacked(queue: AssistantMessageQueue) -> None:
    with (
        running(queue) as site,
        connect(f"{site.url.replace('http', 'ws')}/api/socket", compression="deflate") as client,
    ):
        assert client.response is not None
        assert "Sec-WebSocket-Extensions" not in client.response.headers


@pytest.mark.parametrize(
    "sent",
    [
        frame(TEXT, b"\xff\xfe"),
        frame(0x3),
        frame(PING, b"x" * 200),
        b"\x81\x00",
        bytes(range(256)) * 32,
    ],
    ids=["no UTF-8", "unknown", "long ping", "unmasked", "noise"],
)
def test_frames_that_are_none_leave_no_traceback(
    queue: AssistantMessageQueue,
    sent: bytes,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    with running(queue) as site, socketed(site) as client:
        client.sendall(sent)
        with contextlib.suppress(OSError):  # it may have been cut already
            client.shutdown(socket.SHUT_WR)
        rest(client)
        wait_until(lambda: not site.service.gate.total, "it has ended", timeout=PATIENCE_S)
    assert "Traceback" not in _LOGGING_ERROR.sub("", capfd.readouterr().err)
    assert not [record for record in caplog.records if record.exc_info]


# --- what is not read -----------------------------------------------------------------------------


def test_answers_to_pings_that_are_not_read_do_not_pile_up(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocols, "CONTROL_BURST", 10_000_000)
    monkeypatch.setattr(sliced_reading, "WRITE_S", 0.2)
    with (
        running(queue) as site,
        socketed(site, room=4096) as client,
        pytest.raises(ConnectionError),
    ):
        while True:
            client.sendall(frame(PING, b"x" * 125) * 1000)


def test_a_stream_that_is_not_read_ends_with_its_connection(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_routes, "SEND_TIMEOUT_S", 0.2)
    monkeypatch.setattr(connections, "LINGER_S", 0.1)
    stream = b"GET /api/threads/t/events HTTP/1.1\r\nHost: x\r\n\r\n"
    with running(queue) as site, raw(site, stream, room=4096):
        wait_until(lambda: site.service.gate.total, "it listens", timeout=PATIENCE_S)

        def is_sent_away() -> bool:
            queue.add_message_to_thread("t", "x" * 200_000)
            return not site.service.gate.total

        wait_until(is_sent_away, "it is sent away", timeout=PATIENCE_S)
        wait_until(
            lambda: not site.server.server_state.connections,
            "and its connection is cut",
            timeout=PATIENCE_S,
        )
