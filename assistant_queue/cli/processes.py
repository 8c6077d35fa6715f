"""`assistant-queue worker --processes N`: as many workers, each a process with a loop of its own, under one parent."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import NoReturn

import click

from assistant_queue.worker.parents import die_with_parent

SHORT_LIFE_S = 2.0
"""A worker that ends sooner than this by itself is started again only after as long. Chosen: a broken app shall not spin."""
_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Processes:
    """Keeps N forked workers alive; nothing of the worker may run in this process before.

    1. starts the first, and the others when it is ready: what is wrong with the app or with Redis is said once
    2. passes SIGTERM and Ctrl-C on to all, and waits for them
    3. starts a worker again that died by itself
    """

    def __init__(self, count: int, work: Callable[[Callable[[], None]], int]) -> None:
        """`work(on_ready)` runs in each child; what it returns is the child's exit code."""
        self._count = count
        self._work = work
        self._children: dict[int, float] = {}
        self._stopping = False
        self._was_ready = False

    def run(self) -> int:
        """Run until a signal; the exit code: the worst of the workers'."""
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
        """Fork one; with `wait`, whether it became ready."""
        if self._stopping:
            return False
        sys.stdout.flush()
        sys.stderr.flush()
        reads, writes = os.pipe()
        pid = os.fork()
        if not pid:
            os.close(reads)
            self._be_worker((lambda: _say(writes)) if wait else lambda: None)
        os.close(writes)
        self._children[pid] = time.monotonic()
        if wait:
            self._was_ready = os.read(reads, 1) == b"r"  # nothing: it has died
        os.close(reads)
        return self._was_ready

    def _be_worker(self, on_ready: Callable[[], None]) -> NoReturn:
        os.setpgid(0, 0)  # the terminal's Ctrl-C reaches the parent alone, which passes it on once
        die_with_parent()
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


def _say(pipe: int) -> None:
    os.write(pipe, b"r")
    os.close(pipe)
