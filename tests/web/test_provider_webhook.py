"""The route for webhooks of the provider: its permission is the signature."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.fastapi import create_app
from assistant_queue.testing import StandInProvider
from tests.conftest import RedisServer
from tests.web.conftest import queue_options

SECRET = "whsec_" + "c2VjcmV0" * 4
PATH = "/api/provider-webhook"


def refuse_all(*_: Any) -> bool:
    return False


@pytest.mark.parametrize("secret", [SECRET, None])
async def test_a_webhook_needs_a_signature_and_no_login(
    one_redis: RedisServer, provider: StandInProvider, prefix: str, secret: str | None
) -> None:
    options = queue_options(one_redis.url, provider, prefix, webhook_secret=secret)
    endpoint = provider.send_webhooks("http://127.0.0.1:9/never", SECRET)
    body, headers = endpoint.signed("resp_unknown")
    with AssistantMessageQueue(**options) as queue:
        app = create_app(queue, authorize=refuse_all, max_body_bytes=2_000_000)
        transport = httpx.ASGITransport(app=app)
        async with (
            app.router.lifespan_context(app),
            httpx.AsyncClient(transport=transport, base_url="http://test") as client,
        ):
            answer = await client.post(PATH, content=body, headers=headers)
            if secret is None:
                assert answer.status_code == 404
                return
            assert (answer.status_code, answer.content) == (204, b"")
            for given, status in (
                ({"content": body}, 401),
                ({"content": body, "headers": {**headers, "webhook-signature": "v1,bm8="}}, 401),
                ({"content": body + b" ", "headers": headers}, 401),
                ({"content": b"x" * 70_000, "headers": headers}, 413),
                ({"content": b"[" * 1000, "headers": headers}, 400),
            ):
                refused = await client.post(PATH, **given)
                assert refused.status_code == status, given
                assert refused.headers["content-type"] == "application/problem+json"
                assert SECRET not in refused.text
            assert (await client.get(PATH)).status_code == 405
