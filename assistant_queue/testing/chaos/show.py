"""Carry out the events of the plan other than messages."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import cast

from assistant_queue.testing.chaos.bulk import Bulks
from assistant_queue.testing.chaos.fault_plans import inject
from assistant_queue.testing.chaos.forgetting import Forgotten
from assistant_queue.testing.chaos.plan import PlannedFault
from assistant_queue.testing.chaos.platforms import Platforms
from assistant_queue.testing.chaos.recovery import Cause, RecoveryWatch
from assistant_queue.testing.chaos.redis_process import LOST_S, DurableRedis
from assistant_queue.testing.chaos.sentinel import GuardedRedis
from assistant_queue.testing.chaos.shifting import set_shift
from assistant_queue.testing.chaos.workers import Workers
from assistant_queue.testing.provider import StandInProvider

TICK_S = 0.05
"""Seconds between two checks of the workers. Chosen: as a quick supervisor."""


class Show:
    """Carries out a plan.

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
        watch: RecoveryWatch,
        bulks: Bulks,
        clock: Path,
        platforms: Platforms | None,
    ) -> None:
        self._provider = provider
        self._server = server
        self._workers = workers
        self._watch = watch
        self._bulks = bulks
        self._clock = clock
        self._platforms = platforms
        self._shift_s = 0.0
        self.done: Counter[str] = Counter()
        self.forgotten: list[Forgotten] = []
        self._does: dict[str, Callable[[PlannedFault], bool]] = {
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
            "platform": lambda event: platforms is not None and platforms.strike(event),
        }

    def play(self, events: Sequence[PlannedFault], seconds: float) -> None:
        """Carry out all events in order at their times; return after `seconds` at least."""
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
            if self._platforms is not None:
                self._platforms.look_after()
            if self._has_truncation:
                cast("DurableRedis", self._server).note_size()
            left = until - time.monotonic()
            if left <= 0:
                return
            time.sleep(min(left, TICK_S))

    def _fault(self, event: PlannedFault) -> bool:
        inject(self._provider, event.text)
        return True

    # --- Redis ------------------------------------------------------------------------------------

    def _restart(self, event: PlannedFault) -> bool:
        if isinstance(self._server, GuardedRedis):
            return self._fail_over(event)
        self._server.kill()
        time.sleep(event.seconds)
        self._server.start()
        return True

    def _truncate(self, event: PlannedFault) -> bool:
        server = cast("DurableRedis", self._server)
        server.kill()
        since = server.cut_short()
        until = time.time()
        time.sleep(event.seconds)
        server.start()
        self.forgotten.append(Forgotten(since, until))
        return True

    def _fail_over(self, event: PlannedFault) -> bool:
        began = time.time()
        cast("GuardedRedis", self._server).fail_over(event.text or "killed")
        self.forgotten.append(Forgotten(began - LOST_S, time.time()))
        return True

    def _stall(self, event: PlannedFault) -> bool:
        server = cast("DurableRedis", self._server)
        server.signal(signal.SIGSTOP)
        time.sleep(event.seconds)
        server.signal(signal.SIGCONT)
        return True

    def _crowd(self, event: PlannedFault) -> bool:
        server = cast("DurableRedis", self._server)
        admin = server.crowd()
        self._wait(time.monotonic() + event.seconds)
        return server.admit(admin) > 0

    def _set_clock_back(self, event: PlannedFault) -> bool:
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
"""Kind of event that may end leases -> kind of fault in the counts."""
