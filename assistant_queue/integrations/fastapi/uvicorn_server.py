"""The server of `assistant-queue serve`: uvicorn, with streams that end before it stops."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, cast

import uvicorn
from fastapi import FastAPI

from assistant_queue.integrations.fastapi.connections import Connections
from assistant_queue.integrations.fastapi.fair_turns import FairTurns, TakingTurns
from assistant_queue.integrations.fastapi.process_limits import make_room
from assistant_queue.integrations.fastapi.protocols import GuardedHttp, GuardedSocket
from assistant_queue.integrations.fastapi.service import Service

_log = logging.getLogger(__name__)

DRAIN_S = 5
"""Seconds for requests to end when the server stops. Chosen: streams end at once, and waiting
requests are refused with 503."""


BACKLOG = 2048
"""Connections that wait to be accepted. Chosen: as uvicorn."""
ACCEPTED = 1
"""Connections that one iteration of the event loop accepts. Chosen: opening a stream costs some
milliseconds, during which requests on open connections wait."""


class ServiceServer(uvicorn.Server):
    """Stops gracefully: streams and sockets end by themselves, browsers reconnect and resume."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._sockets: list[socket.socket] = []
        self.is_up = asyncio.Event()
        self.when_up: Callable[[], object] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals as uvicorn, but without raising them again: a requested stop is no failure."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {
            number: signal.signal(number, self.handle_exit)
            for number in (signal.SIGINT, signal.SIGTERM)
        }
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, then call `when_up`.

        Raises:
            OSError: The address is in use, or not of this machine. Nothing is served.
        """
        if sockets is None:
            # If uvicorn cannot listen, it exits with 3, which has another meaning here.
            listening = await asyncio.get_running_loop().create_server(
                asyncio.Protocol, self.config.host, self.config.port, start_serving=False
            )
            self._sockets = [one.dup() for one in listening.sockets]
            listening.close()
        await super().startup(self._sockets if sockets is None else sockets)
        for one in self._sockets:
            one.listen(BACKLOG)  # asyncio has one number for both
        if self.started:
            if self.when_up is not None:
                self.when_up()
            self.is_up.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept no more connections, end open streams, then wait for requests."""
        for server in self.servers:
            server.close()
        self._service.stop_streams()
        await super().shutdown(self._sockets if sockets is None else sockets)


def make_server(
    app: FastAPI, service: Service, *, log_level: str = "warning", **options: Any
) -> ServiceServer:
    """Return a server for the app of a service.

    Args:
        app: Made by `app_of`.
        service: The app's service.
        log_level: Of uvicorn's own log; requests are not logged, as addresses and thread ids are
            personal data.
        options: Passed to uvicorn: host, port.
    """
    settings = service.settings
    room = make_room(settings.max_connections)
    if room < settings.max_connections:
        _log.warning(
            "the limit of open files has room for %d connections, not for %d",
            room,
            settings.max_connections,
        )
    connections = Connections(room, service.origins.is_trusted)
    turns = FairTurns()
    config = uvicorn.Config(
        cast("Any", TakingTurns(app, turns, service.origins.counted_address)),
        http=cast("Any", partial(GuardedHttp, connections, turns, settings.max_body_bytes)),
        ws=cast("Any", partial(GuardedSocket, connections, turns)),
        proxy_headers=False,  # the service decides which proxies to trust
        server_header=False,
        access_log=False,
        log_level=logging.getLevelName(log_level.upper()),
        backlog=ACCEPTED,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=settings.heartbeat,
        # a few bytes may decompress to many, and each socket would keep tables for it
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=DRAIN_S,
        **options,
    )
    logging.getLogger("uvicorn.error").addFilter(_without_what_clients_cause)
    return ServiceServer(config, service)


_CAUSED_BY_CLIENTS = (
    "Invalid HTTP request",
    "Unsupported upgrade",
    "No supported WebSocket library",
    "Invalid UTF-8",
    "ASGI callable returned without completing handshake",
)


def _without_what_clients_cause(record: logging.LogRecord) -> bool:
    """Drop uvicorn's line for each unreadable request: a flood of them would fill the log."""
    return not str(record.msg).startswith(_CAUSED_BY_CLIENTS)
