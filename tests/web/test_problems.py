"""Errors are answered with a problem that holds no internals."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from assistant_queue import AssistantMessageQueue, errors
from assistant_queue.integrations.fastapi.problems import ANSWERS, answer_for
from tests.conftest import free_port

Asgi = Callable[..., httpx.AsyncClient]
SECRETS = "redis://admin:hunter2@10.1.2.3:6379 sk-abcdef org-1234 Traceback"
CLASSES = sorted(
    (
        cls
        for cls in vars(errors).values()
        if isinstance(cls, type) and issubclass(cls, errors.AssistantQueueError)
    ),
    key=lambda cls: cls.__name__,
)


def make(cls: type[errors.AssistantQueueError]) -> errors.AssistantQueueError:
    if cls is errors.RetryLater:
        return errors.RetryLater(after=30)  # its words are its own
    if cls is errors.ThreadTakenOver:
        return cls(SECRETS, by="Jo", since=datetime.now(UTC))  # type: ignore[call-arg]
    return cls(SECRETS, batch_id="b") if cls is errors.BatchFailed else cls(SECRETS)  # type: ignore[call-arg]


async def test_each_error_is_a_problem_without_its_own_words(
    asgi: Asgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = asgi()
    for cls in CLASSES:

        async def fail(*_: object, cls: Any = cls) -> None:
            raise make(cls)

        monkeypatch.setattr(client.service.queue, "get_thread_status", fail)
        answer = await client.get("/api/threads/t", headers={"X-Request-ID": "call-7"})
        body = answer.json()
        assert answer.headers["content-type"] == "application/problem+json", cls
        assert answer.status_code == body["status"] == answer_for(make(cls)).status, cls
        assert body["code"] == cls.code
        assert body["request_id"] == answer.headers["x-request-id"] == "call-7", cls
        if not issubclass(cls, errors.InvalidArgument):
            assert not [word for word in SECRETS.split() if word in answer.text], cls
        if body["status"] in {429, 503} and cls.retryable:
            assert int(answer.headers["retry-after"]) > 0, cls
        assert ("www-authenticate" in answer.headers) is (body["status"] == 401), cls


def test_only_what_is_about_the_request_speaks_for_itself() -> None:
    assert [cls for cls, answer in ANSWERS.items() if answer.detail is None] == [
        errors.InvalidArgument
    ]


def test_a_providers_wish_to_wait_is_handed_on() -> None:
    refused = {
        status: answer_for(errors.RequestRefused("no", status_code=status)).status
        for status in (400, 401, 403, 404, 409, 422, 429)
    }
    assert refused == {400: 422, 401: 502, 403: 502, 404: 404, 409: 409, 422: 422, 429: 503}


async def test_an_unexpected_exception_is_a_problem_too(
    asgi: Asgi, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = asgi()

    async def fail(*_: object) -> None:
        raise ZeroDivisionError(SECRETS)

    monkeypatch.setattr(client.service.queue, "get_thread_status", fail)
    answer = await client.get("/api/threads/t")
    assert (answer.status_code, answer.json()["code"]) == (500, "internal")
    assert "hunter2" not in answer.text
    assert answer.json()["request_id"] in caplog.text
    assert "ZeroDivisionError" in caplog.text


async def test_a_redis_that_is_away_is_a_503_that_does_not_say_where(
    asgi: Asgi, monkeypatch: pytest.MonkeyPatch
) -> None:
    port = free_port()
    with AssistantMessageQueue(
        redis_url=f"redis://:hunter2@127.0.0.1:{port}/0", model="any"
    ) as away:
        from assistant_queue.integrations.fastapi import allow_all, create_app

        app = create_app(away, authorize=allow_all, rate_limit="5/minute")
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app=app), base_url="http://test"
        ) as client:
            sent, ready, live = await asyncio.gather(
                client.post("/api/threads/t/messages", json={"message": "Hi!"}),
                client.get("/api/health/ready"),
                client.get("/api/health/live"),
            )
    assert (sent.status_code, ready.status_code, live.status_code) == (503, 503, 200)
    assert sent.json()["code"] == "store_unavailable"
    assert int(sent.headers["retry-after"]) > 0
    assert f":{port}" not in sent.text + ready.text  # the id of a request may have its digits
    assert "hunter2" not in sent.text + ready.text


async def test_a_request_that_cannot_be_read_says_where(
    asgi: Asgi, queue: AssistantMessageQueue
) -> None:
    client = asgi()
    for said, where in (
        ('{"message": ""}', "body.message"),
        ('{"message": "   "}', "body.message"),
        ('{"message": 7}', "body.message"),
        ('{"message": []}', "body.message"),
        ('{"text": "Hi!"}', "body.message"),
        ('{"message": "Hi!", "colour": "red"}', "body.colour"),
        ("{", "body"),
        ("[]", "body"),
        ('{"message": "Hi!", "metadata": {"a": 1}}', "body.metadata.a"),
    ):
        answer = await posted(client, said)
        found = answer.json()
        assert (answer.status_code, found["code"]) == (422, "invalid_request"), said
        assert any(field["where"].startswith(where) for field in found["fields"]), (said, found)
    assert queue.get_thread_status("t").pending_count == 0


MISTAKES: list[tuple[Any, dict[str, str]]] = [
    ({"message": 7}, {"body.message": "Expected a string or a list."}),
    ({"message": " "}, {"body.message": "Expected text that is not blank."}),
    ({"message": []}, {"body.message": "Expected at least 1 entry."}),
    ({"message": [{}, "x"]}, {"body.message.1": "Expected an object."}),
    ({"message": "x" * 256_001}, {"body.message": "Expected at most 256,000 characters."}),
    ({"mesage": "x"}, {"body.message": "This is missing.", "body.mesage": "This is not known here."}),
    ({"message": "x", "author": ""}, {"body.author": "Expected at least 1 character."}),
    ({"message": "x", "metadata": {"str": 1}}, {"body.metadata.str": "Expected a string."}),
    ({"message": "x", "colour\ud800": 1}, {"body": "This holds half a character: a surrogate without its other half."}),
    ({"message": "x", "metadata": {str(n): "" for n in range(15)}}, {"body.metadata": "Expected at most 14 entries."}),
    ({"message": "x", "message_id": "a/b"}, {"body.message_id": "Expected an id without a slash that is more than one or two dots."}),
    ([1], {"body": "Expected a JSON object."}),
    ("{", {"body": "This is not JSON."}),
]  # fmt: skip


async def test_what_is_wrong_is_said_once_and_in_our_own_words(asgi: Asgi) -> None:
    client = asgi()
    for said, fields in MISTAKES:
        answer = await posted(client, said if isinstance(said, str) else json.dumps(said))
        assert {row["where"]: row["why"] for row in answer.json()["fields"]} == fields
        assert len(answer.json()["fields"]) == len(fields), said


async def posted(client: httpx.AsyncClient, content: str) -> httpx.Response:
    headers = {"Content-Type": "application/json"}
    return await client.post("/api/threads/t/messages", content=content, headers=headers)


async def test_what_is_wrong_in_an_address_and_in_a_header_is_said_as_well(asgi: Asgi) -> None:
    client = asgi()
    rows = [
        *(await client.get("/api/threads/t/messages", params={"limit": 0, "order": "up"})).json()[
            "fields"
        ]
    ]
    rows += (await client.get("/api/threads/t/messages/m", params={"wait": "soon"})).json()[
        "fields"
    ]
    rows += (
        await client.post("/api/chat", json={"thread_id": "t", "message": "x", "timeout": -1})
    ).json()["fields"]
    rows += (
        await client.post(
            "/api/chat",
            json={"thread_id": "t", "message": "x"},
            headers={"Idempotency-Key": "k" * 257},
        )
    ).json()["fields"]
    assert [(row["where"], row["why"]) for row in rows] == [
        ("query.limit", "Expected at least 1."),
        ("query.order", "Expected 'asc' or 'desc'."),
        ("query.wait", "Expected a number."),
        ("body.timeout", "Expected at least 0."),
        ("header.idempotency-key", "Expected at most 256 characters."),
    ]


async def test_an_address_that_is_none_and_a_method_that_is_none_are_problems(asgi: Asgi) -> None:
    client = asgi()
    for method, path, status in [
        ("GET", "/api/nothing", 404),
        ("PUT", "/api/status", 405),
        ("GET", "/nothing", 404),
    ]:
        answer = await client.request(method, path)
        assert answer.status_code == answer.json()["status"] == status
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_request_id_that_is_no_id_is_replaced(asgi: Asgi) -> None:
    answer = await asgi().get("/api/health/live", headers={"X-Request-ID": "x" * 65})
    assert len(answer.headers["x-request-id"]) == 16
