"""The routes of the operations page: what they show, what they change, and what is recorded."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import Action, Caller
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls, Turn
from assistant_queue.testing.provider.script import Outcome
from tests.conftest import PATIENCE_S
from tests.integration.conftest import wait_until

Asgi = Callable[..., httpx.AsyncClient]
OPS = "/api/ops"


def operators(request: Any, action: Action, thread_id: str | None) -> Caller | bool:
    """Roles by a header: `reader` may look, `operator` may change, others may do neither."""
    role = request.headers.get("x-role")
    may = {
        "reader": {Action.OPERATE_READ},
        "operator": {Action.OPERATE_READ, Action.OPERATE_CHANGE},
    }
    if action not in may.get(role, set()):
        return False
    return Caller(id="7", name="Ann" if role == "operator" else "Rita")


async def do(client: httpx.AsyncClient, operation: str, **more: Any) -> Any:
    answer = await client.post(f"{OPS}/operations", json={"operation": operation, **more})
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_each_role_may_do_what_its_actions_allow(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi(authorize=operators)
    reads = ["overview", "history", "threads", "threads/t", "threads/t/messages", "failed"]
    reads += ["search?q=x", "operations", "approvals"]
    change = {"operation": "pause", "thread_id": "t"}
    for role, read_status, change_status in (
        ("reader", 200, 403),
        ("operator", 200, 200),
        ("visitor", 403, 403),
    ):
        headers = {"x-role": role}
        for path in reads:
            got = await client.get(f"{OPS}/{path}", headers=headers)
            assert got.status_code == read_status, (role, path, got.text)
        got = await client.post(f"{OPS}/operations", json=change, headers=headers)
        assert got.status_code == change_status, role
        assert queue.get_thread_status("t").paused is (role == "operator")
        queue.resume("t")
        for other in ("status", "failed", "threads"):  # the actions of the page give no others
            assert (await client.get(f"/api/{other}", headers=headers)).status_code == 403
    seen = {
        role: (await client.get(f"{OPS}/overview", headers={"x-role": role})).json()["operator"]
        for role in ("reader", "operator")
    }
    assert seen == {
        "reader": {"name": "Rita", "may_change": False},
        "operator": {"name": "Ann", "may_change": True},
    }


async def test_what_an_operator_does_is_recorded_with_name_and_time(
    asgi: Asgi, queue: AssistantMessageQueue, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "assistant_queue")
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    began = time.time()
    queue.add_message_to_thread("t", "Hello!", message_id="m1", message_delay=600)
    await do(client, "pause", thread_id="t")
    await do(client, "pause")
    assert queue.get_queue_status().paused
    await do(client, "resume")
    await do(client, "say", thread_id="t", text="We are on it.")
    assert (await do(client, "stop", thread_id="t"))["done"] is False
    assert (await do(client, "flush", thread_id="t"))["done"] is True
    assert (await do(client, "cancel_message", thread_id="t", message_id="m1"))["done"] is True
    missing = await client.post(
        f"{OPS}/operations",
        json={"operation": "cancel_message", "thread_id": "other", "message_id": "m1"},
    )
    assert missing.status_code == 404
    rows = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert [(row["operation"], row["thread_id"], row["done"], row["error"]) for row in rows] == [
        ("cancel_message", "other", False, "message_not_found"),
        ("cancel_message", "t", True, None),
        ("flush", "t", True, None),
        ("stop", "t", False, None),
        ("say", "t", True, None),
        ("resume", None, True, None),
        ("pause", None, True, None),
        ("pause", "t", True, None),
    ]
    assert {row["by"] for row in rows} == {"Ann"}
    assert "operation say by 'Ann' on thread 't': done" in caplog.text
    kept = queue.core.store.client.lrange(queue.core.namespace.keys.operations, 0, -1)
    for text in ("We are on it.", "Hello!"):
        assert text not in str(rows) + str(kept) + caplog.text
    from datetime import datetime

    times = [datetime.fromisoformat(row["at"]).timestamp() for row in rows]
    assert times == sorted(times, reverse=True)
    assert began - 1 <= times[-1] <= time.time() + 1
    of_thread = (await client.get(f"{OPS}/operations", params={"thread_id": "t"})).json()
    assert len(of_thread["operations"]) == 5
    await asyncio.to_thread(queue.forget_thread, "t")
    left = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert {row["thread_id"] for row in left} == {None, "other"}


async def test_changes_over_other_routes_are_recorded_with_their_caller(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi(authorize=lambda *_: Caller(id="7", name="Ann"))
    queue.add_message_to_thread("t", "Hello!", message_delay=600)
    for method, path, body, status in (
        ("POST", "pause", None, 204),
        ("POST", "resume", None, 204),
        ("POST", "threads/t/pause", None, 204),
        ("POST", "threads/t/resume", None, 204),
        ("POST", "threads/t/flush", None, 200),
        ("POST", "threads/t/take-over", {"stop": False}, 200),
        ("POST", "threads/t/hand-back", None, 200),
        ("POST", "threads/t/say", {"text": "We are on it.", "author": "Jo"}, 202),
        ("POST", "threads/t/say", {"text": " "}, 422),
        ("POST", "threads/t/approvals/c/approve", None, 404),
        ("POST", "failed/all/retry?reason=attempts&thread_id=t", None, 200),
        ("DELETE", "failed", None, 200),
        ("POST", "failed/b/retry", None, 404),
        ("DELETE", "failed/b", None, 404),
        ("POST", "threads/t/take-over", {"stop": "no"}, 422),
        # A conversation's client is no operator.
        ("POST", "threads/t/stop", None, 200),
        ("POST", "threads/t/messages", {"message": "Hi!"}, 202),
    ):
        got = await client.request(method, f"/api/{path}", json=body)
        assert got.status_code == status, (path, got.text)
    rows = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert {row["by"] for row in rows} == {"Ann"}
    assert all(row["ended"] for row in rows)
    seen = [(row["operation"], row["thread_id"], row["done"], row["count"]) for row in rows]
    assert seen[::-1] == [
        ("pause", None, True, None),
        ("resume", None, True, None),
        ("pause", "t", True, None),
        ("resume", "t", True, None),
        ("flush", "t", True, None),
        ("take_over", "t", True, None),
        ("hand_back", "t", True, None),
        ("say", "t", True, None),
        ("retry_failed", "t", False, 0),
        ("discard_failed", None, False, 0),
        ("retry_failed", None, False, None),
        ("discard_failed", None, False, None),
    ]
    assert [row["error"] for row in rows[:2]] == ["batch_not_found", "batch_not_found"]
    assert "We are on it." not in str(rows), "texts are not recorded"


async def test_what_an_anonymous_caller_says_is_not_recorded(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    said = await client.post("/api/threads/t/say", json={"text": "Hi!", "author": "Jo"})
    assert said.status_code == 202
    taken = await client.post("/api/threads/t/take-over", json={"by": "Jo"})
    assert taken.status_code == 200
    rows = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert [(row["operation"], row["by"]) for row in rows] == [("take_over", None)]
    queue.hand_back("t")
    by_id = asgi(authorize=lambda *_: Caller(id="7"))
    await by_id.post("/api/threads/t/say", json={"text": "Hi!", "kind": "notice"})
    (said_by_id, _) = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert (said_by_id["operation"], said_by_id["by"]) == ("say", "7")
    assert (await client.delete("/api/threads/t")).status_code == 204
    left = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert left[0]["operation"] == "forget_thread"
    assert {row["thread_id"] for row in left} == {None}
    kept = queue.core.store.client.lrange(queue.core.namespace.keys.operations, 0, -1)
    assert not [row for row in kept if b'"t"' in row.replace(b'"t":', b"")]


HOSTILE = (
    "",
    "{",
    "5",
    "[]",
    '{"at": 1}',
    '{"at": 1, "op": 2, "by": [], "n": {}}',
    b"\xff{",
    "{" * 9999,
)


async def test_foreign_contents_of_the_pages_keys_stop_neither_the_page_nor_a_worker(
    asgi: Asgi, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.worker.scheduler.SAMPLE_MS", 50)
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    redis = queue.core.store.client
    keys = queue.core.namespace.keys
    views = ["overview", "history", "threads?state=paused", "operations", "search?q=x", "threads/t"]

    async def look() -> None:
        for view in views:
            got = await client.get(f"{OPS}/{view}")
            assert got.status_code == 200, (view, got.text)
        await do(client, "pause", thread_id="t")
        await do(client, "resume", thread_id="t")
        found = (await client.get(f"{OPS}/operations")).json()["operations"]
        assert [row["operation"] for row in found[:2]] == ["resume", "pause"]

    queue.start_worker()
    for spoil in (
        lambda key: redis.set(key, b"\xff"),
        lambda key: redis.sadd(key, "x"),
        lambda key: redis.hset(key, "m", "x"),
    ):
        for key in (keys.history, keys.operations, keys.pausing):
            redis.delete(key)
            spoil(key)
        await look()
    for key in (keys.history, keys.operations, keys.pausing):
        redis.delete(key)
    for number, text in enumerate(HOSTILE):
        redis.xadd(keys.history, {"m": text, "x": "y"}, id=f"{number + 1}-1")
        redis.lpush(keys.operations, text)
        redis.zadd(keys.pausing, {text or "x": number})
    await look()
    redis.xadd(keys.history, {"x": "y"}, id=f"{2**62}-1")  # no later sample fits
    await look()
    reply = await asyncio.to_thread(queue.ask, "t", "Hello!", timeout=PATIENCE_S)
    assert reply == "You said: Hello!"


@pytest.mark.parametrize("order", ["oldest_due", "newest_due"])
async def test_a_list_of_threads_looks_for_no_keys_and_reads_a_bounded_number(
    asgi: Asgi, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch, order: str
) -> None:
    monkeypatch.setattr("assistant_queue.store.ops.thread_pages.BUDGET", 4)
    monkeypatch.setattr("assistant_queue.store.ops.thread_pages.CHUNK", 2)
    for number in range(11):
        queue.add_message_to_thread(f"t{number:02}", "Hello!", message_delay=600 + number)
    queue.pause("t01")
    queue.take_over("t03", "Jo")
    queue.list_threads("paused")  # from now on the list is complete
    client = asgi()

    async def all_of(state: str) -> list[list[str]]:
        pages = []
        after: dict[str, str] = {}
        while True:
            words = {"state": state, "limit": "3", "order": order, **after}
            got = (await client.get("/api/threads", params=words)).json()
            pages.append([row["thread_id"] for row in got["threads"]])
            if got["next"] is None:
                return pages
            after = {"after": got["next"]}

    redis = queue.core.store.client
    with redis.monitor() as monitor:
        pages = {
            state: await all_of(state)
            for state in ("paused", "taken_over", "parked", "active", "pending")
        }
        redis.echo("the end")
        commands = []
        for one in monitor.listen():
            commands.append(one["command"].split()[0].upper())
            if commands[-1] == "ECHO":
                break
    assert not {"SCAN", "KEYS"} & set(commands)
    assert (pages["paused"], pages["taken_over"]) == ([["t01"]], [["t03"]])
    assert pages["parked"] == pages["active"] == [[], [], []]
    waiting = [f"t{number:02}" for number in range(11) if number not in {1, 3}]
    found = [one for page in pages["pending"] for one in page]
    assert found == (waiting if order == "oldest_due" else waiting[::-1])
    gone = await client.get("/api/threads?state=pending&after=gone")
    assert (gone.status_code, gone.json()["code"]) == (422, "invalid_argument")


async def test_no_view_looks_for_keys_or_reads_what_is_unbounded(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    for number in range(30):
        queue.add_message_to_thread(f"t{number}", "Hello!", message_delay=600)
    queue.pause("t1")
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    await client.get(f"{OPS}/overview")
    redis = queue.core.store.client
    with redis.monitor() as monitor:
        views = ["overview", "history", "threads", "threads/t1", "failed", "approvals"]
        views += [f"threads?state={name}" for name in ("active", "parked", "paused", "stuck")]
        for view in [*views, "search?q=t1", "search?q=Hello", "operations"]:
            assert (await client.get(f"{OPS}/{view}")).status_code == 200
        redis.echo("the end")
        seen = []
        for command in monitor.listen():
            if command["command"].upper().startswith("ECHO"):
                break
            seen.append(command["command"].upper().split()[0:4])
    own = [words for words in seen if any(keys_of(queue) in word for word in words)]
    assert len(own) > 50
    names = {words[0] for words in own}
    assert not names & {"KEYS", "SCAN", "HKEYS", "HVALS", "SORT"}, names
    prefix = keys_of(queue)
    whole = {words[1] for words in own if words[0] in {"HGETALL", "SMEMBERS"}}
    bounded = {f"{prefix}:METRICS", f"{prefix}:COUNTERS", f"RQ:WORKERS:{prefix}"}
    assert whole <= bounded, "of a fixed number of fields, and the workers"
    ranges = [words for words in own if words[0] in {"ZRANGE", "LRANGE", "XRANGE", "XREVRANGE"}]
    entire = {words[1] for words in ranges if words[2:4] == ["0", "-1"]}
    assert entire <= {f"{prefix}:JOURNAL:T1"}, "which the option `journal` bounds"


def keys_of(queue: AssistantMessageQueue) -> str:
    """The prefix of the queue's keys, as the test above compares it."""
    return str(queue.core.namespace.keys.prefix).upper()


