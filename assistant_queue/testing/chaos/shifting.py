"""The store's time, shifted for all processes at once, as if Redis' clock were set back.

A redis-server takes its machine's time and has no setting for another. But every script takes the
time as an argument if the process' clock gives one (`clock.py`). Only what Redis keeps itself - when
keys expire - continues by the machine's time.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path

from assistant_queue.clock import SystemClock


def set_shift(path: Path, seconds: float) -> None:
    """Set the store's time to this many seconds ahead of the machine's."""
    beside = path.with_suffix(".new")
    beside.write_text(repr(seconds), encoding="ascii")
    beside.replace(path)


def shift(path: Path) -> None:
    """Have every clock of this process follow the file, for as long as the process lives."""

    def store_now_ms(_: SystemClock) -> int:
        return round((time.time() + float(path.read_text(encoding="ascii"))) * 1000)

    SystemClock.store_now_ms = store_now_ms  # type: ignore[method-assign, assignment]  # a worker of this run alone


@contextlib.contextmanager
def shifted(path: Path) -> Iterator[None]:
    """Have every clock of this process follow the file within the block."""
    real = SystemClock.store_now_ms
    shift(path)
    try:
        yield
    finally:
        SystemClock.store_now_ms = real  # type: ignore[method-assign]
