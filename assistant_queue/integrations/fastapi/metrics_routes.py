"""The route that Prometheus scrapes."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Request, Response

from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.guarded_routes import operation
from assistant_queue.integrations.fastapi.service import Service

PATH = "/metrics"
"""Below the routes' prefix, and of the whole service also at its root, where Prometheus looks."""
_TEXT: dict[str, Any] = {"schema": {"type": "string"}}
_FORMATS = {
    200: {
        "description": "The metrics, in the format that `Accept` asks for",
        "content": {"text/plain": _TEXT, "application/openmetrics-text": _TEXT},
    }
}


def add_routes(router: APIRouter, service: Service, *, is_in_document: bool = True) -> None:
    """Add the route to a router."""
    scrapes: Any = None

    @router.get(
        PATH,
        response_class=Response,
        include_in_schema=is_in_document,
        **operation(Action.READ_METRICS, name="read_metrics", counted=False, responses=_FORMATS),
    )
    async def read_metrics(request: Request) -> Response:
        """Read the metrics of the queue for Prometheus.

        They are the same in every process. `assistant_queue_up` is 0 without Redis, and the rest is
        missing. It is not rate-limited.
        """
        nonlocal scrapes
        if scrapes is None:
            from assistant_queue.integrations.prometheus.scraping import Scrapes

            scrapes = Scrapes([service.queue])
        content_type, text = await scrapes.answer(request.headers.get("accept", ""))
        return Response(text, media_type=content_type)

    del read_metrics
