"""Producers of messages, and their log of accepted ones, outside Redis."""

from __future__ import annotations

import contextlib
import threading
import time
import zlib
from collections.abc import Sequence

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import MessageNotFound, StoreUnavailable
from assistant_queue.testing.chaos.oracle import Sent
from assistant_queue.testing.chaos.persons import Persons
from assistant_queue.testing.chaos.plan import HANDOVERS, PlannedFault
from assistant_queue.testing.chaos.steering_oracle import Halt, Revision

RETRY_S = 0.1
"""Seconds until an add that Redis did not answer is repeated. Chosen: an outage lasts longer."""


class Producers:
    """Adds the plan's messages at their times, each thread's in order.

    A message that Redis did not acknowledge is added again with the same id.
    """

    def __init__(
        self,
        queue: AssistantMessageQueue,
        says: Sequence[PlannedFault],
        count: int,
        *,
        flushes: bool = False,
    ) -> None:
        """`flushes`: every fourth message or so is followed by a flush of its thread."""
        self._queue = queue
        self._flushes = flushes
        self._lock = threading.Lock()
        self._sent: list[Sent] = []
        self._halts: list[Halt] = []
        self._revisions: list[Revision] = []
        self._repeated = 0
        self._given_up = threading.Event()
        self.persons = Persons(queue, self._given_up)
        names = list(dict.fromkeys(event.thread for event in says))
        shares = [set(names[number::count]) for number in range(count)]
        self._threads = [
            threading.Thread(
                target=self._work,
                args=([event for event in says if event.thread in share],),
                name="chaos-producer",
                daemon=True,
            )
            for share in shares
        ]
        self._start = 0.0

    def start(self) -> None:
        """Start the clock of the plan."""
        self._start = time.monotonic()
        for thread in self._threads:
            thread.start()

    def join(self, timeout: float) -> bool:
        """Wait until all are accepted; after `timeout` seconds stop adding and return False."""
        until = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))
        self._given_up.set()
        return not any(thread.is_alive() for thread in self._threads)

    @property
    def sent(self) -> list[Sent]:
        """Accepted messages so far, each thread's in order."""
        with self._lock:
            return list(self._sent)

    @property
    def halts(self) -> list[Halt]:
        """Stops that were asked for."""
        with self._lock:
            return list(self._halts)

    @property
    def revisions(self) -> list[Revision]:
        """Edits and removals that were asked for."""
        with self._lock:
            return list(self._revisions)

    @property
    def repeated(self) -> int:
        """Number of repeated adds."""
        return self._repeated

    def _work(self, events: Sequence[PlannedFault]) -> None:
        for event in events:
            time.sleep(max(0.0, self._start + event.at - time.monotonic()))
            self._add(event)

    def _add(self, event: PlannedFault) -> None:
        at = time.time()
        if event.kind == "tell":
            self._say(event, at)
            return
        if event.kind == "halt":
            self._halt(event, at)
            return
        if event.kind in {"edit", "remove"}:
            self._revise(event)
            return
        if event.kind in HANDOVERS:
            self.persons.act(event)
            return
        while not self._given_up.is_set():
            try:
                self._queue.add_message_to_thread(
                    event.thread,
                    event.text,
                    message_id=event.message_id,
                    wants_reply=event.kind != "note",
                    mid_run=event.kind if event.kind in ("interrupt", "steer") else None,
                )
            except StoreUnavailable:
                with self._lock:
                    self._repeated += 1
                time.sleep(RETRY_S)
                continue
            with self._lock:
                self._sent.append(
                    Sent(
                        event.message_id,
                        event.thread,
                        event.text,
                        at,
                        time.time(),
                        kind="note" if event.kind == "note" else "say",
                    )
                )
            if self._flushes and zlib.crc32(event.message_id.encode()) % 4 == 0:
                with contextlib.suppress(StoreUnavailable):
                    self._queue.flush(event.thread)
            return

    def _halt(self, event: PlannedFault, at: float) -> None:
        """Stop the answer of a thread, once."""
        found = True
        with contextlib.suppress(StoreUnavailable):
            found = self._queue.stop(event.thread)
        with self._lock:
            self._halts.append(Halt(event.thread, at, time.time(), found))

    def _revise(self, event: PlannedFault) -> None:
        """Edit or remove a message, once."""
        text = event.text if event.kind == "edit" else None
        found = True
        with contextlib.suppress(StoreUnavailable, MessageNotFound):
            found = (
                self._queue.cancel(event.message_id, running=True)
                if text is None
                else self._queue.edit_message(event.message_id, text, running=True)
            )
        if found:
            with self._lock:
                self._revisions.append(Revision(event.message_id, text))

    def _say(self, event: PlannedFault, at: float) -> None:
        """Say a reply, once: a second call would be a second reply."""
        message_id = event.message_id
        is_sure = True
        try:
            message_id = self._queue.say(event.thread, event.text).message_id
        except StoreUnavailable:
            is_sure = False
        with self._lock:
            self._sent.append(
                Sent(
                    message_id,
                    event.thread,
                    event.text,
                    at,
                    time.time(),
                    kind="tell",
                    is_sure=is_sure,
                )
            )

    def note(self, sent: Sequence[Sent], repeated: int) -> None:
        """Add messages of another producer to the log."""
        with self._lock:
            self._sent += sent
            self._repeated += repeated
