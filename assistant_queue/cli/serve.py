"""`assistant-queue serve`: the HTTP service with the chat page and the operations page."""

from __future__ import annotations

import asyncio
import importlib
import ipaddress
from typing import Any

import click

from assistant_queue import logs
from assistant_queue.cli.exit_errors import Misuse
from assistant_queue.cli.outgoing_webhook import SECRET_VARIABLE, OutgoingWebhook, with_webhook
from assistant_queue.cli.service_process import run
from assistant_queue.cli.shared_options import (
    ENV_FILE,
    app_option,
    env_file_option,
    log_format_option,
)
from assistant_queue.worker.app_loader import load_app, look_here
from assistant_queue.worker.startup_checks import check_options

RATE_LIMIT = "5/minute"
"""The rate of messages of one client. Chosen: as in the classic chat services; a person writes no
faster, and a program gets a 429."""
REQUEST_LIMIT = "600/minute"
"""The rate of all requests of one address. Chosen: an open page with a person typing sends 40."""
FRAME_LIMIT = "20/second"
"""Messages of one socket. Source: `Settings.frame_limit`; its module needs the extra `web`."""
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")


@click.command(short_help="Serve the queue over HTTP, with the chat page.")
@env_file_option(ENV_FILE)
@app_option
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8000,
    envvar="PORT",
    show_envvar=True,
    show_default=True,
    help="0 takes a free one.",
)
@click.option(
    "--authorize",
    metavar="MODULE:FUNCTION",
    help="Your function that authorizes each request; see docs/http.md.",
)
@click.option(
    "--allow-anyone",
    is_flag=True,
    help="Without --authorize, serve an address that other machines reach: no request is refused.",
)
@click.option(
    "--rate-limit",
    default=RATE_LIMIT,
    show_default=True,
    help="The rate of messages of one client; 'none' for no limit.",
)
@click.option(
    "--request-limit",
    default=REQUEST_LIMIT,
    show_default=True,
    help="The rate of all requests of one address; 'none' for no limit.",
)
@click.option(
    "--frame-limit",
    default=FRAME_LIMIT,
    show_default=True,
    help="Messages of any kind on one socket; 'none' for no limit.",
)
@click.option(
    "--max-body",
    type=click.IntRange(1),
    default=1_000_000,
    show_default=True,
    help="Bytes of the longest body; pictures and files of a message are part of it.",
)
@click.option(
    "--streams",
    type=click.IntRange(1),
    default=2000,
    show_default=True,
    help="The most streams, sockets and waiting requests at once.",
)
@click.option(
    "--streams-per-client",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="The same, of one client.",
)
@click.option(
    "--trusted-proxy",
    multiple=True,
    metavar="NETWORK",
    help="Trust X-Forwarded-* headers of these addresses; may be repeated.",
)
@click.option(
    "--origin",
    multiple=True,
    metavar="URL",
    help="Another origin whose pages may send requests; may be repeated.",
)
@click.option(
    "--assistant-name",
    default="Assistant",
    show_default=True,
    help="The name of the assistant on the page.",
)
@click.option(
    "--root-path",
    default="",
    metavar="PATH",
    help="The path of the service behind a proxy, such as /chat.",
)
@click.option("--no-page", is_flag=True, help="Serve the routes without the pages.")
@click.option("--worker", "with_worker", is_flag=True, help="Run a worker in this process, too.")
@click.option(
    "--webhook",
    metavar="URL",
    help=f"With --worker: POST each reply to this address, signed with {SECRET_VARIABLE}.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="warning",
    show_default=True,
    help="The level of the log on stderr.",
)
@log_format_option
@click.option(
    "--access-log",
    type=click.Choice(["combined", "json", "off"]),
    default="off",
    show_default=True,
    help="Log each request on stdout; addresses are shortened.",
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
    frame_limit: str,
    max_body: int,
    streams: int,
    streams_per_client: int,
    trusted_proxy: tuple[str, ...],
    origin: tuple[str, ...],
    assistant_name: str,
    root_path: str,
    no_page: bool,
    with_worker: bool,
    webhook: str | None,
    log_level: str,
    log_format: str,
    access_log: str,
) -> None:
    """Serve the queue over HTTP: the routes under /api, the chat page at /, operations at /ops.

    Messages are answered by workers (assistant-queue worker), or by this process with --worker.
    Without --authorize no request is refused: only loopback addresses are served so, unless
    --allow-anyone is given.

    \b
    assistant-queue serve --app myapp:queue --worker
    assistant-queue serve --app myapp:queue --authorize myapp:authorize --host 0.0.0.0 \\
        --trusted-proxy 10.0.0.0/8
    assistant-queue serve --worker --webhook https://example.com/replies

    Variables (PORT, REDIS_URL, OPENAI_API_KEY ...) are read from the environment, then from the file
    .env in the working directory.

    On SIGTERM or Ctrl-C streams end at once; browsers reconnect to the next process that serves.

    Exit codes: 0 stopped by a signal, 1 the address is in use, 2 an option, the app or the function
    is wrong, 3 with --worker: Redis did not answer at the start.
    """  # noqa: D301
    logs.configure(log_level.upper(), log_format)
    is_local = is_loopback(host)
    if authorize is None and not is_local and not allow_anyone:
        raise Misuse(
            f"--host {host} is reachable from other machines and requests are not authorized: "
            "give --authorize module:function, or --allow-anyone"
        )
    options: dict[str, Any] = {
        "rate_limit": None if rate_limit == "none" else rate_limit,
        "request_limit": None if request_limit == "none" else request_limit,
        "frame_limit": None if frame_limit == "none" else frame_limit,
        "max_body_bytes": max_body,
        "max_streams": streams,
        "max_streams_per_client": streams_per_client,
        "trusted_proxies": list(trusted_proxy),
        "allowed_origins": list(origin),
        # Another site's page may resolve its own name to this machine (DNS rebinding): answer only
        # under the machine's own names.
        "allowed_hosts": LOCAL_NAMES if authorize is None and is_local else None,
    }
    config = load_app(app)
    outgoing: OutgoingWebhook | None = None
    if webhook is not None:
        if not with_worker:
            raise Misuse("--webhook needs --worker: the process that answers delivers the replies")
        config, outgoing = with_webhook(config, webhook)
    if with_worker:
        check_options(config)
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
        access_log=access_log,
        outgoing=outgoing,
    )
    asyncio.run(serving)


def is_loopback(host: str) -> bool:
    """Return True if only this machine reaches the address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def load_function(path: str) -> Any:
    """Return the function of --authorize.

    Raises:
        Misuse: It cannot be imported, or there is none.
    """
    module_name, colon, name = path.partition(":")
    if not colon or not module_name or not name:
        raise Misuse(
            f"Invalid --authorize {path!r}: expected module:function, such as myapp:authorize"
        )
    look_here()
    try:
        found: Any = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:
        raise Misuse(
            f"--authorize {path!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    for part in name.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise Misuse(f"Invalid --authorize {path!r}: {module_name} has no function {name}")
    return found
