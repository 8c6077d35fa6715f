"""Route for webhooks of the provider; their signature is the permission, not `authorize`."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from assistant_queue.backends.openai.webhook_reader import MOST_BYTES
from assistant_queue.integrations.fastapi.problems import problem_response, refusal_of
from assistant_queue.integrations.fastapi.request_bodies import check_length, read_body
from assistant_queue.integrations.fastapi.service import Service, request_id_of

PATH = "/provider-webhook"


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the route, if the queue has a `webhook_secret`.

    204: taken, whether or not it woke a batch. 401: wrong signature. 400, 413: no webhook. 503: the
    provider sends it again.
    """
    queue = service.queue
    if queue.core.config.webhook_secret is None:
        return

    async def provider_webhook(request: Request) -> Response:
        request_id = request_id_of(request)
        try:
            check_length(request, MOST_BYTES)
            client = service.origins.counted_address(request)
            request = await read_body(request, MOST_BYTES, service.bodies, client)
            await queue.handle_provider_webhook(await request.body(), request.headers)
            response = Response(status_code=204)
        except Exception as error:  # noqa: BLE001 - clients get a problem, the log gets the rest
            response = problem_response(refusal_of(error, request_id), request_id)
        response.headers["X-Request-ID"] = request_id
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    router.add_route(PATH, provider_webhook, methods=["POST"], include_in_schema=False)
