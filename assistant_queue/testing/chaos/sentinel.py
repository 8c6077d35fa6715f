"""A primary, a replica and a Sentinel, with three ways to lose the primary."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path
from typing import Any

import redis

from assistant_queue.testing.chaos.redis_process import DurableRedis, free_port, wait_for

SERVICE = "chaos"
DOWN_MS = 1000
"""Milliseconds without an answer after which the Sentinel considers a primary down. Chosen: shorter
than a lease."""
PROMOTE_S = 90.0
"""Seconds for the promotion, and for the old primary to follow. Chosen: several failover rounds
after the 30 s for which a Sentinel that was stalled for two does nothing (its TILT mode)."""


class GuardedRedis:
    """A primary and a replica behind a Sentinel; one Redis to users of `url`."""

    def __init__(self, program: str, directory: Path) -> None:
        self._directory = directory
        self._program = program
        places = [directory / name for name in ("one", "two")]
        for place in places:
            place.mkdir()
        self._primary, self._replica = (DurableRedis(program, place) for place in places)
        self._port = free_port()
        self.url = f"redis+sentinel://127.0.0.1:{self._port}/{SERVICE}/0"
        self._process: subprocess.Popen[bytes] | None = None
        self._sentinel: Any = redis.Redis(
            host="127.0.0.1", port=self._port, socket_timeout=1, decode_responses=True, protocol=2
        )

    def start(self) -> None:
        """Start all three, and wait until the Sentinel knows the replica.

        Raises:
            NoRedis: One of them does not come up.
        """
        self._primary.start("--repl-diskless-sync-delay", "0")
        self._replica.start(*self._following(self._primary))
        file = self._directory / "sentinel.conf"
        file.write_text(
            f"port {self._port}\nbind 127.0.0.1\ndir {self._directory}\n"
            f"sentinel monitor {SERVICE} 127.0.0.1 {self._primary.port} 1\n"
            f"sentinel down-after-milliseconds {SERVICE} {DOWN_MS}\nsentinel failover-timeout {SERVICE} 2000\n",
            encoding="utf-8",
        )
        with (self._directory / "sentinel.log").open("ab") as log:
            self._process = subprocess.Popen(  # noqa: S603 - a program of this machine, no shell
                [self._program, str(file), "--sentinel"],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._wait_until_whole()

    def kill(self) -> None:
        """Kill all three with -9."""
        self._sentinel.close()
        for server in (self._primary, self._replica):
            server.signal(signal.SIGCONT)
            server.kill()
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def fail_over(self, how: str) -> None:
        """Lose the primary: `killed`, `stopped` (it returns unaware) or `asked`, by a command.

        Returns when the other server is the primary and has the old one as its replica.

        Raises:
            NoRedis: That does not happen in time.
        """
        old = self._primary
        new = self._replica
        if how == "killed":
            old.kill()
        elif how == "stopped":
            old.signal(signal.SIGSTOP)
        else:
            self._sentinel.execute_command("SENTINEL", "FAILOVER", SERVICE)
        wait_for(
            lambda: self._primary_port() == new.port, "the Sentinel promotes the replica", PROMOTE_S
        )
        self._primary = new
        self._replica = old
        if how == "killed":
            old.start(*self._following(new))
        old.signal(signal.SIGCONT)
        self._wait_until_whole()

    @staticmethod
    def _following(primary: DurableRedis) -> tuple[str, ...]:
        return ("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0")

    def _primary_port(self) -> int:
        _, port = self._sentinel.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", SERVICE)
        return int(port)

    def _wait_until_whole(self) -> None:
        """Wait until the replica is in sync and the Sentinel knows it."""
        wait_for(
            # In one: on a busy machine the Sentinel may promote the other server in between.
            lambda: self._is_followed() and self._is_guarded(),
            "the replica follows, and the Sentinel knows it",
            PROMOTE_S,
        )

    def _is_followed(self) -> bool:
        if self._primary_port() != self._primary.port:
            self._primary, self._replica = self._replica, self._primary
        with self._replica.client() as client:
            return bool(client.info("replication").get("master_link_status") == "up")

    def _is_guarded(self) -> bool:
        rows = self._sentinel.execute_command("SENTINEL", "REPLICAS", SERVICE)
        known = [
            dict(zip(row[::2], row[1::2], strict=True)) if isinstance(row, list) else row
            for row in rows
        ]
        return any(
            int(row["port"]) == self._replica.port
            and row["flags"] == "slave"
            and row["master-link-status"] == "ok"
            for row in known
        )
