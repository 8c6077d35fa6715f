"""Report user code that blocks the worker's event loop."""

from __future__ import annotations

import asyncio
import logging
import sys
import threading
from pathlib import Path
from types import FrameType

from assistant_queue.user_code.running_calls import post

_log = logging.getLogger(__name__)

BEAT_S = 1.0
"""Seconds between two checks. Chosen: hardly any cost."""
BLOCKED_S = 2.0
"""Seconds without an iteration of the event loop after which it counts as blocked. Chosen: a loaded
machine is rarely slower than that."""

_PACKAGE = str(Path(__file__).parent.parent)
_ASYNCIO = str(Path(asyncio.__file__).parent)


class LoopMonitor:
    """Checks the event loop of a worker from a separate thread.

    1. asks the loop for a sign of life every `BEAT_S`
    2. without one for `BLOCKED_S`, logs the function of the user's that the loop is executing, once
       for each function

    A blocked loop delays every run of the worker; leases are renewed all the same.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Start nothing yet; call it on the loop's thread."""
        self._loop = loop
        self._loop_thread = threading.get_ident()
        self._stopped = threading.Event()
        self._reported: set[str] = set()
        self._thread = threading.Thread(
            target=self._run, name="assistant-queue-loop-monitor", daemon=True
        )

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread; do not wait for it."""
        self._stopped.set()

    def _run(self) -> None:
        while not self._stopped.wait(BEAT_S):
            alive = threading.Event()
            post(self._loop, alive.set)
            while not alive.wait(BLOCKED_S) and not self._stopped.is_set():
                self._report()

    def _report(self) -> None:
        frame = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - it is documented
        place = None if frame is None else _user_frame(frame)
        if place is None:
            return  # the machine is slow, or this package is at work
        name = f"{place.f_globals.get('__name__', '?')}.{place.f_code.co_qualname}"
        if name not in self._reported:
            self._reported.add(name)
            _log.warning(
                "%s blocks the event loop for more than %g s (line %d): every run of this worker "
                "waits for it; make it a plain function, which runs on a thread, or await",
                name,
                BLOCKED_S,
                place.f_lineno,
            )


def _user_frame(innermost: FrameType) -> FrameType | None:
    """Return the frame in which the current callback entered user code; None if it has not."""
    found = None
    frame: FrameType | None = innermost
    while frame is not None and not frame.f_code.co_filename.startswith(_ASYNCIO):
        if not frame.f_code.co_filename.startswith(_PACKAGE):
            found = frame
        frame = frame.f_back
    return found if frame is not None else None
