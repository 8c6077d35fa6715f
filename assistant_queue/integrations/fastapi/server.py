"""The server of `assistant-queue serve`: uvicorn, which lets streams end before it stops."""

from __future__ import annotations

import logging
import socket
from typing import Any

import uvicorn
from fastapi import FastAPI

from assistant_queue.integrations.fastapi.service import Service

DRAIN_S = 5
"""Seconds that requests may take to end when the server stops. Chosen: streams end at once, waiting requests are told to come back."""


class Server(uvicorn.Server):
    """Stops without cutting anything: streams and sockets end by themselves, browsers come back and resume."""

    def __init__(self, config: uvicorn.Config, service: Service) -> None:
        super().__init__(config)
        self._service = service

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Take no more, let what is open end, then wait for it."""
        for server in self.servers:
            server.close()
        self._service.stop_streams()
        await super().shutdown(sockets)


def make_server(app: FastAPI, service: Service, *, log_level: str = "warning", **options: Any) -> Server:
    """A server for an app around a service.

    Args:
        app: As `app_of` made it.
        service: What stands behind it.
        log_level: Of uvicorn's own log; requests are not logged: addresses and thread ids are people's.
        options: Handed on to uvicorn: host, port.
    """
    config = uvicorn.Config(
        app,
        proxy_headers=False,  # whom to believe is the service's own decision
        server_header=False,
        access_log=False,
        log_level=logging.getLevelName(log_level.upper()),
        ws_max_size=service.settings.max_body_bytes,
        ws_ping_interval=service.settings.heartbeat,
        timeout_graceful_shutdown=DRAIN_S,
        **options,
    )
    return Server(config, service)
