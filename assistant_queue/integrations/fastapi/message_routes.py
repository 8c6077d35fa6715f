"""Routes of messages: add, read, wait, cancel, edit; and the classic chat with its wait."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, Header, Query, Request, Response
from starlette.requests import HTTPConnection

from assistant_queue.core.window import is_never
from assistant_queue.errors import AssistantQueueError, MessageNotFound
from assistant_queue.integrations.fastapi.access import Action, Caller, ask
from assistant_queue.integrations.fastapi.guarded_routes import address_of, caller_of, operation
from assistant_queue.integrations.fastapi.problems import ProblemRefusal
from assistant_queue.integrations.fastapi.recorded_calls import recorded_if_named
from assistant_queue.integrations.fastapi.schemas import (
    Accepted,
    Cancelled,
    ChatMessage,
    ChatReply,
    Edited,
    EditedMessage,
    MessageId,
    MessageRecord,
    NewMessage,
    SaidText,
    ThreadId,
    message_of,
)
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.integrations.fastapi.steering_schemas import Promoted, Promotion
from assistant_queue.models import MessageStatus, Receipt

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=256,
        description="The same key, thread and content again is the same message: the same answer.",
    ),
]
Wait = Annotated[
    float,
    Query(
        ge=0, le=3600, description="Seconds to wait until the message is settled; 0: not at all."
    ),
]
_LOCATION = {
    "Location": {"description": "Where to ask for the message.", "schema": {"type": "string"}}
}


Running = Annotated[
    Literal["true", "false"],
    Query(description="Also in a batch under way: its run is interrupted."),
]


def add_routes(router: APIRouter, service: Service) -> None:
    """Give a router the routes of messages."""
    queue = service.queue

    @router.post("/threads/{thread_id}/say", status_code=202, **operation(
        Action.SAY, 404, 413, name="say", responses={202: {"model": Accepted}},
    ))  # fmt: skip
    async def say(request: Request, thread_id: ThreadId, body: SaidText) -> Accepted:
        """Say something in a thread without a run: on its platform, and to its subscribers.

        It is delivered through the outbox, in order with the replies. A reply is written to the
        provider's conversation, too, between two runs.
        """
        caller = caller_of(request)
        async with recorded_if_named(queue, caller, "say", thread_id):
            receipt = await queue.say(
                thread_id, body.text, author=_name_of(caller, body.author), kind=body.kind
            )
        return Accepted(
            message_id=receipt.message_id,
            thread_id=receipt.thread_id,
            job_id=receipt.job_id,
            status="completed" if body.kind == "notice" else "queued",
            estimated_wait_s=0.0,
            due_at=receipt.due_at,
            duplicate=False,
        )

    @router.post("/threads/{thread_id}/messages", status_code=202, **operation(
        Action.SEND_MESSAGE, 404, 409, 413, name="add_message", responses={202: {"model": Accepted, "headers": _LOCATION}},
    ))  # fmt: skip
    async def add_message(
        request: Request,
        response: Response,
        thread_id: ThreadId,
        body: NewMessage,
        idempotency_key: IdempotencyKey = None,
    ) -> Accepted:
        """Queue a message. It will be answered exactly once, or shown by `GET /failed`."""
        accepted = await add(
            service, request, caller_of(request), thread_id, body, idempotency_key=idempotency_key
        )
        response.headers["Location"] = (
            f"{address_of(request)}/{quote(accepted.message_id, safe='')}"
        )
        return accepted

    @router.get(
        "/threads/{thread_id}/messages/{message_id}",
        **operation(Action.READ_MESSAGE, 404, name="read_message"),
    )
    async def read_message(
        request: Request, thread_id: ThreadId, message_id: MessageId, wait: Wait = 0
    ) -> MessageRecord:
        """Return a message's status and reply.

        With `wait`, as soon as it is settled, or its status after that many seconds.
        """
        found = await _find(service, thread_id, message_id)
        if wait and found.status in {"queued", "processing"}:
            with (
                service.gate.slot(service.client_key(request, caller_of(request))),
                suppress(TimeoutError, AssistantQueueError),
            ):
                await service.until_gone(
                    request, queue.wait_for_reply(message_id, min(wait, service.settings.max_wait))
                )
            found = await _find(service, thread_id, message_id)
        return message_of(found)

    @router.delete(
        "/threads/{thread_id}/messages/{message_id}",
        **operation(Action.CANCEL_MESSAGE, 404, name="cancel_message"),
    )
    async def cancel_message(
        thread_id: ThreadId, message_id: MessageId, *, running: Running = "false"
    ) -> Cancelled:
        """Remove a message that still waits, or one of a batch that is under way."""
        await _find(service, thread_id, message_id)
        return Cancelled(cancelled=await queue.cancel(message_id, running=running == "true"))

    @router.patch(
        "/threads/{thread_id}/messages/{message_id}",
        **operation(Action.EDIT_MESSAGE, 404, 413, name="edit_message"),
    )
    async def edit_message(
        thread_id: ThreadId,
        message_id: MessageId,
        body: EditedMessage,
        *,
        running: Running = "false",
    ) -> Edited:
        """Replace the content of a message that still waits, or is in a batch under way."""
        await _find(service, thread_id, message_id)
        edited = await queue.edit_message(message_id, body.message, running=running == "true")
        return Edited(edited=edited)

    @router.post(
        "/threads/{thread_id}/messages/{message_id}/promote",
        **operation(Action.PROMOTE, 404, 413, name="promote_message"),
    )
    async def promote_message(
        thread_id: ThreadId, message_id: MessageId, body: Promotion
    ) -> Promoted:
        """Have a waiting message interrupt, or steer, the running answer."""
        await _find(service, thread_id, message_id)
        return Promoted(promoted=await queue.promote(message_id, body.mid_run))

    @router.post("/chat", **operation(
        Action.SEND_MESSAGE, 404, 409, 413, 502, name="chat", thread_in_body=True,
        responses={202: {"model": Accepted, "headers": _LOCATION, "description": "Not answered in time: it stays queued."}},
    ))  # fmt: skip
    async def chat(
        request: Request, body: ChatMessage, idempotency_key: IdempotencyKey = None
    ) -> ChatReply:
        """Queue a message and wait for its reply: the classic chat endpoint.

        A message that is not answered in time stays queued: 202, with the address of its status.
        """
        caller = caller_of(request)
        key = service.client_key(request, caller)
        with service.gate.slot(key):
            accepted = await add(
                service, request, caller, body.thread_id, body, idempotency_key=idempotency_key
            )
            base = address_of(request).removesuffix("/chat")
            thread, message = quote(body.thread_id, safe=""), quote(accepted.message_id, safe="")
            place = f"{base}/threads/{thread}/messages/{message}"
            limit = (
                service.settings.max_wait
                if body.timeout is None
                else min(body.timeout, service.settings.max_wait)
            )
            try:
                reply = await service.until_gone(
                    request, queue.wait_for_reply(accepted.message_id, limit)
                )
            except TimeoutError:
                return Response(
                    accepted.model_dump_json(), 202, {"Location": place}, "application/json"
                )  # type: ignore[return-value]
        found = await queue.get_message(accepted.message_id)
        is_fallback = found is not None and found.fallback
        status: Literal["completed", "failed"] = "failed" if is_fallback else "completed"
        return ChatReply(
            message_id=accepted.message_id,
            thread_id=body.thread_id,
            reply=reply,
            status=status,
            is_fallback=is_fallback,
        )

    del say, add_message, read_message, cancel_message, edit_message, promote_message, chat


def _name_of(caller: Caller, asked: str | None) -> str | None:
    """Return the author: a caller with a name cannot choose another."""
    return caller.name if caller.name is not None else asked


async def add(
    service: Service,
    request: HTTPConnection,
    caller: Caller,
    thread_id: str,
    body: NewMessage,
    *,
    idempotency_key: str | None = None,
) -> Accepted:
    """Queue a client's message.

    Raises:
        ProblemRefusal: It has two ids. Nothing was queued.
        NotAuthenticated, NotAllowed: It has its own instructions, and `authorize` refused them.
            Nothing was queued.
        AssistantQueueError: As `add_message_to_thread`.
    """
    if body.message_id is not None and idempotency_key is not None:
        raise ProblemRefusal(
            422,
            "invalid_request",
            "Give either message_id or the header Idempotency-Key; nothing was queued.",
        )
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
        author=_name_of(caller, body.author),
        metadata=body.metadata,
        tenant=caller.tenant if caller.tenant is not None else body.tenant,
        wants_reply=body.wants_reply,
        message_delay=body.message_delay,
        hold=body.hold,
        mid_run=body.mid_run,
    )
    return await _accepted(service, receipt)


async def _accepted(service: Service, receipt: Receipt) -> Accepted:
    status = "queued"
    if receipt.duplicate:
        found = await service.queue.get_message(receipt.message_id)
        status = found.status if found is not None else status
    due_at = None if is_never(round(receipt.due_at.timestamp() * 1000)) else receipt.due_at
    wait_s: float | None = 0.0
    if status == "queued":
        wait_s = await service.waits.seconds_for(receipt) if due_at else None
    return Accepted(
        message_id=receipt.message_id,
        thread_id=receipt.thread_id,
        job_id=receipt.job_id,
        status=status,
        estimated_wait_s=wait_s,
        due_at=due_at,
        duplicate=receipt.duplicate,
    )


def _id_for(key: str, thread_id: str, caller: Caller) -> str:
    """Derive a message id from an idempotency key, its thread and caller.

    A guessed key gives no access to another caller's message.
    """
    parts = "\x00".join((caller.id or "", thread_id, key))
    return "idem-" + hashlib.sha256(parts.encode("utf-8", "replace")).hexdigest()[:40]


async def _find(service: Service, thread_id: str, message_id: str) -> MessageStatus:
    """Return the message if it is of the thread: a permission for one thread covers no other."""
    found = await service.queue.get_message(message_id)
    if found is None or found.thread_id != thread_id:
        raise MessageNotFound(f"there is no message {message_id!r} in thread {thread_id!r}")
    return found
