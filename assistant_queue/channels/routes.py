"""A FastAPI router for the requests of a platform."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from assistant_queue.channels.intake import is_asyncio
from assistant_queue.errors import (
    InvalidArgument,
    MissingExtra,
    NotAuthenticated,
    PayloadTooLarge,
    StoreUnavailable,
    ThreadFull,
)

if TYPE_CHECKING:
    from fastapi import APIRouter, Request, Response

    from assistant_queue.channels.channel import Channel

_RETRY_AFTER_S = "5"


def build_router(channel: Channel, queue: Any) -> APIRouter:
    """Return a router with the route `POST /<name>`.

    The platform gets 200 for everything that was understood, also if it changed nothing: it would
    send it again otherwise. 401: wrong signature or secret. 413, 400: a body that is too long, or
    that the platform does not send. 503: the queue takes nothing now; the platform sends it again.

    Raises:
        MissingExtra: FastAPI is not installed.
    """
    try:
        from fastapi import APIRouter, Request, Response
        from fastapi.concurrency import run_in_threadpool
    except ImportError as error:
        raise MissingExtra(
            "A channel's router needs FastAPI: pip install 'assistant-queue[web]'"
        ) from error

    async def answer(request: Request) -> Response:
        try:
            body = await _read(request, channel)
            if is_asyncio(queue):
                await channel.receive(queue, body, request.headers)
            else:
                await run_in_threadpool(channel.receive, queue, body, request.headers)
        except NotAuthenticated as error:
            return _refused(Response, 401, error)
        except PayloadTooLarge as error:
            return _refused(Response, 413, error)
        except InvalidArgument as error:
            return _refused(Response, 400, error)
        except (ThreadFull, StoreUnavailable) as error:
            response = _refused(Response, 503, error)
            response.headers["retry-after"] = _RETRY_AFTER_S
            return response
        return Response(status_code=200)

    # Their annotations are names of this function, which FastAPI cannot look up by itself.
    answer.__annotations__ = {"request": Request, "return": Response}
    router = APIRouter()
    router.add_api_route(
        f"/{channel.name}",
        answer,
        methods=["POST"],
        include_in_schema=False,
        name=f"channel_{channel.name}",
    )
    return router


async def _read(request: Request, channel: Channel) -> bytes:
    """Read a body, but not more of it than the channel reads."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > channel.limits.payload_bytes:
            raise PayloadTooLarge(
                f"Invalid payload: channel {channel.name!r} reads at most "
                f"{channel.limits.payload_bytes:,} bytes"
            )
    return bytes(body)


def _refused(response: type[Response], status: int, error: Exception) -> Response:
    return response(str(error), status_code=status, media_type="text/plain")
