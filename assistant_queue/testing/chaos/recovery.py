"""Recovery times of threads after a fault of their worker, measured by reading the leases.

This only measures; the verdict does not depend on it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from dataclasses import dataclass
from typing import Any, Literal

import redis

from assistant_queue.store.calls import text
from assistant_queue.store.keys import Keys
from assistant_queue.store.transport.connect import sync_client

LOOK_S = 0.04
"""Seconds between two reads. Chosen: the resolution of the figures."""

Cause = Literal["kill", "stop", "restart"]


@dataclass(frozen=True, slots=True)
class Blow:
    """A fault of workers or of Redis from `at` to `until`, seconds since the epoch."""

    cause: Cause
    at: float
    until: float


@dataclass(frozen=True, slots=True)
class Recovery:
    """A lapsed lease with a new holder, `seconds` after the fault or after Redis' return."""

    cause: Cause
    thread: str
    seconds: float


@dataclass(frozen=True, slots=True)
class _Lapse:
    thread: str
    since: float
    changed: float
    is_taken: bool


class RecoveryWatch:
    """Reads all leases every few hundredths of a second, on its own thread."""

    def __init__(self, url: str, prefix: str, lease_s: float) -> None:
        self._client = sync_client(url)
        self._keys = Keys(prefix)
        self._lease_s = lease_s
        self._seen: dict[str, tuple[str, float]] = {}
        self._lapses: list[_Lapse] = []
        self._blows: list[Blow] = []
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="chaos-watch", daemon=True)

    def start(self) -> None:
        """Start reading."""
        self._thread.start()

    def stop(self) -> None:
        """Stop reading."""
        self._stop.set()
        self._thread.join(timeout=10)
        self._client.close()

    def note(self, cause: Cause, at: float) -> None:
        """Note a fault from `at` until now."""
        self._blows.append(Blow(cause, at, time.time()))

    def recoveries(self) -> list[Recovery]:
        """Return the recoveries of all leases that lapsed after a fault."""
        return [found for lapse in self._lapses if (found := self._explained(lapse)) is not None]

    @property
    def taken_over(self) -> int:
        """Number of lapsed leases that another holder took."""
        return sum(lapse.is_taken for lapse in self._lapses)

    def _explained(self, lapse: _Lapse) -> Recovery | None:
        """Return the first fault after the holder's last renewal, at `since`."""
        struck = [
            blow for blow in self._blows if blow.until >= lapse.since and blow.at <= lapse.changed
        ]
        if not struck:
            return None
        restart = next((blow for blow in struck if blow.cause == "restart"), None)
        if restart is not None:
            return Recovery("restart", lapse.thread, max(0.0, lapse.changed - restart.until))
        return Recovery(struck[0].cause, lapse.thread, lapse.changed - struck[0].at)

    def _run(self) -> None:
        while not self._stop.is_set():
            with contextlib.suppress(redis.RedisError, OSError):
                self._look()
            self._stop.wait(LOOK_S)

    def _look(self) -> None:
        threads: Any = self._client.zrange(self._keys.due, 0, -1)
        names = list(dict.fromkeys([*map(text, threads), *self._seen]))
        pipe = self._client.pipeline(transaction=False)
        for name in names:
            pipe.hmget(self._keys.thread(name), ["token", "until"])
        replies = pipe.execute()
        now = time.time()
        for name, (token, until) in zip(names, replies, strict=True):
            before = self._seen.get(name)
            if (
                before is not None
                and before[0] != (None if token is None else text(token))
                and before[1] < now - LOOK_S
            ):
                is_taken = token is not None
                self._lapses.append(_Lapse(name, before[1] - self._lease_s, now, is_taken))
            if token is None:
                self._seen.pop(name, None)
            else:
                self._seen[name] = (text(token), float(until) / 1000)
