"""Sockets of clients that flood, send what cannot be read, or read nothing."""

from __future__ import annotations

import asyncio
import json
from itertools import pairwise, repeat
from typing import Any

import pytest
from limits import parse_many
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import NotAllowed
from assistant_queue.integrations.fastapi import frame_limits, sockets
from assistant_queue.integrations.fastapi.frame_limits import Pace, Paces, TooFast
from tests.web.conftest import running
from tests.web.raw_socket import RawSocket

LEAVE = json.dumps({"type": "leave", "thread_id": "t"})
DEEP = "[" * 100_000
BAD = {
    "no JSON": "nonsense",
    "no object": "[]",
    "nothing": "",
    "no UTF-8": b"\xff\xfe\x00",
    "no type": '{"thread_id": "t"}',
    "an unknown type": '{"type": "dance", "thread_id": "t"}',
    "no thread": '{"type": "join"}',
    "too deep": DEEP,
    "too many values": "[" + "0," * 60_000 + "0]",
    "no message": '{"type": "say", "thread_id": "t", "message": 7}',
}

# --- how fast -------------------------------------------------------------------------------------


async def test_a_flood_is_one_message_a_turn_and_others_have_theirs_between(
    queue: AssistantMessageQueue,
) -> None:
    flood = RawSocket(queue, repeat(LEAVE, 300), frame_limit=None)
    await asyncio.wait_for(flood.run(), 30)
    assert len(flood.received("left")) == 300
    answered = flood.turns[1:]
    assert all(later > earlier for earlier, later in pairwise(answered)), "two in one turn"


async def test_a_flood_is_slowed_down_first_and_closed_if_it_continues(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame_limits, "PATIENCE", 3)
    flood = RawSocket(queue, repeat(LEAVE), frame_limit="20/second")
    await asyncio.wait_for(flood.run(), 30)
    assert flood.closed == (1008, "too many messages; send fewer")
    handled = len(flood.received("left"))
    assert handled >= 20 + 3, "slowed down, but done"
    assert flood.taken <= handled + 3, "no more is taken than is handled"


@pytest.mark.parametrize(
    "said",
    [LEAVE, BAD["no JSON"], BAD["an unknown type"], b"\xff"],
    ids=["good", "no JSON", "unknown", "binary"],
)
async def test_messages_of_every_kind_count(
    queue: AssistantMessageQueue, said: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "BAD_FRAMES", 1000)
    flood = RawSocket(
        queue, repeat(said), frame_limit="4/minute"
    )  # the fifth would have to wait for fifteen seconds
    await asyncio.wait_for(flood.run(), 30)
    assert flood.closed[0] == 1008
    assert len(flood.received("left") + flood.received("problem")) == 4


def test_a_pace_is_a_burst_and_then_a_steady_trickle() -> None:
    pace = Pace(parse_many("10/second;100/minute"))
    assert [pace.take(50.0) for _ in range(10)] == [0.0] * 10
    assert pace.take(50.0) == pytest.approx(0.1)
    assert pace.take(50.2) == 0.0, "what was waited for is made up"
    assert not pace.is_full(51.0)
    assert pace.is_full(60.0)
    for _ in range(88):
        pace.take(70.0)
    assert pace.take(80.0) == 0.0
    for _ in range(20):
        late = pace.take(80.0)
    assert late > 1.0, "the other limit holds, too"


async def test_all_sockets_of_a_client_have_four_times_the_pace_also_if_it_connects_anew() -> None:
    paces = Paces(parse_many("3/hour"))
    with paces.throttle("ann") as one, paces.throttle("ann") as two, paces.throttle("ann") as three:
        for throttle in (one, two, three):
            for _ in range(3):
                await throttle.turn()
    with (
        paces.throttle("ann") as four,
        paces.throttle("ann") as five,
        paces.throttle("bob") as other,
    ):
        for _ in range(3):
            await four.turn()
        with pytest.raises(TooFast):
            await five.turn()
        await other.turn()
    assert not paces._open


async def test_clients_that_are_gone_and_rested_are_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(frame_limits, "KEPT", 2)
    paces = Paces(parse_many("1000000/second"))
    for number in range(20):
        with paces.throttle(f"client {number}") as throttle:
            await throttle.turn()
    assert len(paces._paces) < 20


# --- what cannot be read --------------------------------------------------------------------------


