"""`assistant-queue serve`: the HTTP service and the chat page, ready to be looked at."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import ipaddress
import logging
import sys
from typing import TYPE_CHECKING, Any

import click

from assistant_queue.cli.options import app_option, redis_name
from assistant_queue.cli.problems import Misuse, Problem
from assistant_queue.config import Config
from assistant_queue.errors import AssistantQueueError, StoreError
from assistant_queue.store.examining import refuse_any_cluster
from assistant_queue.worker.app import load_app, look_here
from assistant_queue.worker.backend import check_backend

if TYPE_CHECKING:
    from assistant_queue.aio import AsyncAssistantMessageQueue
    from assistant_queue.integrations.fastapi.server import Server

RATE_LIMIT = "5/minute"
"""What one client may send. Chosen: as the classic chat services have it; a person writes no faster, a program is told so."""
REQUEST_LIMIT = "600/minute"
"""All requests of one address. Chosen: a page that is open, and typed into, makes forty."""
CLUSTER_CHECK_S = 1.0
"""How long Redis may take to say that it is no cluster; then it is served without that. Chosen: one that is there takes a millisecond."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@click.command(short_help="Serve the queue over HTTP, with the chat page.")
@app_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="0 takes a free one.")
@click.option("--authorize", metavar="MODULE:FUNCTION", help="Your function that says who may do what; see docs/http.md.")
@click.option("--allow-anyone", is_flag=True, help="Without --authorize, on an address that others reach: everybody may do everything.")
@click.option("--rate-limit", default=RATE_LIMIT, show_default=True, help="Messages of one client; 'none' for no limit.")
@click.option("--request-limit", default=REQUEST_LIMIT, show_default=True, help="All requests of one address; 'none' for no limit.")
@click.option("--streams", type=click.IntRange(1), default=2000, show_default=True, help="Streams, sockets and waiting requests at once.")
@click.option("--streams-per-client", type=click.IntRange(1), default=20, show_default=True, help="The same, of one client.")
@click.option("--trusted-proxy", multiple=True, metavar="NETWORK", help="Believe X-Forwarded-* of these; may be repeated.")
@click.option("--origin", multiple=True, metavar="URL", help="Another origin whose pages may call; may be repeated.")
@click.option("--assistant-name", default="Assistant", show_default=True, help="Who answers, as the page calls it.")
@click.option("--root-path", default="", metavar="PATH", help="Behind a proxy, the path below which it serves this, such as /chat.")
@click.option("--no-page", is_flag=True, help="The routes alone.")
@click.option("--worker", "with_worker", is_flag=True, help="Answer messages in this process, too.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="Of the log on stderr.",
)
def serve(
    *,
    app: str | None,
    host: str,
    port: int,
    authorize: str | None,
    allow_anyone: bool,
    rate_limit: str,
    request_limit: str,
    streams: int,
    streams_per_client: int,
    trusted_proxy: tuple[str, ...],
    origin: tuple[str, ...],
    assistant_name: str,
    root_path: str,
    no_page: bool,
    with_worker: bool,
    log_level: str,
) -> None:
    """Serve the queue over HTTP: the routes under /api, the chat page at /.

    Messages are answered by workers (assistant-queue worker), or by this process with --worker. Without --authorize everybody who
    reaches the address may do everything: that is for this machine alone, and anything else has to be asked for with --allow-anyone.

    \b
    assistant-queue serve --app myapp:queue --worker
    assistant-queue serve --app myapp:queue --authorize myapp:authorize --host 0.0.0.0 --trusted-proxy 10.0.0.0/8

    On SIGTERM or Ctrl-C streams end at once, and browsers come back to whoever serves then.

    Exit codes: 0 stopped as asked, 1 the address is taken, 2 an option, the app or the function is wrong, 3 with --worker: Redis did not
    answer at the start.
    """  # noqa: D301
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    logging.getLogger("assistant_queue").setLevel(log_level.upper())
    is_local = is_loopback(host)
    if authorize is None and not is_local and not allow_anyone:
        raise Misuse(
            f"{host} is an address that others reach, and nobody says who may do what: "
            "give --authorize module:function, or say --allow-anyone"
        )
    options: dict[str, Any] = {
        "rate_limit": None if rate_limit == "none" else rate_limit,
        "request_limit": None if request_limit == "none" else request_limit,
        "max_streams": streams,
        "max_streams_per_client": streams_per_client,
        "trusted_proxies": list(trusted_proxy),
        "allowed_origins": list(origin),
        # A page of another site may point a name of its own at this machine: it is answered under the machine's own names only.
        "allowed_hosts": LOCAL_NAMES if authorize is None and is_local else None,
    }
    config = load_app(app)
    if with_worker:
        check_backend(config)
    check = None if authorize is None else load_function(authorize)
    serving = run(
        config,
        check,
        options,
        host=host,
        port=port,
        page=not no_page,
        assistant_name=assistant_name,
        root_path=root_path,
        with_worker=with_worker,
    )
    asyncio.run(serving)


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
) -> None:
    """Serve until told to stop.

    Raises:
        ConfigurationError: An option is wrong, or the extra is missing. Nothing was started.
        Problem: Nobody can listen at the address. Nothing was served.
    """
    from assistant_queue.integrations.fastapi import allow_all
    from assistant_queue.integrations.fastapi.app import app_of, make_service
    from assistant_queue.integrations.fastapi.process import keep_pauses_short
    from assistant_queue.integrations.fastapi.server import make_server
    from assistant_queue.integrations.fastapi.service import door_of

    queue = door_of(config)
    service = make_service(queue, allow_all if authorize is None else authorize, options)
    app = app_of(service, page=page, assistant_name=assistant_name, root_path=root_path)
    server = make_server(app, service, host=host, port=port)
    server.when_up = keep_pauses_short
    announcing = asyncio.create_task(_announce(server, queue, root_path=root_path, is_open=authorize is None))
    try:
        async with queue:
            with contextlib.suppress(StoreError, asyncio.TimeoutError):  # a Redis that is away may come back; a cluster stays one
                await asyncio.wait_for(queue._store.run(refuse_any_cluster()), CLUSTER_CHECK_S)  # noqa: SLF001 - the queue's own Redis
            if with_worker:
                await queue.start_worker()
            try:
                await server.serve()
            except OSError as error:
                if server.is_up.is_set():
                    raise
                reason = error.strerror or str(error)
                raise Problem(f"cannot listen at {host}:{port}: {reason}; give another --port, or --host") from error
    finally:
        announcing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await announcing


