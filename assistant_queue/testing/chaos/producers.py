"""Those who send messages, and their own log of what was accepted: outside Redis."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import StoreUnavailable
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.plan import Event

RETRY_S = 0.1
"""Seconds until an add that Redis did not answer is repeated. Chosen."""


class Producers:
    """Adds the plan's messages at their times, each thread's in order; what Redis did not acknowledge is added again under the same id."""

    def __init__(self, queue: AssistantMessageQueue, says: Sequence[Event], count: int) -> None:
        self._queue = queue
        self._lock = threading.Lock()
        self._sent: list[Sent] = []
        self._repeated = 0
        self._given_up = threading.Event()
        names = list(dict.fromkeys(event.thread for event in says))
        shares = [set(names[number::count]) for number in range(count)]
        self._threads = [
            threading.Thread(
                target=self._work, args=([event for event in says if event.thread in share],), name="chaos-producer", daemon=True
            )
            for share in shares
        ]
        self._start = 0.0

    def start(self) -> None:
        """Time starts to run."""
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until all is accepted; False if it is not within `timeout` seconds, and then nothing more is added."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._given_up.set()
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def sent(self) -> list[Sent]:
        """What was accepted so far, each thread's in order."""
        with self._lock:
            return list(self._sent)

    @property
    def repeated(self) -> int:
        """Adds that were not answered and repeated."""
        return self._repeated

    def _work(self, events: Sequence[Event]) -> None:
        for event in events:
            time.sleep(max(0.0, self._start + event.at - time.monotonic()))
            self._add(event)

    def _add(self, event: Event) -> None:
        at = time.time()
        while not self._given_up.is_set():
            try:
                self._queue.add_message_to_thread(event.thread, event.text, message_id=event.message_id)
            except StoreUnavailable:
                with self._lock:
                    self._repeated += 1
                time.sleep(RETRY_S)
                continue
            with self._lock:
                self._sent.append(Sent(event.message_id, event.thread, event.text, at, time.time()))
            return

    def note(self, sent: Sequence[Sent], repeated: int) -> None:
        """Take messages into the log that another producer added."""
        with self._lock:
            self._sent += sent
            self._repeated += repeated
