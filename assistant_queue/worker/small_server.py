"""A small HTTP server on a worker's event loop: a few pages for probes and scrapes."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from http import HTTPStatus

from assistant_queue.errors import ConfigurationError

_log = logging.getLogger(__name__)

_HEAD_S = 5.0
"""Seconds for a request to arrive. Chosen: a probe sends it at once."""
_TAKE_S = 10.0
"""Seconds for an answer to be taken. Source: Prometheus' default `scrape_timeout`."""
_MOST = 8192
"""Bytes of a request's head. Chosen: a probe sends some hundred."""
_BACKLOG = 100
"""Connections that wait to be accepted. Source: asyncio's default."""


@dataclass(frozen=True, slots=True)
class PageAnswer:
    """The answer to a request: status, content type and body."""

    status: int
    content_type: str
    body: bytes


Page = Callable[[Mapping[str, str]], Awaitable[PageAnswer]]
"""Answers a GET, from the request's headers by their names in lower case."""


def listen(host: str, port: int, *, purpose: str, option: str) -> list[socket.socket]:
    """Return sockets that listen at each address of a host; the caller closes them.

    They may be inherited by forked processes, each of which accepts connections.

    Raises:
        ConfigurationError: The address cannot be bound; the message names the option. Nothing
            listens.
    """
    made: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, address in dict.fromkeys((row[0], row[4]) for row in found):
            made.append(socket.create_server(address[:2], family=family, backlog=_BACKLOG))
    except OSError as error:
        for one in made:
            one.close()
        raise ConfigurationError(
            f"cannot listen at {host}:{port} for {purpose}: {error.strerror or error}; "
            f"give another {option}"
        ) from error
    return made


@asynccontextmanager
async def serving(
    pages: Mapping[str, Page], sockets: Sequence[socket.socket]
) -> AsyncIterator[None]:
    """PageAnswer requests on this event loop: one that is blocked does not answer.

    Args:
        pages: By path. Any other path is a 404 that names them.
        sockets: They listen already, and are closed at the end.
    """

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        unreadable = (ValueError, asyncio.IncompleteReadError, asyncio.LimitOverrunError)
        with closing(writer), suppress(OSError, *unreadable):
            try:
                async with asyncio.timeout(_HEAD_S):
                    head = await reader.readuntil(b"\r\n\r\n")
                found = await _answer_to(head, pages)
                writer.write(_encoded(found))
                async with asyncio.timeout(_TAKE_S):
                    await writer.drain()
            except TimeoutError:
                writer.transport.abort()

    servers = [await asyncio.start_server(answer, sock=one, limit=_MOST) for one in sockets]
    try:
        yield
    finally:
        for server in servers:
            server.close()


async def _answer_to(head: bytes, pages: Mapping[str, Page]) -> PageAnswer:
    """Return the answer to a request's head; raises ValueError if it is not HTTP."""
    first, *lines = head.decode("latin-1").split("\r\n")
    method, target, _ = first.split(" ", 2)
    page = pages.get(target.partition("?")[0])
    if method != "GET" or page is None:
        return _plain(404, f"unknown path: {' or '.join(pages)}")
    headers = {
        name.strip().lower(): value.strip()
        for name, colon, value in (line.partition(":") for line in lines)
        if colon
    }
    try:
        return await page(headers)
    except Exception:  # noqa: BLE001 - it is logged, and a probe gets an answer
        _log.exception("the page %s cannot be made", target.partition("?")[0])
        return _plain(500, "see the log of the worker")


def _plain(status: int, text: str) -> PageAnswer:
    return PageAnswer(status, "text/plain; charset=utf-8", f"{text}\n".encode())


def _encoded(answer: PageAnswer) -> bytes:
    return (
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}\r\n"
        f"Content-Type: {answer.content_type}\r\n"
        f"Content-Length: {len(answer.body)}\r\nConnection: close\r\n\r\n"
    ).encode() + answer.body
