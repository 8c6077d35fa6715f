"""A person takes a thread over, over HTTP."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import Action, Caller
from tests.conftest import PATIENCE_S

Asgi = Callable[..., httpx.AsyncClient]
MESSAGES = "/api/threads/t/messages"


async def test_a_person_takes_over_answers_and_hands_back(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    assert (await client.post("/api/threads/t/hand-back")).json() == {"handed_back": False}
    taken = await client.post("/api/threads/t/take-over", json={"by": "Jo"})
    assert taken.json() == {"taken_over": True, "by": "Jo"}
    again = await client.post("/api/threads/t/take-over", json={"by": "Jo", "stop": False})
    assert again.json() == {"taken_over": False, "by": "Jo"}
    other = await client.post("/api/threads/t/take-over", json={"by": "Kim"})
    problem = other.json()
    assert (other.status_code, problem["code"], problem["by"]) == (409, "thread_taken_over", "Jo")
    status = (await client.get("/api/threads/t")).json()
    assert (status["taken_over_by"], status["taken_over_since"]) == ("Jo", problem["since"])
    listed = (await client.get("/api/threads", params={"state": "taken_over"})).json()["threads"]
    assert [row["thread_id"] for row in listed] == ["t"]
    queue.start_worker()
    asked = (await client.post(MESSAGES, json={"message": "hi"})).json()["message_id"]
    await client.post("/api/threads/t/say", json={"text": "Jo here.", "author": "Jo"})
    found = (await client.get(f"{MESSAGES}/{asked}", params={"wait": PATIENCE_S})).json()
    assert (found["status"], found["reply"], found["answered_by"]) == (
        "completed",
        "Jo here.",
        "Jo",
    )
    body = {"by": "Kim", "instead_of": "Jo"}
    assert (await client.post("/api/threads/t/take-over", json=body)).json()["taken_over"]
    assert (await client.post("/api/threads/t/hand-back")).json() == {"handed_back": True}
    for wrong in ({}, {"by": ""}, {"by": "a\nb"}, {"by": "Jo", "stop": 7}, {"by": "Jo", "x": 1}):
        answer = await client.post("/api/threads/t/take-over", json=wrong)
        assert answer.status_code == 422, wrong


async def test_the_caller_is_the_person_if_it_is_known(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    asked: list[Action] = []

    def authorize(request: object, action: Action, thread_id: str | None) -> Caller:
        del request, thread_id
        asked.append(action)
        return Caller(id="1", name="Jo")

    client = asgi(authorize=authorize)
    taken = await client.post("/api/threads/t/take-over", json={"by": "Kim"})
    assert taken.json() == {"taken_over": True, "by": "Jo"}
    await client.post("/api/threads/t/hand-back")
    assert asked == [Action.TAKE_OVER, Action.HAND_BACK]
    assert queue.get_thread_status("t").taken_over_by is None
