"""The server of `assistant-queue serve`: uvicorn, which lets streams end before it stops."""

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
from assistant_queue.integrations.fastapi.process import make_room
from assistant_queue.integrations.fastapi.protocols import GuardedHttp, GuardedSocket
from assistant_queue.integrations.fastapi.service import Service

_log = logging.getLogger(__name__)

DRAIN_S = 5
"""Seconds that requests may take to end when the server stops. Chosen: streams end at once, waiting requests are told to come back."""


BACKLOG, ACCEPTED = 2048, 4
"""Connections that wait to be accepted, and those that are in one turn of the event loop. Chosen: a request costs a millisecond."""


class Server(uvicorn.Server):
    """Stops without cutting anything: streams and sockets end by themselves, browsers come back and resume."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service
        self._sockets: list[socket.socket] = []
        self.is_up = asyncio.Event()
        self.when_up: Callable[[], object] | None = None

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's own, but a process that was asked to stop and has stopped did not fail."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so.

        Raises:
            OSError: The address is taken, or is none of this machine's. Nothing is served.
        """
        if sockets is None:
            # Where uvicorn itself cannot listen, it writes to its log and ends the process with 3: that means something else here.
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
        """Take no more, let what is open end, then wait for it."""
        for server in self.servers:
            server.close()
        self._service.stop_streams()
        await super().shutdown(self._sockets if sockets is None else sockets)


def make_server(app: FastAPI, service: Service, *, log_level: str = "warning", **options: Any) -> Server:
    """A server for an app around a service.

    Args:
        app: As `app_of` made it.
        service: What stands behind it.
        log_level: Of uvicorn's own log; requests are not logged: addresses and thread ids are people's.
        options: Handed on to uvicorn: host, port.
    """
    settings = service.settings
    room = make_room(settings.max_connections)
    if room < settings.max_connections:
        _log.warning("the limit of open files has room for %d connections, not for %d", room, settings.max_connections)
    connections = Connections(room, service.origins.is_trusted)
    config = uvicorn.Config(
        app,
        http=cast("Any", partial(GuardedHttp, connections, settings.max_body_bytes)),
        ws=cast("Any", partial(GuardedSocket, connections)),
        proxy_headers=False,  # whom to believe is the service's own decision
        server_header=False,
        access_log=False,
        log_level=logging.getLevelName(log_level.upper()),
        backlog=ACCEPTED,
        ws_max_size=settings.max_body_bytes,
        ws_ping_interval=settings.heartbeat,
        ws_per_message_deflate=False,  # a few bytes may unpack to many, and each socket would keep tables for it
        timeout_graceful_shutdown=DRAIN_S,
        **options,
    )
    logging.getLogger("uvicorn.error").addFilter(_without_what_clients_cause)
    return Server(config, service)


_CAUSED_BY_CLIENTS = (
    "Invalid HTTP request",
    "Unsupported upgrade",
    "No supported WebSocket library",
    "Invalid UTF-8",
    "ASGI callable returned without completing handshake",
)


def _without_what_clients_cause(record: logging.LogRecord) -> bool:
    """Leave out what uvicorn writes for each request that cannot be read: a flood of them would fill the log."""
    return not str(record.msg).startswith(_CAUSED_BY_CLIENTS)
