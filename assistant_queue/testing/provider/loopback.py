"""A server on a free port of the loopback interface, with its own thread and event loop."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

import uvicorn
from starlette.types import ASGIApp

T = TypeVar("T")

_BACKLOG = 4096
# Chosen: longer than any test, so that no idle connection is closed under a client that is about to
# use it again.
LOOPBACK = "127.0.0.1"
"""The address of a server of this machine's own."""

_KEEP_ALIVE_S = 3600
_START_TIMEOUT_S = 60.0
_TURNS_OF_ACCEPTING = 5
"""Turns of a loop until an accepted connection is made known. Source: asyncio's selector loop."""


class _Server(uvicorn.Server):
    """Says when it is up, and goes down at once instead of waiting for its clients."""

    def __init__(self, config: uvicorn.Config, started: Callable[[], None]) -> None:
        super().__init__(config)
        self._report_started = started
        self.stopping = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then report."""
        await super().startup(sockets)
        self._report_started()

    async def main_loop(self) -> None:
        """Wait to be stopped."""
        await self.stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close the port and every connection, and end what is still being answered."""
        for server in self.servers:
            server.close()
        for listening in sockets or []:
            listening.close()
        # What is cancelled needs no answer; a connection that was just accepted is known some turns
        # of the loop later.
        for _ in range(_TURNS_OF_ACCEPTING):
            for connection in list(self.server_state.connections):
                if connection.transport is not None:
                    connection.transport.abort()
            await asyncio.sleep(0)
        tasks = list(self.server_state.tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def drop(self, peer: Any) -> None:
        """Close the connection of a peer, after what was sent has gone out."""
        for connection in list(self.server_state.connections):
            if getattr(connection, "client", None) == peer and connection.transport is not None:
                connection.transport.close()


class LoopbackServer:
    """Runs an application on a background thread.

    1. `start` binds a port, starts the thread and returns when the port answers.
    2. `call` runs a function on the server's loop.
    3. `stop` closes everything and joins the thread. Both are idempotent.
    """

    def __init__(
        self,
        build: Callable[[Callable[[Any], None]], ASGIApp],
        port: int = 0,
        host: str = LOOPBACK,
    ) -> None:
        """Prepare a server; nothing runs yet.

        Args:
            build: Makes the application, given what closes the connection of a peer.
            port: 0 takes a free one.
            host: The IPv4 address to listen at.
        """
        self._build = build
        self._host = host
        self._wanted_port = port
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._server: _Server | None = None
        self._ready = threading.Event()
        self._error: BaseException | None = None
        self.port = 0

    def start(self) -> None:
        """Start serving.

        Raises:
            RuntimeError: The server did not come up.
        """
        if self._thread is not None:
            return
        # The protocol is named because asyncio sets TCP_NODELAY only where it is: without, each
        # answer waits 40 ms.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((self._host, self._wanted_port))
        self.port = listening.getsockname()[1]
        self._thread = threading.Thread(
            target=self._run, args=(listening,), name="stand-in-provider", daemon=True
        )
        self._thread.start()
        if not self._ready.wait(_START_TIMEOUT_S) or self._error is not None:
            raise RuntimeError("The stand-in provider did not start") from self._error

    @property
    def is_running(self) -> bool:
        """Whether it was started, and not stopped since."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Stop serving; open connections are cut."""
        thread = self._thread
        loop = self._loop
        server = self._server
        if thread is None or not thread.is_alive():
            return
        if loop is not None and server is not None:
            loop.call_soon_threadsafe(server.stopping.set)
        thread.join()

    def call(self, function: Callable[[], T]) -> T:
        """Run a function on the server's loop and return what it returns.

        Raises:
            RuntimeError: The server is not running.
        """
        if self._loop is None or self._loop.is_closed():
            raise RuntimeError("The stand-in provider is not running")

        async def on_loop() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(on_loop(), self._loop).result()

    def _run(self, listening: socket.socket) -> None:
        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:  # noqa: BLE001 - reported to the thread that started us
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self, listening: socket.socket) -> None:
        self._loop = asyncio.get_running_loop()
        config = uvicorn.Config(
            self._application,
            interface="asgi3",
            proxy_headers=False,
            lifespan="off",
            ws="none",
            access_log=False,
            log_config=None,
            backlog=_BACKLOG,
            timeout_keep_alive=_KEEP_ALIVE_S,
            server_header=False,
        )
        self._server = _Server(config, self._ready.set)
        self._app = self._build(self._server.drop)
        await self._server.serve(sockets=[listening])

    async def _application(self, scope: Any, receive: Any, send: Any) -> None:
        await self._app(scope, receive, send)


class Served:
    """Start and stop a stand-in that is served on loopback; a `with` block does both."""

    _server: LoopbackServer

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Start serving; returns when the port answers."""
        self._server.start()

    def stop(self) -> None:
        """Stop serving and cut all connections. What happened can still be read."""
        self._server.stop()
