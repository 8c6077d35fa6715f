"""Carries out what is not a message: each event of the plan at its time."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from assistant_queue.testing.chaos.bulk import Bulks
from assistant_queue.testing.chaos.faults import inject
from assistant_queue.testing.chaos.forgetting import Forgotten
from assistant_queue.testing.chaos.plan import Event
from assistant_queue.testing.chaos.recovery import Cause, Watch
from assistant_queue.testing.chaos.redis import LOST_S, DurableRedis
from assistant_queue.testing.chaos.sentinel import GuardedRedis
from assistant_queue.testing.chaos.shifting import set_shift
from assistant_queue.testing.chaos.workers import Workers
from assistant_queue.testing.provider import StandInProvider

TICK_S = 0.05
"""Seconds between two looks at the workers. Chosen."""


class Show:
    """Plays a plan.

    Attributes:
        done: How often each kind of event was carried out.
        forgotten: The moments of which Redis may not know any more.
    """

    def __init__(
        self,
        *,
        provider: StandInProvider,
        server: DurableRedis | GuardedRedis,
        workers: Workers,
        watch: Watch,
        bulks: Bulks,
        clock: Path,
    ) -> None:
        self._provider, self._server, self._workers, self._watch = provider, server, workers, watch
        self._bulks, self._clock, self._shift_s = bulks, clock, 0.0
        self.done: Counter[str] = Counter()
        self.forgotten: list[Forgotten] = []
        self._does: dict[str, Callable[[Event], bool]] = {
            "fault": self._fault,
            "kill": lambda event: self._workers.kill(event.slot, event.whom),
            "stop": lambda event: self._workers.stop(event.slot, event.whom, event.seconds),
            "starve": lambda event: self._workers.starve(event.slot, event.seconds),
            "restart": self._restart,
            "stall": self._stall,
            "crowd": self._crowd,
            "truncate": self._truncate,
            "fail_over": self._fail_over,
            "add_bulk": lambda event: self._bulks.add(event.slot),
            "set_clock_back": self._set_clock_back,
        }

    def play(self, events: Sequence[Event], seconds: float) -> None:
        """All events at their times, or as soon as what came before is over; at least for so many seconds."""
        self._has_truncation = any(event.kind == "truncate" for event in events)
        start = time.monotonic()
        for event in events:
            self._wait(start + event.at)
            at = time.time()
            if not self._does[event.kind](event):
                self.done["missed"] += 1
                continue
            self.done[event.kind] += 1
            if event.kind in _CAUSES:
                self._watch.note(_CAUSES[event.kind], at)
        self._wait(start + seconds)

    def _wait(self, until: float) -> None:
        while True:
            self._workers.look_after()
            if self._has_truncation:
                cast("DurableRedis", self._server).note_size()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_S))

    def _fault(self, event: Event) -> bool:
        inject(self._provider, event.text)
        return True

    # --- Redis --------------------------------------------------------------------------------------------------------

    def _restart(self, event: Event) -> bool:
        if isinstance(self._server, GuardedRedis):
            return self._fail_over(event)
        self._server.kill()
        time.sleep(event.seconds)
        self._server.start()
        return True

    def _truncate(self, event: Event) -> bool:
        server = cast("DurableRedis", self._server)
        server.kill()
        since, until = server.cut_short(), time.time()
        time.sleep(event.seconds)
        server.start()
        self.forgotten.append(Forgotten(since, until))
        return True

    def _fail_over(self, event: Event) -> bool:
        began = time.time()
        cast("GuardedRedis", self._server).fail_over(event.text or "killed")
        self.forgotten.append(Forgotten(began - LOST_S, time.time()))
        return True

    def _stall(self, event: Event) -> bool:
        server = cast("DurableRedis", self._server)
        server.signal(signal.SIGSTOP)
        time.sleep(event.seconds)
        server.signal(signal.SIGCONT)
        return True

    def _crowd(self, event: Event) -> bool:
        server = cast("DurableRedis", self._server)
        admin = server.crowd()
        self._wait(time.monotonic() + event.seconds)
        server.admit(admin)
        return True

    def _set_clock_back(self, event: Event) -> bool:
        self._shift_s -= event.seconds
        set_shift(self._clock, self._shift_s)
        return True


_CAUSES: dict[str, Cause] = {
    "kill": "kill",
    "stop": "stop",
    "restart": "restart",
    "truncate": "restart",
    "fail_over": "restart",
    "stall": "restart",
    "crowd": "restart",
}
"""What may end leases, and as what it is counted."""
