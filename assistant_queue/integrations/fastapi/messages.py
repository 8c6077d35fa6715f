"""Routes of messages: add, look, wait, cancel, edit; and the classic chat that waits for its reply."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from datetime import datetime, timezone
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.requests import HTTPConnection

from assistant_queue.errors import AssistantQueueError, MessageNotFound
from assistant_queue.integrations.fastapi.access import Action, Caller, ask
from assistant_queue.integrations.fastapi.problems import Refusal
from assistant_queue.integrations.fastapi.routing import address_of, caller_of, operation
from assistant_queue.integrations.fastapi.schemas import (
    Accepted,
    Cancelled,
    ChatMessage,
    ChatReply,
    Edited,
    EditedMessage,
    Message,
    MessageId,
    NewMessage,
    ThreadId,
    message_of,
)
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.models import MessageStatus, Receipt

IdempotencyKey = Annotated[
    str | None,
    Header(min_length=1, max_length=256, description="The same key, thread and content again is the same message: the same answer."),
]
Wait = Annotated[float, Query(ge=0, le=3600, description="Seconds to wait until the message is settled; 0: not at all.")]
_LOCATION = {"Location": {"description": "Where to ask for the message.", "schema": {"type": "string"}}}


def add_routes(router: APIRouter, service: Service) -> None:
    """Give a router the routes of messages."""
    queue = service.queue

    @router.post("/threads/{thread_id}/messages", status_code=202, **operation(
        Action.SEND_MESSAGE, 404, 409, 413, name="add_message", responses={202: {"model": Accepted, "headers": _LOCATION}},
    ))  # fmt: skip
    async def add_message(
        request: Request, response: Response, thread_id: ThreadId, body: NewMessage, idempotency_key: IdempotencyKey = None
    ) -> Accepted:
        """Queue a message. It will be answered exactly once, or shown by `GET /failed`."""
        accepted = await add(service, request, caller_of(request), thread_id, body, idempotency_key=idempotency_key)
        response.headers["Location"] = f"{address_of(request)}/{quote(accepted.message_id, safe='')}"
        return accepted

    @router.get("/threads/{thread_id}/messages/{message_id}", **operation(Action.READ_MESSAGE, 404, name="read_message"))
    async def read_message(request: Request, thread_id: ThreadId, message_id: MessageId, wait: Wait = 0) -> Message:
        """Where a message stands, and its reply; with `wait` as soon as it is settled, or after so many seconds as it stands then."""
        found = await _find(service, thread_id, message_id)
        if wait and found.status in {"queued", "processing"}:
            with service.gate.slot(service.client_key(request, caller_of(request))), suppress(TimeoutError, AssistantQueueError):
                await service.until_gone(request, queue.wait_for_reply(message_id, min(wait, service.settings.max_wait)))
            found = await _find(service, thread_id, message_id)
        return message_of(found)

    @router.delete("/threads/{thread_id}/messages/{message_id}", **operation(Action.CANCEL_MESSAGE, 404, name="cancel_message"))
    async def cancel_message(thread_id: ThreadId, message_id: MessageId) -> Cancelled:
        """Take a message out that still waits."""
        await _find(service, thread_id, message_id)
        return Cancelled(cancelled=await queue.cancel(message_id))

    @router.patch("/threads/{thread_id}/messages/{message_id}", **operation(Action.EDIT_MESSAGE, 404, 413, name="edit_message"))
    async def edit_message(thread_id: ThreadId, message_id: MessageId, body: EditedMessage) -> Edited:
        """Give a message that still waits another content."""
        await _find(service, thread_id, message_id)
        return Edited(edited=await queue.edit_message(message_id, body.message))

    @router.post("/chat", **operation(
        Action.SEND_MESSAGE, 404, 409, 413, 502, name="chat", thread_in_body=True,
        responses={202: {"model": Accepted, "headers": _LOCATION, "description": "Not answered in time: it stays queued."}},
    ))  # fmt: skip
    async def chat(request: Request, body: ChatMessage, idempotency_key: IdempotencyKey = None) -> ChatReply:
        """Queue a message and wait for its reply: the classic chat endpoint.

        What is not answered in time stays queued and is answered all the same: 202, with the address to ask at.
        """
        caller = caller_of(request)
        key = service.client_key(request, caller)
        with service.gate.slot(key):
            accepted = await add(service, request, caller, body.thread_id, body, idempotency_key=idempotency_key)
            base = address_of(request).removesuffix("/chat")
            place = f"{base}/threads/{quote(body.thread_id, safe='')}/messages/{quote(accepted.message_id, safe='')}"
            limit = service.settings.max_wait if body.timeout is None else min(body.timeout, service.settings.max_wait)
            try:
                reply = await service.until_gone(request, queue.wait_for_reply(accepted.message_id, limit))
            except TimeoutError:
                return Response(accepted.model_dump_json(), 202, {"Location": place}, "application/json")  # type: ignore[return-value]
        found = await queue.get_message(accepted.message_id)
        is_fallback = found is not None and found.fallback
        status: Literal["completed", "failed"] = "failed" if is_fallback else "completed"
        return ChatReply(message_id=accepted.message_id, thread_id=body.thread_id, reply=reply, status=status, is_fallback=is_fallback)

    del add_message, read_message, cancel_message, edit_message, chat


async def add(
    service: Service, request: HTTPConnection, caller: Caller, thread_id: str, body: NewMessage, *, idempotency_key: str | None = None
) -> Accepted:
    """Queue what a client said.

    Raises:
        Refusal: Two names for one message. Nothing was queued.
        NotAuthenticated, NotAllowed: It brings its own instructions, and `authorize` said no to those. Nothing was queued.
        AssistantQueueError: As `add_message_to_thread`.
    """
    if body.message_id is not None and idempotency_key is not None:
        raise Refusal(422, "invalid_request", "Give either message_id or the header Idempotency-Key; nothing was queued.")
    if body.instructions is not None:
        await ask(service.authorize, request, Action.INSTRUCT, thread_id)
    message_id = body.message_id
    if idempotency_key is not None:
        message_id = _id_for(idempotency_key, thread_id, caller)
    receipt = await service.queue.add_message_to_thread(
        thread_id,
        body.message,
        body.instructions,
        message_id=message_id,
        author=caller.name if caller.name is not None else body.author,
        metadata=body.metadata,
    )
    return await _accepted(service, receipt)


async def _accepted(service: Service, receipt: Receipt) -> Accepted:
    status = "queued"
    if receipt.duplicate:
        found = await service.queue.get_message(receipt.message_id)
        status = found.status if found is not None else status
    left = (receipt.due_at - datetime.now(timezone.utc)).total_seconds()
    return Accepted(
        message_id=receipt.message_id,
        thread_id=receipt.thread_id,
        job_id=receipt.job_id,
        status=status,
        estimated_wait_s=round(max(0.0, left), 3) if status == "queued" else 0.0,
        due_at=receipt.due_at,
        duplicate=receipt.duplicate,
    )


def _id_for(key: str, thread_id: str, caller: Caller) -> str:
    """Keys belong to their thread and caller: nobody can take, or ask for, the message of somebody else by guessing a key."""
    parts = "\x00".join((caller.id or "", thread_id, key))
    return "idem-" + hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:40]


async def _find(service: Service, thread_id: str, message_id: str) -> MessageStatus:
    """The message, if it is one of this thread: who may read one thread must not ask for messages of others."""
    found = await service.queue.get_message(message_id)
    if found is None or found.thread_id != thread_id:
        raise MessageNotFound(f"there is no message {message_id!r} in thread {thread_id!r}")
    return found
