"""The route that Prometheus scrapes: its access, its formats, and without Redis."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families as read_text

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.integrations.fastapi import (
    CHAT_ACTIONS,
    Action,
    allow_all,
    create_app,
    create_router,
)
from assistant_queue.metrics import Metrics
from assistant_queue.models import QueueStatus

Asgi = Callable[..., httpx.AsyncClient]


@pytest.fixture
def metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    async def get_metrics(_: Any) -> Metrics:
        return Metrics(at=datetime.now(UTC), status=QueueStatus(waiting_count=3), thread_count=2)

    monkeypatch.setattr(AsyncAssistantMessageQueue, "get_metrics", get_metrics, raising=False)


async def test_the_service_has_it_where_prometheus_looks_and_with_the_other_routes(
    asgi: Asgi, metrics: None
) -> None:
    client = asgi(request_limit="1/hour")
    for path in ("/metrics", "/api/metrics", "/metrics"):
        answer = await client.get(path)
        assert answer.status_code == 200
        assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert answer.headers["cache-control"] == "no-store"
        assert "\nassistant_queue_threads{queue=" in answer.text
    modern = await client.get("/metrics", headers={"Accept": "application/openmetrics-text"})
    assert modern.headers["content-type"].startswith("application/openmetrics-text; version=1.0.0")
    assert modern.text.endswith("# EOF\n")
    wrong = await client.post("/metrics")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "GET")


async def test_access_is_decided_by_its_action(asgi: Asgi, metrics: None) -> None:
    asked: list[tuple[Action, str | None]] = []

    def authorize(_: Any, action: Action, thread_id: str | None) -> bool:
        asked.append((action, thread_id))
        return action in CHAT_ACTIONS

    client = asgi(authorize=authorize)
    for path in ("/metrics", "/api/metrics"):
        answer = await client.get(path)
        assert (answer.status_code, answer.json()["code"]) == (403, "not_allowed")
        assert "assistant_queue_" not in answer.text
    assert asked == [(Action.READ_METRICS, None)] * 2


async def test_a_router_in_an_app_has_it_below_its_prefix(
    queue: AssistantMessageQueue, metrics: None
) -> None:
    app = FastAPI()
    app.include_router(create_router(queue, authorize=allow_all), prefix="/assistant")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        assert (await client.get("/assistant/metrics")).status_code == 200
        assert (await client.get("/metrics")).status_code == 404


async def test_without_redis_a_scrape_says_so(caplog: pytest.LogCaptureFixture) -> None:
    gone = AssistantMessageQueue(redis_url="redis://127.0.0.1:1/0", queue_prefix="shop")
    app = create_app(gone, authorize=allow_all, request_limit="1/minute")
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=httpx.ASGITransport(app=app), base_url="http://test") as client,
    ):
        answers = [await client.get("/metrics") for _ in range(2)]
    gone.close()
    for answer in answers:
        assert answer.status_code == 200
        samples = [one for family in read_text(answer.text) for one in family.samples]
        assert [(one.name, one.labels, one.value) for one in samples] == [
            ("assistant_queue_up", {"queue": "shop"}, 0)
        ]
    (record,) = caplog.records
    assert record.message.startswith("the metrics of queue 'shop' cannot be read: ")
