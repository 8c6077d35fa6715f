"""A relay in front of Redis: counts what clients send, or makes the way longer.

INFO commandstats counts what scripts run and what clients send alike; here only what clients send
passes by.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import sys
import threading
import time
from collections.abc import Callable

import hiredis

Commands = list[tuple[int, tuple[bytes, ...]]]
"""Connection and words of a command."""


class Relay:
    """Listens, on loopback unless given another address, and passes everything on to a Redis (or any other server) on loopback."""

    def __init__(
        self,
        target_port: int,
        *,
        delay_s: float = 0.0,
        count: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        """Starts to listen.

        Args:
            target_port: Redis.
            delay_s: How much later each answer arrives.
            count: Remember each command that passes.
            host: The address to listen on.
        """
        self._target_port = target_port
        self._delay_s = delay_s
        self._count = count
        self._lock = threading.Lock()
        self._connections = 0
        self._commands: Commands = []
        self._trips = 0
        self._waits: set[int] = set()  # connections with an unanswered request
        self._listener = socket.create_server((host, 0))
        self.port = int(self._listener.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    @property
    def url(self) -> str:
        """The address for clients."""
        return f"redis://127.0.0.1:{self.port}/0"

    def take(self) -> Commands:
        """The commands that have passed since the last time."""
        with self._lock:
            taken, self._commands = self._commands, []
        return taken

    def take_trips(self) -> int:
        """Return the number of round trips since the last call.

        Of use with a delay only.
        """
        with self._lock:
            taken, self._trips = self._trips, 0
        return taken

    def close(self) -> None:
        """Listen no more; connections end with their clients."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._target_port))
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._connections += 1
            look = self._noting(self._connections) if self._count else lambda _: None
            threading.Thread(target=self._pump, args=(client, server, look), daemon=True).start()
            threading.Thread(
                target=self._pump,
                args=(server, client, self._waiting(self._connections)),
                daemon=True,
            ).start()

    def _waiting(self, connection: int) -> Callable[[bytes], None]:
        def wait(_: bytes) -> None:
            if self._delay_s:
                time.sleep(self._delay_s)
            with self._lock:
                self._waits.discard(connection)

        return wait

    def _noting(self, connection: int) -> Callable[[bytes], None]:
        reader = hiredis.Reader()

        def note(data: bytes) -> None:
            with self._lock:
                self._trips += connection not in self._waits
                self._waits.add(connection)
            reader.feed(data)
            while (command := reader.gets()) is not False:
                with self._lock:
                    self._commands.append((connection, tuple(command)))

        return note

    @staticmethod
    def _pump(source: socket.socket, sink: socket.socket, look: Callable[[bytes], None]) -> None:
        with contextlib.suppress(OSError):  # the other end is gone
            while data := source.recv(65536):
                look(data)
                sink.sendall(data)
        for end in (source, sink):
            with contextlib.suppress(OSError):  # closed already
                end.shutdown(socket.SHUT_RDWR)
            end.close()


def main() -> None:
    """`python -m tests.benchmarks.proxy --to PORT --delay SECONDS`: prints its own port."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--to", type=int, required=True)
    parser.add_argument("--delay", type=float, required=True)
    options = parser.parse_args()
    sys.stdout.write(f"{Relay(options.to, delay_s=options.delay).port}\n")
    sys.stdout.flush()
    sys.stdin.read()


if __name__ == "__main__":
    main()
