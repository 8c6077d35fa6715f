"""Past one Redis primary: one queue for each, with threads distributed by a rendezvous hash.

python examples/many_redis.py                                  # no key, no Redis, no account
OPENAI_API_KEY=... python examples/many_redis.py --model NAME  # the real service, two private Redis

Copy `ManyQueues` into your own code and change it: it is a recipe. Workers are independent of it:
one command for each primary, REDIS_URL=redis://one:6379/0 assistant-queue worker --app app:queue
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from surroundings import surroundings

from assistant_queue import (
    AssistantMessageQueue,
    FailedBatch,
    QueueStatus,
    Receipt,
    StoreUnavailable,
)
from assistant_queue.cli.demo.redis_server import private_redis
from assistant_queue.models import Content


def owner(thread_id: str, weights: Mapping[str, float]) -> str:
    """Return the name with the highest score for this thread (rendezvous hashing).

    The result is the same in every process, whatever the order of the names. A new name takes its
    share from all others, and nothing moves between those. A weight of 2 is twice as many threads.
    """

    def score(name: str) -> float:
        drawn = int.from_bytes(
            hashlib.blake2b(f"{name}\0{thread_id}".encode(), digest_size=8).digest(), "big"
        )
        return -weights[name] / math.log((drawn + 1) / (2**64 + 1))

    return max(weights, key=score)


class ManyQueues:
    """One queue for each primary; a thread stays in the one that knows it.

    Names, not addresses, are hashed: a primary may move to another machine. Use the same names and
    weights in every process. To add a primary, deploy twice: first the old weights with `other` the
    new ones, then the new weights with `other` the old ones. Known threads stay in place, with
    their conversation and their message ids; only new ones go to the new primary.
    """

    def __init__(
        self,
        queues: Mapping[str, AssistantMessageQueue],
        weights: Mapping[str, float],
        other: Mapping[str, float] | None = None,
    ) -> None:
        self.queues = queues
        self.weights = weights
        self.other = other

    def of(self, thread_id: str) -> AssistantMessageQueue:
        """Return the queue that has a thread's messages."""
        name = owner(thread_id, self.weights)
        if self.other is not None:
            elsewhere = owner(thread_id, self.other)
            if elsewhere != name and self._knows(elsewhere, thread_id):
                name = elsewhere
        return self.queues[name]

    def _knows(self, name: str, thread_id: str) -> bool:
        """Return whether a primary has messages of the thread, or its conversation."""
        queue = self.queues[name]
        client = queue.get_queue().connection
        mapped = client.exists(f"{queue.config.queue_prefix}:conversation:{thread_id}")
        return bool(mapped) or queue.get_thread_status(thread_id).state != "idle"

    def add_message_to_thread(self, thread_id: str, message: Content, **options: Any) -> Receipt:
        """Add a message to the thread's queue.

        Raises:
            StoreUnavailable: The thread's primary is down; threads of the others are unaffected.
        """
        return self.of(thread_id).add_message_to_thread(thread_id, message, **options)

    def ask(self, thread_id: str, message: Content, **options: Any) -> str | None:
        """Add a message and wait for its reply."""
        return self.of(thread_id).ask(thread_id, message, **options)

    def get_queue_status(self) -> dict[str, QueueStatus | StoreUnavailable]:
        """Return the status of each primary, or the error of one that does not answer."""
        seen: dict[str, QueueStatus | StoreUnavailable] = {}
        for name, queue in self.queues.items():
            try:
                seen[name] = queue.get_queue_status()
            except StoreUnavailable as error:
                seen[name] = error
        return seen

    def list_failed(self, limit: int = 100) -> list[tuple[str, FailedBatch]]:
        """Return the oldest failed batches of all, with the name of their primary.

        Retry one with `queues[name].retry_failed(batch_id)`.
        """
        failed = (
            (name, batch)
            for name, queue in self.queues.items()
            for batch in queue.list_failed(limit)
        )
        return sorted(failed, key=lambda one: one[1].failed_at)[:limit]


def main() -> None:
    with ExitStack() as stack:
        options = stack.enter_context(surroundings(__doc__))
        urls = {name: stack.enter_context(private_redis())[0] for name in ("red", "blue")}
        queues = {
            name: stack.enter_context(
                AssistantMessageQueue(**{**options, "redis_url": url, "message_delay": 0.5})
            )
            for name, url in urls.items()
        }
        for queue in queues.values():
            # in production: `assistant-queue worker` for each primary
            queue.start_worker()
        many = ManyQueues(queues, dict.fromkeys(queues, 1.0))

        people = [f"customer-{number}" for number in range(1, 9)]
        receipts = {
            person: many.add_message_to_thread(person, "Where is my order?") for person in people
        }
        for person, receipt in receipts.items():
            reply = many.of(person).wait_for_reply(receipt.message_id, timeout=60)
            print(f"{person} ({owner(person, many.weights)}): {reply}")

        done = {
            name: status.completed_count
            for name, status in many.get_queue_status().items()
            if isinstance(status, QueueStatus)
        }
        answered = ", ".join(f"{count} by {name}" for name, count in done.items())
        print(f"\nanswered: {answered}; failed: {len(many.list_failed())}")

        grown = {**many.weights, "green": 1.0}
        threads = [f"thread-{number}" for number in range(10_000)]
        moves = [
            thread for thread in threads if owner(thread, many.weights) != owner(thread, grown)
        ]
        assert all(owner(thread, grown) == "green" for thread in moves)
        shares = itertools.groupby(sorted(owner(thread, grown) for thread in threads))
        moved = f"{len(moves) / len(threads):.0%}"
        print(f"with a third primary {moved} of the threads would move, all to it:", end=" ")
        print(", ".join(f"{name} {len(list(group)) / len(threads):.0%}" for name, group in shares))


if __name__ == "__main__":
    main()
