"""Messages over HTTP: taken, waited for, cancelled, edited; and the classic chat."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Never, RunFailure
from tests.conftest import PATIENCE_S

Asgi = Callable[..., httpx.AsyncClient]


async def test_a_message_is_taken_and_its_address_has_its_reply(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    client = asgi()
    taken = await client.post(
        "/api/threads/ann 1/messages", json={"message": "Hi!", "author": "Ann"}
    )
    assert taken.status_code == 202
    body = taken.json()
    assert body["status"] == "queued"
    assert body["job_id"]
    assert 0 < body["estimated_wait_s"] <= 0.2
    assert taken.headers["location"] == f"/api/threads/ann%201/messages/{body['message_id']}"
    assert taken.headers["x-request-id"]

    found = (await client.get(taken.headers["location"], params={"wait": 20})).json()
    assert (found["status"], found["reply"], found["problem"]) == (
        "completed",
        "You said: Ann: Hi!",
        None,
    )


async def test_a_message_that_wants_no_reply_is_answered_with_the_next(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    client = asgi()
    quiet = {"message": "I am Ann", "wants_reply": False}
    kept = (await client.post("/api/threads/ann/messages", json=quiet)).json()
    assert (kept["due_at"], kept["estimated_wait_s"], kept["job_id"]) == (None, None, None)
    refused = await client.post("/api/threads/ann/messages", json={**quiet, "wants_reply": "no"})
    assert refused.status_code == 422
    await client.post("/api/threads/ann/messages", json={"message": "Hi!"})
    address = f"/api/threads/ann/messages/{kept['message_id']}"
    found = (await client.get(address, params={"wait": 20})).json()
    assert (found["status"], found["reply"]) == ("completed", "You said: I am Ann | Hi!")


async def test_a_program_says_something_in_a_thread(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    after = queue.open_events("ann")
    notice = {"text": "We are closed.", "author": "Jo", "kind": "notice"}
    said = await client.post("/api/threads/ann/say", json=notice)
    assert (said.status_code, said.json()["status"]) == (202, "completed")
    event = next(queue.events("ann", after=after, timeout=PATIENCE_S))
    assert event.type == "said"
    assert (event.text, event.author) == ("We are closed.", "Jo")
    reply = (await client.post("/api/threads/ann/say", json={**notice, "kind": "reply"})).json()
    assert reply["status"] == "queued"
    queue.start_worker()
    place = f"/api/threads/ann/messages/{reply['message_id']}"
    found = (await client.get(place, params={"wait": 20})).json()
    assert (found["status"], found["reply"], found["run_id"]) == ("completed", "We are closed.", "")
    for wrong in ({"kind": "note"}, {"text": " "}):
        refused = await client.post("/api/threads/ann/say", json={**notice, **wrong})
        assert refused.status_code == 422


@pytest.mark.parametrize("thread_id", ["\r\nX: y", "é?#", "a%2Fb", "a/b", "..."])
async def test_the_address_of_a_message_is_its_own_whatever_its_thread_is_called(
    asgi: Asgi, thread_id: str
) -> None:
    client = asgi()
    if "/" in thread_id:
        assert (
            await client.post(
                "/api/chat", json={"thread_id": thread_id, "message": "Hi!", "timeout": 0}
            )
        ).status_code == 422
        return
    for taken in (
        await client.post(
            f"/api/threads/{quote(thread_id, safe='')}/messages", json={"message": "Hi!"}
        ),
        await client.post(
            "/api/chat", json={"thread_id": thread_id, "message": "Hi!", "timeout": 0}
        ),
    ):
        assert taken.status_code == 202
        found = await client.get(taken.headers["location"])
        assert (found.status_code, found.json().get("thread_id")) == (200, thread_id)


@pytest.mark.parametrize("name", [".", "..", "a/b"])
async def test_what_cannot_stand_in_an_address_is_no_id(
    asgi: Asgi, queue: AssistantMessageQueue, name: str
) -> None:
    client = asgi()
    for said in (
        {"thread_id": name, "message": "Hi!"},
        {"thread_id": "t", "message": "Hi!", "message_id": name},
    ):
        assert (await client.post("/api/chat", json=said)).status_code == 422
    assert queue.get_queue_status().delayed_count == 0


async def test_no_redirect_follows_the_host_header(asgi: Asgi) -> None:
    answer = await asgi().get("/api/status/", headers={"Host": "evil.example"})
    assert (answer.status_code, answer.json()["code"], "location" in answer.headers) == (
        404,
        "not_found",
        False,
    )


@pytest.mark.parametrize("by", ["header", "body"])
async def test_the_same_key_again_is_the_same_message(
    asgi: Asgi, queue: AssistantMessageQueue, by: str
) -> None:
    client = asgi()
    headers = {"Idempotency-Key": "order-7"} if by == "header" else {}
    own = {"message_id": "order-7"} if by == "body" else {}
    answers = [
        await client.post(
            "/api/threads/t/messages", json={"message": "Hi!", **own}, headers=headers
        )
        for _ in range(3)
    ]
    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.json()["message_id"] for answer in answers}) == 1
    assert [answer.json()["duplicate"] for answer in answers] == [False, True, True]
    assert queue.get_thread_status("t").pending_count == 1

    other = await client.post(
        "/api/threads/t/messages", json={"message": "Something else", **own}, headers=headers
    )
    assert (other.status_code, other.json()["code"]) == (409, "message_id_conflict")


async def test_a_key_belongs_to_its_thread(asgi: Asgi) -> None:
    client = asgi()
    ids = set()
    for thread in ("a", "b"):
        taken = await client.post(
            f"/api/threads/{thread}/messages",
            json={"message": "Hi!"},
            headers={"Idempotency-Key": "1"},
        )
        assert taken.status_code == 202
        ids.add(taken.json()["message_id"])
    assert len(ids) == 2


async def test_two_names_for_one_message_are_refused(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    answer = await asgi().post(
        "/api/threads/t/messages",
        json={"message": "Hi!", "message_id": "a"},
        headers={"Idempotency-Key": "b"},
    )
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_request")
    assert queue.get_thread_status("t").pending_count == 0


async def test_a_message_is_not_found_under_another_thread(asgi: Asgi) -> None:
    client = asgi()
    taken = (await client.post("/api/threads/mine/messages", json={"message": "a secret"})).json()
    for method in ("GET", "DELETE"):
        answer = await client.request(method, f"/api/threads/yours/messages/{taken['message_id']}")
        assert (answer.status_code, answer.json()["code"]) == (404, "message_not_found")
    edited = await client.patch(
        f"/api/threads/yours/messages/{taken['message_id']}", json={"message": "mine now"}
    )
    assert edited.status_code == 404
    assert (await client.get(f"/api/threads/mine/messages/{taken['message_id']}")).json()[
        "status"
    ] == "queued"


async def test_a_waiting_message_is_edited_and_cancelled(asgi: Asgi) -> None:
    client = asgi()
    taken = (await client.post("/api/threads/t/messages", json={"message": "Hi!"})).json()
    place = f"/api/threads/t/messages/{taken['message_id']}"
    assert (await client.patch(place, json={"message": "Hello!"})).json() == {"edited": True}
    assert (await client.delete(place)).json() == {"cancelled": True}
    assert (await client.delete(place)).json() == {"cancelled": False}
    assert (await client.get(place, params={"wait": 20})).json()["status"] == "cancelled"


async def test_waiting_ends_with_the_time_and_says_where_the_message_stands(asgi: Asgi) -> None:
    client = asgi(max_wait=0.05)
    taken = (await client.post("/api/threads/t/messages", json={"message": "Hi!"})).json()
    found = await client.get(
        f"/api/threads/t/messages/{taken['message_id']}", params={"wait": 3600}
    )
    assert found.json()["status"] == "queued"
    assert client.service.gate.total == 0


async def test_the_classic_chat_answers_with_the_reply(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.start_worker()
    answer = await asgi().post("/api/chat", json={"thread_id": "t", "message": "Hi!"})
    assert answer.status_code == 200
    assert answer.json()["reply"] == "You said: Hi!"


async def test_a_chat_that_takes_too_long_says_where_to_ask(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    client = asgi()
    answer = await client.post(
        "/api/chat", json={"thread_id": "a room", "message": "Hi!", "timeout": 0}
    )
    assert answer.status_code == 202
    queue.start_worker()
    found = await client.get(answer.headers["location"], params={"wait": 20})
    assert found.json()["reply"] == "You said: Hi!"


async def test_an_operator_learns_why_a_message_has_no_answer(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    queue.add_message_to_thread("t", "Hi!", message_id="m")
    queue.pause("t")
    explained = await client.get("/api/threads/t/messages/m/explain")
    assert (explained.status_code, explained.json()["verdict"]) == (200, "thread_paused")
    assert "assistant-queue resume t" in explained.json()["advice"]
    assert explained.json()["message_id"] == "m"
    queue.add_message_to_thread("u", "Hi!", message_id="t")
    thread = (await client.get("/api/threads/t/explain")).json()
    assert (thread["verdict"], thread["message_id"]) == ("thread_paused", None), "not message t"
    foreign = await client.get("/api/threads/u/messages/m/explain")
    assert foreign.status_code == 404
    assert (await client.get("/api/threads/u/messages/u/explain")).status_code == 404


async def test_an_operator_reads_what_became_of_a_threads_batches(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    queue.start_worker()
    for number in range(3):
        queue.add_message_to_thread("t", "Hi!", message_id=f"m{number}")
        queue.wait_for_reply(f"m{number}", timeout=20)
    page = (await client.get("/api/threads/t/timeline", params={"limit": 2})).json()
    assert [one["message_ids"] for one in page["batches"]] == [["m2"], ["m1"]]
    assert page["batches"][0]["outcome"] == "completed"
    assert page["batches"][0]["timeline"]["attempts"][0]["worker"]
    answer = await client.get("/api/threads/t/timeline", params={"before": page["next"]})
    assert [one["message_ids"] for one in answer.json()["batches"]] == [["m0"]]
    assert answer.json()["next"] is None
    assert (await client.get("/api/threads/unknown/timeline")).json()["batches"] == []
    for params in ({"limit": 0}, {"limit": 1001}, {"before": ""}):
        assert (await client.get("/api/threads/t/timeline", params=params)).status_code == 422
    gone = await client.get("/api/threads/t/timeline", params={"before": "unknown"})
    assert (gone.status_code, gone.json()["code"]) == (404, "batch_not_found")


async def test_what_fails_is_reported_without_the_providers_words(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda _: RunFailure(message="org-SECRET ran out of luck at 10.0.0.7")
    queue.start_worker()
    client = asgi()
    chat = await client.post(
        "/api/chat", json={"thread_id": "t", "message": "Hi!", "message_id": "m"}
    )
    assert (chat.status_code, chat.json()["code"]) == (502, "batch_failed")
    found = await client.get("/api/threads/t/messages/m")
    assert found.json()["status"] == "failed"
    assert found.json()["problem"]["detail"] == "The assistant could not answer."
    assert "SECRET" not in chat.text + found.text

    (failed,) = (await client.get("/api/failed")).json()["failed"]
    assert failed["message_ids"] == ["m"]
    provider.model = lambda _: "now it works"
    assert (await client.post(f"/api/failed/{failed['batch_id']}/retry")).status_code == 204
    assert (await client.get("/api/threads/t/messages/m", params={"wait": 20})).json()[
        "reply"
    ] == "now it works"
    assert (await client.delete(f"/api/failed/{failed['batch_id']}")).status_code == 404


async def test_a_fallback_is_published_and_marked_as_one(
    asgi: Asgi, queue: AssistantMessageQueue, provider: StandInProvider
) -> None:
    provider.model = lambda _: RunFailure()
    options = {name: getattr(queue.config, name) for name in queue.config.model_fields_set}
    with AssistantMessageQueue(**{**options, "fallback_reply": "We are closed."}) as working:
        working.start_worker()
        client = asgi()
        chat = (await client.post("/api/chat", json={"thread_id": "t", "message": "Hi!"})).json()
    assert (chat["reply"], chat["status"], chat["is_fallback"]) == (
        "We are closed.",
        "failed",
        True,
    )
    found = (await client.get(f"/api/threads/t/messages/{chat['message_id']}")).json()
    assert (found["status"], found["reply"], found["is_fallback"]) == (
        "failed",
        "We are closed.",
        True,
    )
    assert len((await client.get("/api/failed")).json()["failed"]) == 1


async def test_what_a_validator_refuses_is_reported_with_its_reason(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    with pytest.MonkeyPatch.context() as patch:
        from assistant_queue.errors import MessageRefused

        async def refuse(*_: object, **__: object) -> None:
            raise MessageRefused("no addresses, please", message_id="m", thread_id="t")

        patch.setattr(client.service.queue, "add_message_to_thread", refuse)
        answer = await client.post(
            "/api/threads/t/messages", json={"message": "javascript:alert(1)"}
        )
    assert (answer.status_code, answer.json()["code"]) == (422, "message_refused")
    assert "no addresses, please" in answer.json()["detail"]


async def test_history_comes_in_pages_with_what_waits(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    handle = queue.start_worker()
    for text in ("one", "two", "three"):
        queue.ask("t", text, timeout=PATIENCE_S)
    handle.stop()
    client = asgi()
    await client.post("/api/threads/t/messages", json={"message": "still waiting"})
    first = (await client.get("/api/threads/t/messages", params={"limit": 4})).json()
    assert [row["text"] for row in first["messages"]] == [
        "You said: three",
        "three",
        "You said: two",
        "two",
    ]
    assert [row["status"] for row in first["pending"]] == ["queued"]
    rest = (
        await client.get("/api/threads/t/messages", params={"limit": 4, "after": first["next"]})
    ).json()
    assert [row["text"] for row in rest["messages"]] == ["You said: one", "one"]
    assert rest["next"] is None


async def test_a_thread_that_was_never_used_has_an_empty_history(asgi: Asgi) -> None:
    client = asgi()
    empty = await client.get("/api/threads/nobody/messages")
    assert empty.json() == {"messages": [], "next": None, "pending": [], "is_kept": True}
    unknown = await client.get("/api/threads/conv_0123456789abcdef0123/messages")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "unknown_thread")


async def test_runs_are_started_read_and_cancelled(asgi: Asgi, provider: StandInProvider) -> None:
    client = asgi()
    thread_id = (await client.post("/api/threads", json={})).json()["thread_id"]
    provider.model = lambda _: Never()
    run = (
        await client.post(f"/api/threads/{thread_id}/runs", json={"instructions": "Be brief."})
    ).json()
    assert (await client.get(f"/api/threads/{thread_id}/runs/{run['id']}")).json()["status"] in {
        "queued",
        "in_progress",
    }
    assert (await client.post(f"/api/threads/{thread_id}/runs/{run['id']}/cancel")).json()[
        "status"
    ] in {"cancelled", "cancelling"}
    assert (await client.get(f"/api/threads/{thread_id}/runs/resp_0123")).status_code == 404


async def test_a_thread_is_paused_looked_at_and_forgotten(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    assert (await client.post("/api/threads/t/pause")).status_code == 204
    await client.post("/api/threads/t/messages", json={"message": "Hi!"})
    found = (await client.get("/api/threads/t")).json()
    assert (found["paused"], found["pending_count"]) == (True, 1)
    assert (await client.post("/api/threads/t/resume")).status_code == 204
    assert (await client.delete("/api/threads/t")).status_code == 204
    assert (await client.get("/api/threads/t")).json()["state"] == "idle"


async def test_a_thread_is_flushed(asgi: Asgi) -> None:
    client = asgi()
    assert (await client.post("/api/threads/t/flush")).json() == {"flushed": False}
    body = {"message": "Hi!", "message_delay": 600, "hold": 30}
    added = (await client.post("/api/threads/t/messages", json=body)).json()
    assert added["estimated_wait_s"] > 500
    assert (await client.post("/api/threads/t/flush")).json() == {"flushed": True}
    assert (await client.get("/api/status")).json()["waiting_count"] == 1
    for field in ({"message_delay": -1}, {"hold": 61}, {"mid_run": "stop"}):
        wrong = {"message": "Hi!", **field}
        assert (await client.post("/api/threads/t/messages", json=wrong)).status_code == 422


async def test_health_reports_whether_workers_are_alive(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    assert (await client.get("/api/health/live")).json() == {"status": "alive"}
    alone = (await client.get("/api/health/ready")).json()
    assert (alone["status"], alone["workers"]) == ("degraded", 0)
    queue.start_worker()
    until = asyncio.get_running_loop().time() + 10
    while (await client.get("/api/health/ready")).json()["status"] != "ready":
        assert asyncio.get_running_loop().time() < until, "the worker is not seen"
    await client.post("/api/pause")
    assert (await client.get("/api/health/ready")).json()["is_paused"] is True
    await client.post("/api/resume")
    assert (await client.get("/api/status")).json()["waiting_count"] == 0


async def test_an_estimate_knows_pauses_the_line_and_how_long_runs_take(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()

    async def estimate(thread_id: str) -> float | None:
        taken = await client.post(f"/api/threads/{thread_id}/messages", json={"message": "Hi!"})
        assert taken.status_code == 202
        found: float | None = taken.json()["estimated_wait_s"]
        return found

    queue.pause("resting")
    assert await estimate("resting") is None
    assert await estimate("free") == pytest.approx(0.1, abs=0.1)
    queue.pause()
    assert await estimate("free") is None
    queue.resume()

    prefix = queue.config.queue_prefix
    redis_client = queue.get_queue().connection
    redis_client.hset(
        f"rq:worker:{prefix}",
        mapping={
            "total_working_time": "80.5",
            "successful_job_count": "7",
            "failed_job_count": "1",
        },
    )
    redis_client.sadd(f"rq:workers:{prefix}", f"rq:worker:{prefix}")
    redis_client.zadd(f"rq:wip:{prefix}", {"a:1": 1, "b:1": 1})
    redis_client.rpush(f"rq:queue:{prefix}", *["no-such-job"] * 4)
    try:
        fresh = asgi()
        before = redis_client.llen(f"rq:queue:{prefix}")
        taken = await fresh.post("/api/threads/late/messages", json={"message": "Hi!"})
        found = taken.json()["estimated_wait_s"]
        after = redis_client.llen(f"rq:queue:{prefix}")
        each = 80.5 / 8 / 2  # runs of 10 s, in two places
        assert before >= 4
        assert before * each <= found <= after * each + 0.3
    finally:
        redis_client.delete(
            f"rq:worker:{prefix}",
            *(f"rq:{kind}:{prefix}" for kind in ("workers", "wip", "queue")),
        )


async def test_threads_that_are_not_idle_are_listed_in_pages(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    queue.pause()
    for name in ("a", "b", "c"):
        queue.add_message_to_thread(name, "Hi!")
    client = asgi()
    page = (await client.get("/api/threads", params={"limit": 2})).json()
    assert [row["thread_id"] for row in page["threads"]] == ["a", "b"]
    assert page["threads"][0]["pending_count"] == 1
    rest = (await client.get("/api/threads", params={"limit": 2, "after": page["next"]})).json()
    assert ([row["thread_id"] for row in rest["threads"]], rest["next"]) == (["c"], None)
    gone = await client.get("/api/threads", params={"after": "d"})
    assert (gone.status_code, gone.json()["code"]) == (422, "invalid_argument")
    assert (await client.get("/api/threads", params={"state": "asleep"})).status_code == 422
