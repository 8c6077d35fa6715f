"""Redis servers with durable writes that can be killed, stopped, truncated and restarted."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any

import redis

from assistant_queue.testing import redis_programs

START_S = 15.0
"""Seconds for Redis to answer. Chosen: many times what it needs on a busy machine."""
_POSTPONED_S = 2.0
"""Seconds for which acknowledged writes may be missing in the file during an fsync. Source: Redis, src/aof.c."""
LOST_S = 1.0
"""Seconds of writes that a crash can cost. Source: Redis, `appendfsync everysec`."""
_FEW = 3
"""Clients that a crowded Redis accepts, including the crowding one. Chosen: fewer than any worker has
connections."""
_USUAL = 10_000
"""Source: Redis, the default of `maxclients`."""


class RedisMissing(Exception):
    """No redis-server was found."""


def find_program() -> str:
    """Return the server on the PATH, else one that a package brings.

    Raises:
        RedisMissing: Neither is there.
    """
    found = redis_programs.on_path() or next(iter(redis_programs.in_packages().values()), None)
    if found is None:
        raise RedisMissing("no redis-server on the PATH: install one, or name it with --redis")
    return found


def free_port() -> int:
    """Return a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(holds: Callable[[], bool], what: str, within_s: float = START_S) -> None:
    """Poll until the condition holds; a missing answer counts as False.

    Raises:
        NoRedis: It is not so in time.
    """
    until = time.monotonic() + within_s
    while time.monotonic() < until:
        with contextlib.suppress(redis.RedisError, OSError):
            if holds():
                return
        time.sleep(0.02)
    raise RedisMissing(f"not within {within_s:g} s: {what}")


class DurableRedis:
    """One redis-server process with `appendfsync always`, on one port and in one directory."""

    def __init__(self, program: str, directory: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._command = [
            program,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            str(directory),
        ]
        self._command += [
            "--save",
            "",
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--auto-aof-rewrite-percentage",
            "0",
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self._sizes: deque[tuple[float, int]] = deque(maxlen=200)

    def start(self, *more: str) -> None:
        """Start it, with `more` options, and wait until it answers.

        Raises:
            NoRedis: It does not come up.
        """
        with (self._directory / "redis.log").open("ab") as log:
            process = self._process = subprocess.Popen(  # noqa: S603 - a program of this machine, no shell
                [*self._command, *more],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        with self.client() as client:  # refused while it loads its data
            wait_for(
                lambda: process.poll() is not None or bool(client.ping()),
                f"{self._command[0]} answers; see {self._directory}",
            )
        if process.poll() is not None:
            raise RedisMissing(
                f"{self._command[0]} did not start; see {self._directory / 'redis.log'}"
            )

    def client(self) -> redis.Redis:
        """Return a client for administration."""
        return redis.Redis(
            host="127.0.0.1", port=self.port, socket_timeout=1, decode_responses=True
        )

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
        """Disconnect all clients and accept few; return the one connection that works, for `admit`."""
        admin: Any = redis.Redis(
            host="127.0.0.1", port=self.port, single_connection_client=True, protocol=2
        )
        admin.execute_command("CONFIG", "RESETSTAT")
        admin.execute_command("CONFIG", "SET", "maxclients", _FEW)
        for kind in ("normal", "pubsub"):
            admin.execute_command("CLIENT", "KILL", "TYPE", kind, "SKIPME", "yes")
        return admin

    @staticmethod
    def admit(admin: Any) -> int:
        """Accept clients again; return the number of connections that were refused."""
        admin.execute_command("CONFIG", "SET", "maxclients", _USUAL)
        refused = int(admin.info("stats")["rejected_connections"])
        admin.execute_command("CONFIG", "RESETSTAT")
        admin.close()
        return refused

    # --- its file ---------------------------------------------------------------------------------

    def note_size(self) -> None:
        """Note the file's length, for `cut_short`."""
        self._sizes.append((time.time(), self._file().stat().st_size))

    def cut_short(self) -> float:
        """Truncate a killed server's file by the last second; return when the lost writes begin."""
        now = time.time()
        since, size = next(
            (one for one in reversed(self._sizes) if one[0] <= now - LOST_S), (now, -1)
        )
        if size >= 0:
            os.truncate(self._file(), size)
        self._sizes.clear()
        return since - _POSTPONED_S

    def _file(self) -> Path:
        """Return the file that grows: the last of several, from Redis 7 on."""
        parts = sorted(
            (self._directory / "appendonlydir").glob("*.incr.aof"),
            key=lambda path: path.stat().st_mtime,
        )
        return parts[-1] if parts else self._directory / "appendonly.aof"
