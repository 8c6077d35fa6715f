"""Ten threads, each broken in its own way: found and repaired with what the operations page has."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, RunResult
from assistant_queue.errors import DeliveryUnknown
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, RunFailure, never_answer, refuse
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until
from tests.web.conftest import queue_options
from tests.web.test_operations import OPS, Asgi, do, operators

SOON = {"message_delay": 0}


class Shop:
    """A queue with ten broken threads, and a platform that can be repaired."""

    def __init__(self, url: str, provider: StandInProvider, prefix: str) -> None:
        self.provider = provider
        self.delivered: list[str] = []
        self.is_platform_up = False
        self._where = (url, provider, prefix)
        self.queue = self._queue(request_timeout=60.0)

    def _queue(self, **options: Any) -> AssistantMessageQueue:
        given = {"on_reply": self.on_reply, "delivery_attempts": 1, **options}
        return AssistantMessageQueue(**queue_options(*self._where, **given))

    def on_reply(self, result: RunResult) -> None:
        if not self.is_platform_up and result.thread_id == "undelivered":
            raise OSError("the platform is away")
        if not self.is_platform_up and result.thread_id == "unknown delivery":
            raise DeliveryUnknown("no answer")
        self.delivered.append(result.thread_id)

    def failed(self, count: int) -> None:
        wait_until(lambda: len(self.queue.list_failed()) == count, f"{count} failed")

    def break_all(self) -> None:
        queue = self.queue
        self._park("parked")
        queue.start_worker()
        self.provider.model = lambda _: RunFailure()
        queue.add_message_to_thread("exhausted", "Hello!", message_id="m-exhausted", **SOON)
        self.failed(2)
        self.provider.model = lambda _: "Here you are."
        self.provider.fault("responses.create", refuse(400, "content_filter"))
        queue.add_message_to_thread("refused", "A bad word", **SOON)
        self.failed(3)
        self.provider.fault("responses.create", refuse(404))
        queue.add_message_to_thread("unknown", "Hello!", **SOON)
        self.failed(4)
        queue.add_message_to_thread("undelivered", "Hello!", **SOON)
        self.failed(5)
        queue.add_message_to_thread("unknown delivery", "Hello!", **SOON)
        self.failed(6)
        queue.pause("paused")
        queue.add_message_to_thread("paused", "Hello!", message_id="m-paused", **SOON)
        queue.add_message_to_thread("waiting", "Hello!", message_id="m-waiting", message_delay=6000)
        queue.add_message_to_thread(
            "secret", "My card is 4711", message_id="m-card", message_delay=6000
        )
        queue.add_message_to_thread(
            "secret", "Are you open?", message_id="m-open", message_delay=6000
        )
        self.provider.model = lambda _: Reply("One two three", chunks=3)
        self.gate = self.provider.hold("speaking", times=1)
        queue.add_message_to_thread("endless", "Count!", message_id="m-endless", **SOON)
        wait_until(lambda: queue.get_thread_status("endless").run_id, "it speaks")

    def _park(self, thread_id: str) -> None:
        self.provider.fault("responses.create", never_answer())
        self.provider.fault(
            "*", never_answer(accept=False), times=None, when=lambda one: one.method == "GET"
        )
        with self._queue(request_timeout=0.3, run_timeout=1, retry_for=1) as other:
            other.start_worker()
            other.add_message_to_thread(thread_id, "Hello!", message_id="m-parked", **SOON)
            self.failed(1)
        self.provider.clear_faults()


@pytest.mark.timeout(300)
async def test_ten_broken_threads_are_found_and_repaired_from_the_page(  # noqa: PLR0915 - ten
    asgi: Asgi, one_redis: RedisServer, provider: StandInProvider, prefix: str
) -> None:
    shop = Shop(one_redis.url, provider, prefix)
    queue = shop.queue
    client = asgi(authorize=operators, headers={"x-role": "operator"})

    async def seen(path: str, **query: Any) -> Any:
        answer = await client.get(f"{OPS}/{path}", params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def failed(*reasons: str) -> dict[str, str]:
        rows = (await seen("failed", reason=list(reasons)))["failed"]
        return {row["thread_id"]: row["batch_id"] for row in rows}

    async def verdict(thread_id: str) -> str:
        return str((await seen(f"threads/{thread_id}"))["explanation"]["verdict"])

    async def replied(message_id: str) -> str | None:
        return await asyncio.to_thread(queue.wait_for_reply, message_id, PATIENCE_S)

    try:
        await asyncio.to_thread(shop.break_all)
        counts = (await seen("failed"))["counts"]["by_reason"]
        assert counts == {
            "attempts": 1,
            "refused": 1,
            "unknown_thread": 1,
            "parked": 1,
            "undelivered": 1,
            "delivery_unknown": 1,
        }

        # 1. an answer without an end: stopped
        (row,) = (await seen("threads", state="active"))["threads"]
        assert (row["thread_id"], await verdict("endless")) == ("endless", "running")
        assert (await do(client, "stop", thread_id="endless"))["done"]
        await asyncio.to_thread(
            wait_until, lambda: queue.get_thread_status("endless").state == "idle", "it is stopped"
        )
        shop.gate.release()
        provider.model = lambda _: "Here you are."

        # 2. a paused thread: resumed
        (row,) = (await seen("threads", state="paused"))["threads"]
        assert await verdict(row["thread_id"]) == "thread_paused"
        await do(client, "resume", thread_id=row["thread_id"])
        assert await replied("m-paused") == "Here you are."

        # 3. a message that must not reach the model, found by its text: removed
        (hit,) = (await seen("search", q="card is 4711"))["hits"]
        assert (hit["thread_id"], hit["message_id"]) == ("secret", "m-card")
        done = await do(client, "cancel_message", thread_id="secret", message_id=hit["message_id"])
        assert done["done"]

        # 4. windows that are too long: answered now
        assert await verdict("waiting") == "window_open"
        for name, message_id in (("waiting", "m-waiting"), ("secret", "m-open")):
            assert (await do(client, "flush", thread_id=name))["done"]
            assert await replied(message_id) == "Here you are."
        card = queue.get_message("m-card")
        assert card is not None
        assert card.status == "cancelled"

        # 5. attempts used up while the provider was down: retried
        (name, batch_id), *_ = (await failed("attempts")).items()
        assert await verdict(name) == "failed"
        await do(client, "retry_failed", batch_ids=[batch_id])
        assert await replied("m-exhausted") == "Here you are."

        # 6. refused by the provider: discarded, as a retry would be refused again
        assert (await do(client, "discard_failed", reasons=["refused"]))["count"] == 1

        # 7. a conversation that the provider does not know: discarded, and the user is asked to begin again
        assert list(await failed("unknown_thread")) == ["unknown"]
        assert (await do(client, "discard_failed", thread_id="unknown"))["count"] == 1
        await do(client, "say", thread_id="unknown", text="Please begin again.")

        # 8. parked: the provider is asked again, by hand
        assert list(await failed("parked")) == ["parked"]
        await do(client, "retry_failed", thread_id="parked")
        assert await replied("m-parked")

        # 9, 10. replies that did not arrive, or may have: delivered again, together
        shop.is_platform_up = True
        assert set(await failed("undelivered", "delivery_unknown")) == {
            "undelivered",
            "unknown delivery",
        }
        done = await do(client, "retry_failed", reasons=["undelivered", "delivery_unknown"])
        assert done["count"] == 2
        await asyncio.to_thread(
            wait_until,
            lambda: {"undelivered", "unknown delivery", "unknown"} <= set(shop.delivered),
            "all are delivered",
        )
        assert (await seen("overview"))["status"]["failed_count"] == 0
        assert (await seen("failed"))["failed"] == []
        record = (await seen("operations"))["operations"]
        assert {row["by"] for row in record} == {"Ann"}
        assert len(record) == 11
    finally:
        await asyncio.to_thread(queue.close)
