"""Persons that take threads over and hand them back, during a run of the chaos runner."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import cast

from assistant_queue import AssistantMessageQueue
from assistant_queue.errors import StoreUnavailable, ThreadTakenOver
from assistant_queue.testing.chaos.plan import PlannedFault
from assistant_queue.testing.chaos.takeover_oracle import Handover, HandoverKind

RETRY_S = 0.1
"""Seconds until a call that Redis did not answer is repeated. Chosen: an outage lasts longer."""


class Persons:
    """Carry out the takeovers of a plan, and log them; each thread's by its one producer."""

    def __init__(self, queue: AssistantMessageQueue, given_up: threading.Event) -> None:
        """Log nothing yet; `given_up` ends the repetitions."""
        self._queue = queue
        self._given_up = given_up
        self._lock = threading.Lock()
        self._of: dict[str, str] = {}
        self._handovers: list[Handover] = []

    @property
    def handovers(self) -> Sequence[Handover]:
        """Handovers so far."""
        with self._lock:
            return list(self._handovers)

    def act(self, event: PlannedFault) -> None:
        """Carry out one event, until Redis answers: a repetition changes nothing."""
        at = time.time()
        said = self._repeated(lambda: self._call(event))
        made = Handover(
            thread=event.thread,
            kind=cast("HandoverKind", event.kind),
            at=at,
            ended_at=time.time(),
            by=event.text,
            stops=not event.slot,
            said=said,
        )
        with self._lock:
            self._handovers.append(made)
            if event.kind == "take_over":
                self._of[event.thread] = event.text
            elif event.kind == "hand_back":
                self._of.pop(event.thread, None)

    def _call(self, event: PlannedFault) -> bool | str:
        if event.kind == "hand_back":
            return self._queue.hand_back(event.thread)
        before = self._of.get(event.thread) if event.kind == "take_over" else None
        try:
            return self._queue.take_over(
                event.thread, event.text, instead_of=before, stop=not event.slot
            )
        except ThreadTakenOver as error:
            return error.by

    def _repeated(self, call: Callable[[], bool | str]) -> bool | str | None:
        """Return what was said at once; None if the call had to be repeated."""
        is_first = True
        while not self._given_up.is_set():
            try:
                said = call()
            except StoreUnavailable:
                is_first = False
                time.sleep(RETRY_S)
            else:
                return said if is_first else None
        return None
