"""A primary and its replica, for tests of what is promised with `durability="replicated"`."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import redis

from assistant_queue.store.ops import replication
from tests.conftest import RedisServer
from tests.integration.conftest import wait_until

PATIENT_S = 5.0
"""Seconds that a replica at work may take on a busy machine. Chosen: half of what Redis may take."""
IMPATIENT_S = 0.2
"""Seconds that this process waits for a replica that is stopped."""


class Pair:
    """A primary and its replica, two processes.

    How long this process waits for a replica depends on whether it is stopped, not on the machine.
    """

    def __init__(self, program: str, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self._wait(PATIENT_S)
        for name in ("primary", "replica"):
            (directory / name).mkdir()
        self.primary = RedisServer(
            program, directory / "primary", "--repl-diskless-sync-delay", "0"
        )
        self.primary.start()
        self.replica = RedisServer(
            program, directory / "replica", "--replicaof", "127.0.0.1", str(self.primary.port)
        )
        self.replica.start()
        self.copy = redis.Redis.from_url(self.replica.url, decode_responses=True)
        wait_until(
            lambda: self.copy.info("replication")["master_link_status"] == "up",
            "the replica has everything",
        )

    def signal(self, number: signal.Signals) -> None:
        """To the replica."""
        assert self.replica.process is not None
        os.kill(self.replica.process.pid, number)
        self._wait(IMPATIENT_S if number == signal.SIGSTOP else PATIENT_S)

    def _wait(self, seconds: float) -> None:
        self._monkeypatch.setattr(replication, "REPLICA_WAIT_S", seconds)

    def fail_over(self) -> str:
        """Kill the primary, promote the replica; its URL."""
        self.primary.stop()
        self.copy.execute_command("REPLICAOF", "NO", "ONE")
        return self.replica.url

    def close(self) -> None:
        self.copy.close()
        if self.replica.process is not None:
            self.signal(signal.SIGCONT)
        self.replica.stop()
        self.primary.stop()
