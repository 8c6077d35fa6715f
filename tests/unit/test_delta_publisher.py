"""A run's stream is read while Redis is away; its text is published in order afterwards."""

from __future__ import annotations

import json
from typing import Any

import pytest

from assistant_queue.clock import SystemClock
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import RunEnded, TextChunk
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import LeaseLost, StoreUnavailable
from assistant_queue.models import Batch
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.leases import Lease
from assistant_queue.worker.delta_publisher import DeltaPublisher
from assistant_queue.worker.lease import HeldLease
from tests.fast_time import fast_time


class Scene:
    """A publisher, and a Redis that accepts its writes, or not."""

    def __init__(self) -> None:
        batch = Batch(id="b", thread_id="t", messages=(), attempts=1)
        claimed = Claimed(
            batch=batch,
            phase=Phase.RUNNING,
            progress=Progress(),
            deaths=0,
            claimed_ms=0,
            conversation_id=None,
            anchor=None,
        )
        lease = Lease(
            thread_id="t",
            token="t",
            now_ms=0,
            until_ms=0,
            guard_id="g",
            claimed=claimed,
            has_subscribers=True,
        )
        namespace = Namespace("p", SystemClock())
        self.error: Exception | None = None
        self.tried = 0
        self.told: list[tuple[int, str]] = []
        self.publisher = DeltaPublisher(
            namespace,
            HeldLease(lease, 1e9, 1e9, lambda: None, namespace.clock),
            self.write,
            self.once,
            self.probe,
        )
        self.publisher.begin("r")

    async def once(self, operation: Any) -> bool:
        self.tried += 1
        if self.error is not None:
            raise self.error
        call = next(operation())
        news = json.loads(call.words[list(call.script.args).index("new_events")])
        self.told += [
            (data["offset"], data["text"]) for data in (json.loads(row) for _, row in news)
        ]
        return True

    async def write(self, operation: Any) -> bool:
        assert self.error is None, "it would wait for ever here"
        return await self.once(operation)

    async def probe(self, _: str) -> None:
        """Nothing is watched."""

    async def say(self, text: str) -> None:
        if self.publisher.add(TextChunk(text=text)):
            await self.publisher.publish()


async def test_a_redis_that_is_away_keeps_no_stream_from_being_read() -> None:
    with fast_time():
        scene = Scene()
        await scene.say("one ")
        assert scene.told == [(0, "one ")]
        scene.error = StoreUnavailable("full", refusal="OOM")
        for _ in range(3):
            scene.publisher._next_at = 0.0
            await scene.say("two ")
        assert scene.tried > 1
        scene.error = None
        await scene.publisher.finish(
            RunEnded(run_id="r", status="completed", replies=("one two two two ",))
        )
        await scene.publisher.close()
    assert scene.told == [(0, "one "), (4, "two "), (8, "two two ")], (
        "the one that was refused, as it was, and the rest"
    )


async def test_a_lease_that_is_lost_is_said() -> None:
    scene = Scene()
    scene.error = LeaseLost("another worker's")
    with pytest.raises(LeaseLost):
        await scene.say("one")
    await scene.publisher.close()