@pytest.mark.parametrize("said", BAD.values(), ids=BAD)
async def test_a_few_messages_that_cannot_be_read_close_the_socket(
    queue: AssistantMessageQueue, said: str | bytes
) -> None:
    bad = RawSocket(queue, repeat(said))
    await asyncio.wait_for(bad.run(), 30)
    assert len(bad.received("problem")) == sockets.BAD_FRAMES
    assert bad.closed == (1007, "5 messages in a row that cannot be read")


async def test_what_is_too_complex_is_not_parsed_and_not_authorized(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    asked: list[Any] = []
    parsed: list[int] = []
    deep = RawSocket(
        queue, [DEEP], authorize=lambda _, action, thread_id: asked.append(thread_id) or True
    )
    with monkeypatch.context() as patching:
        patching.setattr(sockets.json, "loads", lambda text: parsed.append(len(text)) or {})
        await deep.run()
    assert [problem["code"] for problem in deep.received("problem")] == ["too_complex"]
    assert (asked, parsed) == ([None], []), "only about the socket itself"
    assert not [record for record in caplog.records if record.exc_info]


async def test_mistakes_with_something_readable_between_them_close_nothing(
    queue: AssistantMessageQueue,
) -> None:
    clumsy = RawSocket(queue, [*(["nonsense"] * 4), LEAVE] * 3)
    await clumsy.run()
    assert (len(clumsy.received("problem")), len(clumsy.received("left")), clumsy.is_closed) == (
        12,
        3,
        False,
    )


def test_a_client_sees_why_it_was_closed(queue: AssistantMessageQueue) -> None:
    with running(queue) as site, connect(f"{site.url.replace('http', 'ws')}/api/socket") as socket:
        for _ in range(5):
            socket.send("nonsense")
            assert json.loads(socket.recv(10))["code"] == "invalid_argument"
        with pytest.raises(ConnectionClosed) as closed:
            socket.recv(10)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (
            1007,
            "5 messages in a row that cannot be read",
        )


# --- what is not read -----------------------------------------------------------------------------


async def test_a_client_that_reads_nothing_is_sent_away(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "SEND_TIMEOUT_S", 0.05)

    class Silent(RawSocket):
        async def gone(self) -> dict[str, Any]:
            await asyncio.Event().wait()
            raise AssertionError

    slow = Silent(queue, [LEAVE], reads=False)
    await asyncio.wait_for(slow.run(), 30)
    assert slow.closed == (1008, "reads too slowly; come back and resume")
    assert slow.service.gate.total == 0


# --- refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("why", ["origin", "host", "authorize", "streams", "requests"])
@pytest.mark.parametrize(
    "denial", [True, False], ids=["with a problem", "by a server that sends no body"]
)
async def test_a_refused_socket_leaves_no_traceback(
    queue: AssistantMessageQueue, why: str, denial: bool, caplog: pytest.LogCaptureFixture
) -> None:
    def authorize(*_: object) -> bool:
        if why == "authorize":
            raise NotAllowed("no")
        return True

    refused = RawSocket(
        queue,
        denial=denial,
        authorize=authorize,
        allowed_hosts=["test"],
        max_streams=1,
        request_limit="1/minute",
    )
    if why == "origin":
        refused.scope["headers"].append((b"origin", b"http://evil.example"))
    elif why == "host":
        refused.scope["headers"] = [(b"host", b"evil.example")]
    elif why == "streams":
        refused.service.gate.enter("another")
    elif why == "requests":
        await refused.service._limiter.hit(
            refused.service._requests, "requests", "address 127.0.0.1"
        )
    await refused.run()
    status = {"origin": 403, "host": 400, "authorize": 403, "streams": 503, "requests": 429}[why]
    if denial:
        assert refused.sent[0]["status"] == status
        assert json.loads(refused.sent[1]["body"])["status"] == status
    else:
        assert [one["type"] for one in refused.sent] == ["websocket.close"]
    assert not [record for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "stage", ["websocket.accept", "websocket.send", "websocket.http.response.start"]
)
async def test_a_client_that_is_gone_leaves_no_traceback(
    queue: AssistantMessageQueue, stage: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Gone(RawSocket):
        async def _send(self, message: dict[str, Any]) -> None:
            if message["type"] == stage:
                raise OSError("the client has gone")
            await super()._send(message)

    gone = Gone(queue, [LEAVE], authorize=lambda *_: stage != "websocket.http.response.start")
    await asyncio.wait_for(gone.run(), 30)
    assert not [record for record in caplog.records if record.exc_info]
    assert gone.service.gate.total == 0
