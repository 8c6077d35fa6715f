"""The process of `assistant-queue serve`: it serves until a signal, and prints its address."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import click

from assistant_queue.cli.exit_errors import Problem
from assistant_queue.cli.outgoing_webhook import OutgoingWebhook
from assistant_queue.cli.shared_options import redis_name
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError, StoreError
from assistant_queue.garbage import keep_pauses_short
from assistant_queue.store.ops.server_info import refuse_any_cluster

if TYPE_CHECKING:
    from fastapi import FastAPI

    from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
    from assistant_queue.integrations.fastapi.service import Service
    from assistant_queue.integrations.fastapi.uvicorn_server import ServiceServer

CLUSTER_CHECK_S = 1.0
"""Seconds for the check that Redis is not a cluster; then the service starts without it. Chosen: a
Redis that is there takes a millisecond."""


async def run(
    config: Config,
    authorize: Any,
    options: dict[str, Any],
    *,
    host: str,
    port: int,
    page: bool,
    assistant_name: str,
    with_worker: bool,
    root_path: str = "",
    access_log: str = "off",
    outgoing: OutgoingWebhook | None = None,
    beside: Callable[[FastAPI, Service], None] | None = None,
    also: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Serve until a signal; `outgoing` is closed then.

    `beside` adds routes; `also` are further addresses that are printed, by what is there.

    Raises:
        ConfigurationError: An option is wrong, or the extra is missing. Nothing was started.
        Problem: The address cannot be bound. Nothing was served.
    """
    from assistant_queue.integrations.fastapi import allow_all
    from assistant_queue.integrations.fastapi.app import app_of, make_service
    from assistant_queue.integrations.fastapi.service import queue_of
    from assistant_queue.integrations.fastapi.uvicorn_server import make_server

    queue = queue_of(config)
    service = make_service(queue, allow_all if authorize is None else authorize, options)
    app = app_of(service, page=page, assistant_name=assistant_name, root_path=root_path)
    if beside is not None:
        beside(app, service)
    if access_log != "off":
        from assistant_queue.integrations.fastapi.access_log import AccessLog, start

        start(access_log)
        app.add_middleware(AccessLog, origins=service.origins)
    server = make_server(app, service, host=host, port=port)
    server.when_up = keep_pauses_short
    announcing = asyncio.create_task(
        _announce(server, queue, root_path=root_path, is_open=authorize is None, also=also)
    )
    try:
        async with queue:
            # A Redis that is away may come back; a cluster stays one.
            with contextlib.suppress(StoreError, TimeoutError):
                async with asyncio.timeout(CLUSTER_CHECK_S):
                    await queue.core.store.run(refuse_any_cluster())
            if with_worker:
                await queue.start_worker()
            try:
                await server.serve()
            except OSError as error:
                if server.is_up.is_set():
                    raise
                reason = error.strerror or str(error)
                raise Problem(
                    f"cannot listen at {host}:{port}: {reason}; give another --port, or --host"
                ) from error
    finally:
        if outgoing is not None:
            await outgoing.close()
        announcing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await announcing


async def _announce(
    server: ServiceServer,
    queue: AsyncAssistantMessageQueue,
    *,
    root_path: str,
    is_open: bool,
    also: Mapping[str, str] = MappingProxyType({}),
) -> None:
    """Print the address as soon as the server answers, and warnings."""
    config = queue.config
    await server.is_up.wait()
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    click.echo(
        f"serving: http://{place}:{port}{root_path.rstrip('/')}/  "
        f"(queue {config.queue_prefix}, {redis_name(config)})"
    )
    for what, path in also.items():
        click.echo(f"{what}: http://{place}:{port}{root_path.rstrip('/')}/{path}")
    try:
        await queue.get_queue_status()
    except AssistantQueueError as error:
        click.echo(f"warning: as long as this lasts, requests are refused: {error}", err=True)
    if is_open:
        click.echo(
            "warning: without --authorize no client is asked for its identity: each client that "
            "reaches this address may read, write and delete every thread",
            err=True,
        )