async def _announce(server: Server, queue: AsyncAssistantMessageQueue, *, root_path: str, is_open: bool) -> None:
    """Say where, as soon as it answers; and what it lacks."""
    config = queue.config
    await server.is_up.wait()
    host, port = server.servers[0].sockets[0].getsockname()[:2]
    place = f"[{host}]" if ":" in host else host
    click.echo(f"serving: http://{place}:{port}{root_path.rstrip('/')}/  (queue {config.queue_prefix}, {redis_name(config)})")
    try:
        await queue.get_queue_status()
    except AssistantQueueError as error:
        click.echo(f"warning: as long as this is so, requests are refused: {error}", err=True)
    if is_open:
        click.echo(
            "warning: without --authorize no client is asked for its identity: each "
            "client that reaches this address may read, write and delete "
            "every thread",
            err=True,
        )


def is_loopback(host: str) -> bool:
    """Only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_function(path: str) -> Any:
    """The function that --authorize names.

    Raises:
        Misuse: There is none.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise Misuse(f"--authorize {path!r} is not of the form module:function, as in myapp:authorize")
    look_here()
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise Misuse(f"--authorize {path!r} cannot be imported: {type(error).__name__}: {error}") from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise Misuse(f"--authorize {path!r}: there is no function {name} in {module_name}")
    return found
