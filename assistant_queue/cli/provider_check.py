"""The provider check of `assistant-queue doctor`: a batch's requests, with a short question."""

from __future__ import annotations

import secrets
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import aclosing
from typing import Any, Protocol, runtime_checkable

from assistant_queue.backends.base import Backend, InputItem, RunEnded, RunRequest
from assistant_queue.backends.openai.remedies import Remedy
from assistant_queue.config import DEFAULT_INSTRUCTIONS
from assistant_queue.errors import AssistantQueueError
from assistant_queue.models import Batch, Message
from assistant_queue.store.ops.server_info import Finding

_QUESTION = "Reply with the word OK."
_ADDRESS = "check the key, openai_base_url and the network"


@runtime_checkable
class Examinable(Backend, Protocol):
    """A backend that talks to a server: one of OpenAI's protocols."""

    @property
    def remedies(self) -> Iterable[Remedy]:
        """The remedies that the server and the model need."""

    async def find_model(self) -> str | None:
        """Look the model up; return what the server knows, None if it has no such request."""


async def examine(backend: Examinable, name: str, *, runs: bool) -> AsyncIterator[Finding]:
    """Create a conversation, ask for the model, have it answer, delete the conversation.

    Args:
        backend: The backend of the options; it is closed.
        name: Its name in findings.
        runs: Whether the model is asked a question, which costs a few tokens.
    """
    conversation_id: str | None = None
    try:
        if backend.capabilities.conversations:
            try:
                conversation_id = await backend.open_conversation("assistant-queue doctor")
            except AssistantQueueError as error:
                yield Finding(
                    level="bad",
                    what=f"the provider created no conversation: {error}",
                    advice=_ADDRESS,
                )
                return
            yield Finding(
                level="ok",
                what=f"the provider answers and takes the key: {name}; "
                f"conversation {conversation_id} was created",
            )
        async for finding in _model(backend):
            yield finding
        if runs:
            async for finding in _answer(backend, name, conversation_id):
                yield finding
        else:
            yield Finding(
                level="note",
                what="the model was not asked anything (--no-run); "
                "the remedies of a server are known after a request",
            )
        for remedy in backend.remedies:
            yield Finding(level="note", what=f"remedy {remedy.name}: {remedy.effect}")
    finally:
        if conversation_id is not None:
            yield await _deleted(backend, conversation_id)
        await backend.close()


async def _model(backend: Examinable) -> AsyncIterator[Finding]:
    try:
        found = await backend.find_model()
    except AssistantQueueError as error:
        yield Finding(
            level="bad",
            what=f"the provider does not know the model: {error}",
            advice="check model= and what the account may use",
        )
        return
    if found:
        yield Finding(level="ok", what=f"the provider knows {found}")


async def _answer(
    backend: Backend, name: str, conversation_id: str | None
) -> AsyncIterator[Finding]:
    """Send one question as a batch does."""
    message = Message(id=secrets.token_hex(12), content=_QUESTION)
    request = RunRequest(
        batch=Batch(
            id=secrets.token_hex(12), thread_id="assistant-queue doctor", messages=(message,)
        ),
        conversation_id=conversation_id or "",
        anchor=None,
        items=(InputItem(content=_QUESTION, message_ids=(message.id,)),),
        instructions=DEFAULT_INSTRUCTIONS,
    )
    began = time.monotonic()
    last = None
    try:
        stream: Any = backend.start(request)
        async with aclosing(stream) as events:
            async for event in events:
                last = event
    except AssistantQueueError as error:
        yield Finding(
            level="bad",
            what=f"a question was not answered: {error}",
            advice="nothing was queued; the batches of users meet the same",
        )
        return
    took = f"in {time.monotonic() - began:.1f} s"
    if isinstance(last, RunEnded) and last.error is not None:
        yield Finding(
            level="bad",
            what=f"a question was not answered: {last.error.code}: {last.error.message}",
            advice=_ADDRESS,
        )
    elif isinstance(last, RunEnded) and not last.replies:
        yield Finding(
            level="warn",
            what=f"the model answered a question with nothing, {took}: {name}",
            advice="look at run_options and the model",
        )
    else:
        yield Finding(level="ok", what=f"the model answered a question {took}: {name}")


async def _deleted(backend: Backend, conversation_id: str) -> Finding:
    try:
        await backend.drop_conversation(conversation_id)
    except AssistantQueueError as error:
        return Finding(
            level="warn",
            what=f"conversation {conversation_id} was created and not deleted: {error}",
            advice="delete it by hand",
        )
    return Finding(level="ok", what=f"conversation {conversation_id} was deleted again")
