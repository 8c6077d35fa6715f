"""Live events of a thread for all listeners: event streams and sockets."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import httpx
import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from assistant_queue import AssistantMessageQueue, InvalidArgument
from assistant_queue.integrations.fastapi import rooms
from assistant_queue.integrations.fastapi.access import ANONYMOUS, Action, Caller
from assistant_queue.integrations.fastapi.frames import note
from assistant_queue.integrations.fastapi.listener import Listener
from assistant_queue.testing import StandInProvider
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until
from tests.web.conftest import Site, running
from tests.web.listening import listening

OURS = {"caught_up", "presence", "closed", "joined", "left", "accepted"}


def happened(events: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [event for event in events if event["type"] not in OURS]


def test_all_listeners_get_the_same_events(site: Site, queue: AssistantMessageQueue) -> None:
    with ExitStack() as stack:
        streams = [stack.enter_context(listening(site.url, "t")) for _ in range(5)]
        for stream in streams:
            stream.until("caught_up")
        queue.ask("t", "Hi!", author="Ann", timeout=PATIENCE_S)
        told = [happened(stream.until("reply_ready")) for stream in streams]
        assert told[1:] == told[:-1]
        first, *_, last = told[0]
        assert (first["type"], first["author"], first["content"]) == (
            "message_queued",
            "Ann",
            "Hi!",
        )
        assert last["reply"] == "You said: Ann: Hi!"
        assert len(site.service.rooms._rooms) == 1, "one reader for all of them"


def test_a_listener_that_comes_back_has_missed_nothing_and_hears_nothing_twice(
    site: Site, queue: AssistantMessageQueue
) -> None:
    with listening(site.url, "t") as whole:
        whole.until("caught_up")
        start = whole.last_id
        for text in ("one", "two", "three"):
            queue.ask("t", text, timeout=PATIENCE_S)
        everything = [event for _ in range(3) for event in happened(whole.until("reply_ready"))]
        # Again and again from any event: while another listener is there, and from before that room was
        # opened.
        for place in (0, 3, len(everything) - 2):
            with listening(site.url, "t", after=everything[place]["id"]) as again:
                rest = [happened([again.next()]) for _ in range(len(everything) - place)]
                found = [event for one in rest for event in one]
                assert found[: len(everything) - place - 1] == everything[place + 1 :][: len(found)]
        with listening(site.url, "t", after=start) as again:
            assert [
                event for _ in range(3) for event in happened(again.until("reply_ready"))
            ] == everything


def test_a_listener_from_before_the_room_catches_up_without_a_gap(
    site: Site, queue: AssistantMessageQueue
) -> None:
    with listening(site.url, "t") as early:
        early.until("caught_up")
        start = early.last_id
        queue.ask("t", "one", timeout=PATIENCE_S)
        first = happened(early.until("reply_ready"))
    with listening(site.url, "t") as late:
        late.until("caught_up")
        with listening(site.url, "t", after=start) as again:
            assert happened(again.until("reply_ready")) == first
            queue.ask("t", "two", timeout=PATIENCE_S)
            second = happened(again.until("reply_ready"))
            assert second == happened(late.until("reply_ready"))


def test_an_id_of_another_redis_begins_again_and_says_so(
    site: Site, queue: AssistantMessageQueue
) -> None:
    queue.open_events("t")
    queue.ask("t", "one", timeout=PATIENCE_S)
    with listening(site.url, "t", after="9999999999999-0") as stream:
        told = stream.until("reply_ready")
    assert "events_missed" in [event["type"] for event in told]
    assert "message_queued" in [event["type"] for event in told]


# --- all threads ----------------------------------------------------------------------------------


def test_the_feed_has_the_events_of_all_threads_for_all_its_listeners(
    site: Site, queue: AssistantMessageQueue
) -> None:
    threads = ["a", "b", "a"]
    with listening(site.url, None) as stream, listening(site.url, None) as other:
        for one in (stream, other):
            assert [event["type"] for event in one.until("caught_up")] == ["caught_up"]
        for name in threads:
            queue.ask(name, f"I am {name}", timeout=PATIENCE_S)
        found = [event for _ in threads for event in happened(stream.until("reply_ready"))]
        assert found == [event for _ in threads for event in happened(other.until("reply_ready"))]
        assert [event["thread_id"] for event in found] == [name for name in threads for _ in "life"]
        assert not {"text_delta", "presence"} & {event["type"] for event in found}
        with listening(site.url, None, after=found[4]["id"]) as again:
            assert happened(again.until("caught_up")) == found[5:]
        assert len(site.service.rooms._rooms) == 1
    assert httpx.get(f"{site.url}/api/feed", params={"after": "yesterday"}).status_code == 422


def test_the_feed_is_a_separate_action_without_a_thread(queue: AssistantMessageQueue) -> None:
    asked: list[tuple[str, str | None]] = []
    answers = iter([True, True, False])

    def authorize(_: Any, action: str, thread_id: str | None) -> Caller | bool:
        asked.append((action, thread_id))
        sees = ["message_queued"]
        return action == Action.FEED and next(answers) and Caller(sees=sees)

    with running(queue, authorize=authorize, recheck_access=0.2) as site:
        with listening(site.url, None) as stream:
            stream.until("caught_up")
            for name in ("a", "b"):
                queue.add_message_to_thread(name, "Hi!")
            rest = stream.rest()
        assert [event["type"] for event in rest] == ["message_queued"] * 2 + ["closed"]
        assert set(asked) == {(Action.FEED, None)}
        assert httpx.get(f"{site.url}/api/threads/t/events").status_code == 403


def test_no_thread_id_leads_to_the_feed(site: Site, queue: AssistantMessageQueue) -> None:
    with joined(site, "a") as socket:
        tell(socket, type="join", thread_id="")
        assert hear(socket, "problem")["code"] == "invalid_argument"
    assert httpx.get(f"{site.url}/api/threads//events").status_code == 404
    with pytest.raises(InvalidArgument):
        queue.events("", after="0")
    assert not site.service.rooms._rooms


@pytest.mark.parametrize("after", ["yesterday", "-1", "1-", "1-2-3"])
def test_an_id_that_is_none_is_refused(site: Site, after: str) -> None:
    for answer in (
        httpx.get(f"{site.url}/api/threads/t/events", params={"after": after}),
        httpx.get(f"{site.url}/api/threads/t/events", headers={"Last-Event-ID": after}),
    ):
        assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")


def test_a_silent_stream_gives_signs_of_life(queue: AssistantMessageQueue) -> None:
    with (
        running(queue, heartbeat=0.1, reconnect_after=2.5) as site,
        listening(site.url, "t") as stream,
    ):
        stream.until("caught_up")
        threading.Timer(0.5, lambda: queue.add_message_to_thread("t", "Hi!")).start()
        stream.until("message_queued")
        assert stream.comments >= 2
        assert stream.retry == 2500


def test_presence_is_shared_across_servers(queue: AssistantMessageQueue) -> None:
    with running(queue) as one, running(queue) as two, listening(one.url, "t", name="Ann") as ann:
        with (
            listening(two.url, "t", name="bob") as bob,
            listening(two.url, "t", name="bob"),
            listening(two.url, "t"),
        ):
            assert people_until(ann, ["Ann", "bob"])
            assert people_until(bob, ["Ann", "bob"])
        assert people_until(ann, ["Ann"])
    assert queue._store.client.zrange(queue._commands.namespace.keys.present("t"), 0, -1) == []


def people_until(stream: Any, people: list[str]) -> bool:
    while True:
        (event,) = stream.until("presence")[-1:]
        if event["people"] == people:
            return True


def test_a_server_that_stops_lets_streams_sockets_and_waiting_requests_end(
    queue: AssistantMessageQueue,
) -> None:
    site = Site(queue).start()
    answers: list[httpx.Response] = []
    waiting = threading.Thread(
        target=lambda: answers.append(
            httpx.post(
                f"{site.url}/api/chat",
                json={"thread_id": "t", "message": "Hi!"},
                timeout=PATIENCE_S,
            )
        )
    )
    with listening(site.url, "t") as stream, joined(site, "t") as socket:
        stream.until("caught_up")
        waiting.start()
        stream.until("message_queued")
        site.stop()
        stream.rest()
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                socket.recv(10)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1012
    waiting.join()
    assert (answers[0].status_code, answers[0].json()["code"]) == (503, "stopping")
    assert queue.get_thread_status("t").pending_count == 1, "the message stays"


# --- sockets --------------------------------------------------------------------------------------


def tell(socket: ClientConnection, **wish: Any) -> None:
    socket.send(json.dumps(wish))


def hear(socket: ClientConnection, *kinds: str, thread_id: str | None = None) -> dict[str, Any]:
    while True:
        said = json.loads(socket.recv(10))
        if said["type"] in kinds and thread_id in {None, said.get("thread_id")}:
            return said


@contextmanager
def joined(site: Site, *threads: str, **more: Any) -> Iterator[ClientConnection]:
    with connect(f"{site.url.replace('http', 'ws')}/api/socket") as socket:
        for thread_id in threads:
            tell(socket, type="join", thread_id=thread_id, **more)
            hear(socket, "joined", thread_id=thread_id)
        yield socket


def test_a_socket_is_in_several_rooms_and_hears_of_no_other(
    site: Site, queue: AssistantMessageQueue
) -> None:
    with joined(site, "a", "b") as socket, joined(site, "b", name="Bob") as other:
        tell(other, type="say", thread_id="b", message="Hi!", author="Bob", ref=7)
        accepted = hear(other, "accepted")
        assert (accepted["ref"], accepted["status"]) == (7, "queued")
        assert hear(socket, "reply_ready")["thread_id"] == "b"
        queue.ask("c", "elsewhere", timeout=PATIENCE_S)
        queue.ask("a", "here", timeout=PATIENCE_S)
        heard = []
        while not heard or heard[-1]["type"] != "reply_ready":
            heard.append(json.loads(socket.recv(10)))
        assert {event["thread_id"] for event in heard if event["type"] not in OURS} == {"a"}
        tell(socket, type="leave", thread_id="a")
        hear(socket, "left")
        queue.ask("a", "again", timeout=PATIENCE_S)
        queue.ask("b", "again", timeout=PATIENCE_S)
        assert hear(socket, "message_queued")["thread_id"] == "b"


def test_a_socket_resumes_where_it_was(site: Site, queue: AssistantMessageQueue) -> None:
    with joined(site, "a") as socket:
        queue.ask("a", "one", timeout=PATIENCE_S)
        first = hear(socket, "message_queued")
    with joined(site, "a", after=first["id"]) as socket:
        assert hear(socket, "message_queued", "reply_ready")["type"] == "reply_ready"


def test_what_a_socket_cannot_do_is_a_problem_and_the_socket_continues(site: Site) -> None:
    with joined(site, "a") as socket:
        wrong: list[tuple[str, str]] = [
            ("nonsense", "invalid_argument"),
            ("[]", "invalid_argument"),
            ('{"type": "join"}', "invalid_argument"),
            ('{"type": "dance", "thread_id": "a"}', "invalid_argument"),
            ('{"type": "join", "thread_id": "a"}', "already_joined"),
            ('{"type": "join", "thread_id": "b", "after": "yesterday"}', "invalid_argument"),
            ('{"type": "join", "thread_id": "b", "name": 7}', "invalid_argument"),
            ('{"type": "join", "thread_id": "b", "name": "\\ud800"}', "invalid_argument"),
            ('{"type": "join", "thread_id": "b", "name": "a\\u0000b"}', "invalid_argument"),
            ('{"type": "join", "thread_id": "a", "ref": "\\ud800"}', "already_joined"),
            ('{"type": "say", "thread_id": "a/b", "message": "Hi!"}', "invalid_argument"),
            ('{"type": "join", "thread_id": ".."}', "invalid_argument"),
            ('{"type": "say", "thread_id": "a", "message": " "}', "invalid_request"),
        ]
        for said, code in wrong:
            socket.send(said)
            problem = hear(socket, "problem")
            assert (problem["code"], "Traceback" in str(problem)) == (code, False)
            if code == "invalid_request":
                assert problem["fields"] == [
                    {"where": "message", "why": "Expected text that is not blank."}
                ]
        socket.send('{"type": "leave", "thread_id": "b", "ref": "\\ud800"}')
        assert hear(socket, "left")["ref"] == "\ud800"
        tell(socket, type="say", thread_id="a", message="still here")
        assert hear(socket, "message_queued")["content"] == "still here"


def test_limits_hold_on_sockets_too(queue: AssistantMessageQueue) -> None:
    with running(queue, rate_limit="1/minute") as site, joined(site, "a") as socket:
        for ref in (1, 2):
            tell(socket, type="say", thread_id="a", message="Hi!", ref=ref)
        refused = hear(socket, "problem")
        assert (refused["status"], refused["ref"]) == (429, 2)
        assert refused["retry_after"] > 50


# --- one listener ---------------------------------------------------------------------------------


async def test_a_listener_that_lags_too_far_is_sent_away(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Standing:
        async def events(self, thread_id: str, after: str) -> Any:
            await asyncio.Event().wait()
            yield

    room = rooms.Room(Standing(), "t", "0")  # type: ignore[arg-type]
    fast, slow = Listener(room, "0", ANONYMOUS), Listener(room, "0", ANONYMOUS)
    for listener in (fast, slow):
        room.listeners.add(listener)
        listener.start_at(0)
    for number in range(rooms.KEPT + 1):
        room.publish(note("presence", "t", number=number))
        if number % 100 == 0:
            await fast.frames()
    assert await slow.frames() == []
    assert slow.is_over
    assert len(await fast.frames()) == rooms.KEPT % 100
    assert not fast.is_over
    room.reading.cancel()


def test_nothing_is_left_when_all_have_gone(site: Site, provider: StandInProvider) -> None:
    with joined(site, "a", "b"), listening(site.url, "a") as stream:
        stream.until("caught_up")
        assert site.service.gate.total == 2
    wait_until(
        lambda: not site.service.gate.total and not site.service.rooms._rooms,
        "all have gone",
        timeout=PATIENCE_S,
    )
    assert site.service.gate.total == 0
    assert site.service.rooms._rooms == {}
    assert site.service.rooms.presence._own == {}
