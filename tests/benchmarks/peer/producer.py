"""One producer process of this package; prints one JSON document, as `peer_producer.js` does.

`BENCHMARK_QUEUE` in the environment has the queue's options; the argument is JSON with `op` and its
numbers: `add` (`count` messages, `per_thread` to a thread, `in_flight` at once, or in bulk if that
is 0), `paced` (`rate` a second), `bursts` (`count` threads, `interval_s` apart), `during` (`count`
messages to a thread as soon as its first run has started), `replies` (waits for each reply).
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
import urllib.request
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue, MessageRow
from tests.benchmarks import VARIABLE


@dataclass(frozen=True, slots=True)
class Producer:
    """An operation of one process."""

    given: dict[str, Any]
    options: dict[str, Any]

    def thread(self, number: int) -> str:
        """The id of a thread."""
        return f"{self.given['threads']}{number:024d}"

    def rows(self, count: int) -> Iterator[MessageRow]:
        """Messages for `add_messages`."""
        for number in range(count):
            yield {
                "thread_id": self.thread(number // self.given.get("per_thread", 1)),
                "message": self.given["text"],
            }

    def add(self) -> dict[str, Any]:
        """The time of all adds, after some that are not timed."""
        if self.given["in_flight"] == 0:
            return {"elapsed_s": self._in_bulk()}
        if self.given["in_flight"] == 1:
            return {"elapsed_s": self._one_by_one()}
        return {"elapsed_s": asyncio.run(self._in_flight())}

    def _in_bulk(self) -> float:
        with AssistantMessageQueue(**self.options) as queue:
            start = time.perf_counter()
            queue.add_messages(self.rows(self.given["count"]))
            return time.perf_counter() - start

    def _one_by_one(self) -> float:
        with AssistantMessageQueue(**self.options) as queue:
            for number in range(self.given.get("warm", 0)):
                queue.add_message_to_thread(f"thread_warm{number}", self.given["text"])
            start = time.perf_counter()
            for row in self.rows(self.given["count"]):
                queue.add_message_to_thread(row["thread_id"], row["message"])
            return time.perf_counter() - start

    async def _in_flight(self) -> float:
        async with AsyncAssistantMessageQueue(**self.options) as queue:
            for number in range(self.given.get("warm", 0)):
                await queue.add_message_to_thread(f"thread_warm{number}", self.given["text"])
            rows = self.rows(self.given["count"])

            async def lane() -> None:
                for row in rows:
                    await queue.add_message_to_thread(row["thread_id"], row["message"])

            start = time.perf_counter()
            await asyncio.gather(*(lane() for _ in range(self.given["in_flight"])))
            return time.perf_counter() - start

    def paced(self) -> dict[str, Any]:
        """The time of each call; none waits for another."""
        called: dict[str, float] = {}
        start = time.time() + 0.05

        async def add(queue: AsyncAssistantMessageQueue, number: int) -> None:
            await asyncio.sleep(max(0.0, start + number / self.given["rate"] - time.time()))
            called[self.thread(number)] = time.time()
            await queue.add_message_to_thread(self.thread(number), self.given["text"])

        asyncio.run(self._all(self.given["count"], add))
        return {"called": called}

    def bursts(self) -> dict[str, Any]:
        """Several messages to each thread, 3 ms apart."""
        start = time.time()

        async def burst(queue: AsyncAssistantMessageQueue, number: int) -> None:
            await asyncio.sleep(max(0.0, start + number * self.given["interval_s"] - time.time()))
            for _ in range(self.given["per_thread"]):
                await queue.add_message_to_thread(self.thread(number), self.given["text"])
                await asyncio.sleep(0.003)

        asyncio.run(self._all(self.given["count"], burst))
        return {}

    async def _all(
        self, count: int, one: Callable[[AsyncAssistantMessageQueue, int], Awaitable[None]]
    ) -> None:
        async with AsyncAssistantMessageQueue(**self.options) as queue:
            await queue.get_message("none")  # connections
            await asyncio.gather(*(one(queue, number) for number in range(count)))

    def during(self) -> dict[str, Any]:
        """Messages for the thread of a run."""
        with AssistantMessageQueue(**self.options) as queue:
            queue.add_message_to_thread(self.thread(0), self.given["text"])
            while not self._runs():
                time.sleep(0.005)
            row: MessageRow = {"thread_id": self.thread(0), "message": self.given["text"]}
            queue.add_messages(row for _ in range(self.given["count"]))
        return {}

    def _runs(self) -> int:
        with urllib.request.urlopen(f"{self.given['provider']}/count", timeout=30) as answer:
            return int(json.load(answer)["runs"])

    def replies(self) -> dict[str, Any]:
        """The time at which each reply was in the caller's hands."""
        count = self.given["count"]
        with AssistantMessageQueue(**self.options) as queue, ThreadPoolExecutor(count) as pool:

            def ask(number: int) -> tuple[str, float]:
                time.sleep(number / self.given["rate"])
                receipt = queue.add_message_to_thread(self.thread(number), self.given["text"])
                queue.wait_for_reply(receipt.message_id, timeout=60)
                return self.thread(number), time.time()

            return {"known": dict(pool.map(ask, range(count)))}


if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    producer = Producer(given, json.loads(os.environ[VARIABLE]))
    operations: dict[str, Callable[[], dict[str, Any]]] = {
        "add": producer.add,
        "paced": producer.paced,
        "bursts": producer.bursts,
        "during": producer.during,
        "replies": producer.replies,
    }
    sys.stdout.write(json.dumps(operations[given["op"]]()) + "\n")