async def test_an_operator_takes_a_thread_over_and_hands_it_back(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    queue.take_over("t", "Jo")
    body = {"operation": "take_over", "thread_id": "t"}
    refused = await client.post(f"{OPS}/operations", json=body)
    assert (refused.status_code, refused.json()["code"]) == (409, "thread_taken_over")
    assert (await do(client, **body, instead_of="Jo"))["done"]
    (row,) = (await client.get(f"{OPS}/threads", params={"state": "taken_over"})).json()["threads"]
    assert (row["thread_id"], row["taken_over_by"]) == ("t", "Ann")
    assert (await do(client, "hand_back", thread_id="t"))["done"]
    assert not (await do(client, "hand_back", thread_id="t"))["done"]
    assert queue.get_thread_status("t").taken_over_by is None


async def test_an_operator_settles_calls_that_wait(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    def model(turn: Turn) -> Outcome:
        if turn.tool_outputs:
            return Reply(turn.tool_outputs[0].output)
        return ToolCalls([("refund", {"order": turn.user_texts[-1]})])

    @queue.tool(approval="Refund {order}?")
    def refund(order: str) -> str:
        return f"refunded {order}"

    provider.model = model
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    queue.start_worker()
    first = queue.add_message_to_thread("t", "one").message_id
    second = queue.add_message_to_thread("u", "two").message_id

    async def calls() -> dict[str, str]:
        found = (await client.get(f"{OPS}/approvals")).json()["approvals"]
        return {one["question"]: one["call_id"] for one in found}

    await asyncio.to_thread(wait_until, lambda: len(queue.list_approvals()) == 2, "two calls wait")
    asked = await calls()
    one = asked["Refund one?"]
    two = asked["Refund two?"]
    (shown,) = (await client.get(f"{OPS}/threads/t")).json()["approvals"]
    assert shown["call_id"] == one
    wrong = {"operation": "approve_call", "thread_id": "t", "call_id": two}
    assert (await client.post(f"{OPS}/operations", json=wrong)).status_code == 404
    assert (await do(client, "approve_call", thread_id="t", call_id=one))["done"]
    assert (await do(client, "deny_call", thread_id="u", call_id=two, text="too much"))["done"]
    reply = await asyncio.to_thread(queue.wait_for_reply, first, PATIENCE_S)
    denied = await asyncio.to_thread(queue.wait_for_reply, second, PATIENCE_S)
    assert reply == "refunded one"
    assert denied is not None
    assert "too much" in denied
    assert await calls() == {}
    rows = (await client.get(f"{OPS}/operations")).json()["operations"]
    assert [(row["operation"], row["by"], row["done"]) for row in rows] == [
        ("deny_call", "Ann", True),
        ("approve_call", "Ann", True),
        ("approve_call", "Ann", False),
    ]
    assert "too much" not in str(rows)


@pytest.mark.parametrize(
    "body",
    [
        {"operation": "stop"},
        {"operation": "say", "thread_id": "t"},
        {"operation": "say", "thread_id": "t", "text": " "},
        {"operation": "cancel_message", "thread_id": "t"},
        {"operation": "approve_call", "thread_id": "t"},
        {"operation": "deny_call", "call_id": "c"},
        {"operation": "retry_failed"},
        {"operation": "retry_failed", "batch_ids": []},
        {"operation": "discard_failed", "reasons": ["whim"]},
        {"operation": "dance"},
        {"operation": "pause", "thread_id": "a/b"},
        {"operation": "pause", "note": "x"},
        {"operation": "retry_failed", "batch_ids": ["b"] * 1001},
    ],
)
async def test_an_operation_that_lacks_something_is_refused(
    asgi: Asgi, queue: AssistantMessageQueue, body: dict[str, Any]
) -> None:
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    got = await client.post(f"{OPS}/operations", json=body)
    assert got.status_code == 422, got.text
    assert (await client.get(f"{OPS}/operations")).json()["operations"] == []


async def test_failed_batches_are_filtered_counted_and_retried_in_bulk(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda _: RunFailure()
    queue.start_worker()
    for name in ("a", "b", "c"):
        queue.add_message_to_thread(name, "Hello!", message_id=f"m-{name}", message_delay=0)
    await asyncio.to_thread(
        wait_until, lambda: queue.get_queue_status().failed_count == 3, "all failed"
    )
    client = asgi(authorize=operators, headers={"x-role": "operator"})
    found = (await client.get(f"{OPS}/failed")).json()
    assert len(found["failed"]) == 3
    assert found["counts"] == {"by_reason": {"attempts": 3}, "counted": 3, "total": 3}
    assert found["next"] is None
    first = (await client.get(f"{OPS}/failed", params={"limit": 2})).json()
    rest = (await client.get(f"{OPS}/failed", params={"limit": 2, "after": first["next"]})).json()
    ids = [row["batch_id"] for row in first["failed"] + rest["failed"]]
    assert ids == [row["batch_id"] for row in found["failed"]]
    none = (await client.get(f"{OPS}/failed", params={"reason": ["parked", "corrupt"]})).json()
    assert none["failed"] == []
    one = (await client.get(f"{OPS}/failed", params={"thread_id": "b"})).json()["failed"]
    assert [row["thread_id"] for row in one] == ["b"]

    provider.model = lambda _: "Sorry, here you are."
    # A permission for one thread covers the batch of no other.
    foreign = [row["batch_id"] for row in found["failed"] if row["thread_id"] == "a"]
    assert (await do(client, "retry_failed", thread_id="b", batch_ids=foreign))["count"] == 0
    done = await do(client, "retry_failed", batch_ids=[one[0]["batch_id"], "gone"])
    assert (done["count"], done["done"]) == (1, True)
    reply = await asyncio.to_thread(queue.wait_for_reply, "m-b", PATIENCE_S)
    assert reply == "Sorry, here you are."
    assert (await do(client, "discard_failed", reasons=["attempts"]))["count"] == 2
    assert queue.get_queue_status().failed_count == 0


async def test_a_thread_shows_all_that_is_known_of_it(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    await asyncio.to_thread(queue.ask, "t", "What is the time?", timeout=PATIENCE_S)
    queue.add_message_to_thread("t", "And here?", author="Mia", message_delay=600)
    client = asgi(authorize=operators, headers={"x-role": "reader"})
    found = (await client.get(f"{OPS}/threads/t")).json()
    assert found["status"]["state"] == "pending"
    assert [one["text"] for one in found["waiting"]] == ["And here?"]
    assert found["waiting"][0]["author"] == "Mia"
    assert found["batches"][0]["outcome"] == "completed"
    assert "window" in found["sentence"].lower()
    said = (await client.get(f"{OPS}/threads/t/messages")).json()
    assert [one["text"] for one in said["messages"]][-1] == "What is the time?"
    rows = (await client.get(f"{OPS}/threads")).json()
    assert [row["thread_id"] for row in rows["threads"]] == ["t"]
    assert (rows["total"], rows["next"]) == (1, None)


async def test_threads_are_listed_by_state_in_pages_and_paused_ones_without_a_scan(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    for number in range(5):
        queue.add_message_to_thread(f"t{number}", "Hello!", message_delay=600)
    queue.pause("t1")
    queue.pause("idle")
    client = asgi(authorize=operators, headers={"x-role": "reader"})

    async def names(**query: Any) -> list[str]:
        found = (await client.get(f"{OPS}/threads", params=query)).json()
        return [row["thread_id"] for row in found["threads"]]

    assert set(await names(state="paused")) == {"t1", "idle"}
    assert await names(state="pending") == ["t0", "t2", "t3", "t4"]
    assert await names(state="active") == []
    assert await names(state="stuck") == []
    page = (await client.get(f"{OPS}/threads", params={"limit": 3})).json()
    more = await names(limit=3, after=page["next"])
    assert [row["thread_id"] for row in page["threads"]] + more == ["t0", "t2", "t3", "t4"]
    queue.resume("t1")
    assert await names(state="paused") == ["idle"]
    queue.forget_thread("idle")
    assert await names(state="paused") == []


async def test_the_overview_and_its_history_are_kept_while_the_page_is_open(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi(authorize=operators, headers={"x-role": "reader"})
    first = (await client.get(f"{OPS}/overview")).json()
    assert first["status"]["completed_count"] == 0
    assert not first["has_audit"]
    queue.start_worker()
    await asyncio.to_thread(queue.ask, "t", "Hello!", timeout=PATIENCE_S)
    found = (await client.get(f"{OPS}/history", params={"minutes": 60})).json()["spans"]
    assert found[-1]["messages"]["answered"] == 1
    assert found[-1]["p50"]["end_to_end"] > 0
    assert found[-1]["workers"] == 1
    assert (await client.get(f"{OPS}/history", params={"minutes": 4})).status_code == 422


async def test_the_leader_of_the_workers_keeps_samples(
    asgi: Asgi, queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.worker.scheduler.SAMPLE_MS", 50)
    queue.start_worker()
    core = queue.core
    history = core.namespace.keys.history
    await asyncio.to_thread(
        wait_until, lambda: core.store.client.xlen(history) > 0, "a sample without a page"
    )
    assert core.store.client.xlen(history) <= 2, "one a minute, however often it is taken"


async def test_search_finds_ids_authors_and_texts(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    client = asgi(authorize=operators, headers={"x-role": "reader"})
    await client.get(f"{OPS}/overview")  # from now on events are kept
    provider.model = lambda _: "It left the warehouse."
    queue.start_worker()
    receipt = queue.add_message_to_thread(
        "order-7", 'Where is my "blue" sofa?', author="Zoë Quist", message_id="m1"
    )
    await asyncio.to_thread(queue.wait_for_reply, receipt.message_id, PATIENCE_S)
    queue.add_message_to_thread("order-8", "Ein Sofa, bitte", message_id="m2", message_delay=600)
    provider.model = lambda _: RunFailure()
    queue.add_message_to_thread("order-9", "purple carpet", message_id="m3", message_delay=0)
    await asyncio.to_thread(
        wait_until, lambda: queue.get_queue_status().failed_count == 1, "it failed"
    )
    done = queue.get_message("m1")
    assert done is not None

    async def kinds(needle: str) -> set[tuple[str, str, str]]:
        answer = await client.get(f"{OPS}/search", params={"q": needle})
        hits = answer.json()["hits"]
        return {(one["kind"], one["thread_id"], one["source"]) for one in hits}

    assert await kinds("m1") >= {("message", "order-7", "key")}
    assert ("thread", "order-7", "key") in await kinds("order-7")
    assert ("batch", "order-7", "key") in await kinds(str(done.batch_id))
    assert ("run", "order-7", "recent") in await kinds(str(done.run_id))
    assert ("author", "order-7", "recent") in await kinds("zoë")
    assert ("text", "order-7", "recent") in await kinds('"BLUE" sofa')
    assert ("reply", "order-7", "recent") in await kinds("warehouse")
    assert ("text", "order-8", "waiting") in await kinds("ein sofa")
    assert ("text", "order-9", "failed") in await kinds("purple")
    assert ("thread", "order-8", "waiting") in await kinds("rder-8")
    assert await kinds("nothing like it") == set()
    answer = (await client.get(f"{OPS}/search", params={"q": "sofa"})).json()
    assert answer["events"] > 5
    assert answer["since"]
    assert (answer["waiting"], answer["failed"]) == (1, 1)
    assert (await client.get(f"{OPS}/search/audit", params={"q": "x"})).json() == {"hits": []}
