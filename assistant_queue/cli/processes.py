"""`assistant-queue worker --processes N`: N workers under one parent, each with its own loop."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import click

from assistant_queue.worker.parent_process import die_with_parent

SHORT_LIFE_S = 2.0
"""Seconds: a worker that ends by itself sooner than this is restarted after as long. Chosen: a
broken app must not spin."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Processes:
    """Keeps N forked workers alive; no part of a worker may run in this process before.

    1. starts the first, and the others when it is ready: a fault of the app or of Redis is reported
       once
    2. passes SIGTERM and Ctrl-C on to all, and waits for them
    3. restarts a worker that ended by itself
    """

    def __init__(self, count: int, work: Callable[[Callable[[], None]], int]) -> None:
        """`work(on_ready)` runs in each child; it returns the child's exit code."""
        self._count = count
        self._work = work
        self._children: dict[int, float] = {}
        self._stopping = False
        self._was_ready = False

    def run(self) -> int:
        """Run until a signal; return the highest exit code of the workers."""
        for number in _SIGNALS:
            signal.signal(number, self._pass_on)
        if self._start(wait=True):
            for _ in range(self._count - 1):
                self._start()
        worst = 0
        while self._children:
            try:
                pid, status = os.wait()
            except ChildProcessError:
                break
            lived_s = time.monotonic() - self._children.pop(pid, time.monotonic())
            code = os.waitstatus_to_exitcode(status)
            if self._stopping or code == 0 or not self._was_ready:
                worst = max(worst, code)
                continue
            click.echo(f"worker process {pid} ended with {code}; starting another", err=True)
            if lived_s < SHORT_LIFE_S:
                time.sleep(SHORT_LIFE_S)
            self._start()
        return worst

    def _start(self, *, wait: bool = False) -> bool:
        """Fork a worker; with `wait`, return whether it became ready."""
        if self._stopping:
            return False
        sys.stdout.flush()
        sys.stderr.flush()
        reads, writes = os.pipe()
        parent = os.getpid()
        pid = os.fork()
        if not pid:
            os.close(reads)
            die_with_parent(parent)
            self._be_worker((lambda: _write_ready(writes)) if wait else lambda: None)
        os.close(writes)
        self._children[pid] = time.monotonic()
        if wait:
            self._was_ready = os.read(reads, 1) == b"r"  # empty if it ended
        os.close(reads)
        return self._was_ready

    def _be_worker(self, on_ready: Callable[[], None]) -> NoReturn:
        os.setpgid(0, 0)  # the terminal's Ctrl-C reaches the parent alone, which passes it on once
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        code = 1
        try:
            code = self._work(on_ready)
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)

    def _pass_on(self, number: int, *_: object) -> None:
        self._stopping = True
        for pid in self._children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def _write_ready(pipe: int) -> None:
    os.write(pipe, b"r")
    os.close(pipe)
