"""The page of links that approve or deny a call: their signature is the permission."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Annotated, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Query, Request, Response
from fastapi.routing import APIRoute

from assistant_queue.client.approval_calls import MAX_REASON
from assistant_queue.client.approval_links import PATH, read_link
from assistant_queue.client.async_queue import AsyncAssistantMessageQueue
from assistant_queue.core.link_tokens import MAX_TOKEN, LinkClaims
from assistant_queue.errors import ApprovalNotFound
from assistant_queue.integrations.fastapi.link_page import (
    REASON,
    asking_page,
    problem_page,
    settled_page,
)
from assistant_queue.integrations.fastapi.problems import ProblemRefusal, problems, refusal_of
from assistant_queue.integrations.fastapi.request_bodies import check_length, read_body
from assistant_queue.integrations.fastapi.service import Service, request_id_of
from assistant_queue.logs import bound
from assistant_queue.store.ops.linked_calls import LinkedCall, read_linked

_MAX_BODY = 16 * MAX_REASON
"""Bytes of a form with a reason. Chosen: a character has twelve at most in a form."""
_FORM = "application/x-www-form-urlencoded"
_MAX_FIELDS = 10
_SETTLED = {"approve": "approved", "deny": "denied"}
_TITLES = {
    403: "This link is not valid",
    410: "This link is over",
    422: "This cannot be taken",
}
_BODY = {
    "content": {
        _FORM: {
            "schema": {
                "type": "object",
                "properties": {REASON: {"type": "string", "maxLength": MAX_REASON}},
            }
        }
    }
}
_HTML = {"text/html": {"schema": {"type": "string"}}}
_WRONG = "It is not complete, or was not made by this service. Nothing was done."
_EXPIRED = "It has expired. Nothing was done; ask for a new one."
_NO_FORM = "What was sent is not a form in UTF-8. Nothing was done."
_NO_REASON = "An approval has no reason. Nothing was done."
_LONG_REASON = f"The reason is longer than {MAX_REASON:,} characters. Nothing was done."
_GONE = "What it asks about is over. Nothing was done."

Token = Annotated[str, Query(max_length=MAX_TOKEN, description="What the link says, signed.")]


def add_routes(router: APIRouter, service: Service, *, is_in_document: bool = True) -> None:
    """Add the routes, if the queue has an `approval_secret`.

    Programs that look at links send GET or HEAD: only POST settles the call.
    """
    queue = service.queue
    if not queue.core.config.approval_secrets:
        return

    async def show_approval_link(token: Token = "") -> Response:
        """The question that a link asks, with a button; nothing is changed.

        Of a call that was settled: how, and the name that was given.
        """
        claims = _claims(queue, token)
        found = await _read(queue, claims)
        if found.is_open and found.asked is not None:
            return asking_page(found.asked, claims.verdict, claims.by, claims.until_ms)
        return settled_page(found.asked, found.verdict, found.by, found.settled_ms)

    async def use_approval_link(request: Request, token: Token = "") -> Response:
        """Approve or deny the call of a link, as it says; the first answer counts.

        The form of a denial may have a `reason` of 1 to 2,000 characters, which the model reads.
        """
        claims = _claims(queue, token)
        reason = _reason(claims, request.headers.get("content-type", ""), await request.body())
        found = await _read(queue, claims)
        if found.is_open and await _settle(queue, claims, reason):
            # Not read again: the worker may have removed it.
            return settled_page(
                found.asked, _SETTLED[claims.verdict], claims.by, found.now_ms, reason=reason
            )
        if found.is_open:
            found = await _read(queue, claims)
        return settled_page(
            found.asked,
            found.verdict,
            found.by,
            found.settled_ms,
            status=HTTPStatus.CONFLICT,
        )

    shared: dict[str, Any] = {
        "route_class_override": link_route_class(service),
        "include_in_schema": is_in_document,
        "response_class": Response,
    }
    router.add_api_route(
        PATH,
        show_approval_link,
        methods=["GET"],
        operation_id="show_approval_link",
        summary="Show what a signed link asks",
        responses=_responses(410),
        **shared,
    )
    router.add_api_route(
        PATH,
        use_approval_link,
        methods=["POST"],
        operation_id="use_approval_link",
        summary="Settle a call by a signed link",
        responses=_responses(408, 409, 410, 413, 422),
        openapi_extra={"requestBody": _BODY},
        **shared,
    )
    router.add_api_route(
        PATH, show_approval_link, methods=["HEAD"], **{**shared, "include_in_schema": False}
    )


def link_route_class(service: Service) -> type[APIRoute]:
    """Return the route class of pages without a login: limits and host, and errors as pages."""

    class LinkRoute(APIRoute):
        """A route that any client may ask for."""

        def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
            """Return FastAPI's handler, guarded.

            The origin is not checked: a page without a referrer has none, and the permission is in
            the address, so that no other page can use that of a person.
            """
            inner = super().get_route_handler()

            async def handle(request: Request) -> Response:
                request_id = request_id_of(request)
                try:
                    check_length(request, _MAX_BODY)
                    await service.count(request)
                    service.check_host(request)
                    if request.method == "POST":
                        client = service.origins.counted_address(request)
                        request = await read_body(request, _MAX_BODY, service.bodies, client)
                    with bound(request_id=request_id):
                        response = await inner(request)
                except Exception as error:  # noqa: BLE001 - clients get a page, the log gets the rest
                    refusal = refusal_of(error, request_id)
                    service.slow_down_if_too_many(request, refusal)
                    response = problem_page(
                        _TITLES.get(refusal.status, HTTPStatus(refusal.status).phrase),
                        refusal.detail,
                        refusal.status,
                        refusal.headers,
                    )
                response.headers["X-Request-ID"] = request_id
                return response

            return handle

    return LinkRoute


def _claims(queue: AsyncAssistantMessageQueue, token: str) -> LinkClaims:
    claims = read_link(queue.core.config, token)
    if claims is None:
        raise ProblemRefusal(403, "wrong_link", _WRONG)
    return claims


async def _read(queue: AsyncAssistantMessageQueue, claims: LinkClaims) -> LinkedCall:
    """Return the call of a link, if there is something to show of it.

    Raises:
        ProblemRefusal: It waits, but the link has expired; or there is no such call any more.
    """
    core = queue.core
    found = await core.store.run(read_linked(core.namespace, claims.call_id))
    if found is None:
        raise ProblemRefusal(410, "link_over", _GONE)
    if found.is_open and claims.until_ms <= found.now_ms:
        raise ProblemRefusal(410, "link_expired", _EXPIRED)
    return found


def _reason(claims: LinkClaims, kind: str, body: bytes) -> str | None:
    """Return the reason of a form; None for none.

    Raises:
        ProblemRefusal: The body is no form, or its reason cannot be taken. Nothing was done.
    """
    if not body:
        return None
    if kind.partition(";")[0].strip().lower() != _FORM:
        raise ProblemRefusal(422, "invalid_request", _NO_FORM)
    try:
        fields = parse_qs(body.decode("ascii"), errors="strict", max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise ProblemRefusal(422, "invalid_request", _NO_FORM) from None
    # A text field has CRLF between its lines, and blanks if only those were typed.
    text = "\n".join(fields.get(REASON, [])).replace("\r\n", "\n").strip()
    if text and claims.verdict != "deny":
        raise ProblemRefusal(422, "invalid_argument", _NO_REASON)
    if len(text) > MAX_REASON:
        raise ProblemRefusal(422, "invalid_argument", _LONG_REASON)
    return text or None


async def _settle(
    queue: AsyncAssistantMessageQueue, claims: LinkClaims, reason: str | None
) -> bool:
    try:
        if claims.verdict == "approve":
            return await queue.approve(claims.call_id, by=claims.by)
        return await queue.deny(claims.call_id, by=claims.by, reason=reason)
    except ApprovalNotFound:
        raise ProblemRefusal(410, "link_over", _GONE) from None


def _responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the answers of a route, all of which are pages, for the document."""
    known = {status: {**answer, "content": _HTML} for status, answer in problems(*statuses).items()}
    return {
        200: {"description": "The question, or how the call was settled", "content": _HTML},
        **known,
    }
