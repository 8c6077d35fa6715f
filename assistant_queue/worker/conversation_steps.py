"""Handlers of the steps that open, replace or delete the provider's conversation of a thread."""

from __future__ import annotations

import logging

from assistant_queue.core import steps
from assistant_queue.core.progress import Progress
from assistant_queue.errors import BackendError
from assistant_queue.store.ops import leases
from assistant_queue.worker.leased_batch import LeasedBatch
from assistant_queue.worker.provider_session import ProviderSession

_log = logging.getLogger(__name__)


class ConversationSteps:
    """Maps the thread to a conversation, which is created at the provider first."""

    def __init__(self, batch: LeasedBatch, session: ProviderSession) -> None:
        """Send nothing yet."""
        self._batch = batch
        self._session = session
        self._backend = batch.runtime.backend
        self._namespace = batch.runtime.namespace
        self._lease = batch.lease

    async def open(self, _: steps.OpenConversation) -> tuple[str, str | None]:
        """Create a conversation; return the thread's conversation and its anchor."""
        await self._batch.ensure_lease()
        thread_id = self._lease.thread_id
        created = await self._session.asked(self._backend.open_conversation(thread_id))
        found, anchor = await self._batch.write(
            lambda: leases.set_conversation(
                self._namespace, thread_id, created, token=self._lease.token
            )
        )
        if found != created:
            # Another process has mapped the thread in the meantime (a direct call): its
            # conversation counts, this one is deleted.
            await self._drop(created)
        return found, anchor

    async def move(self, step: steps.MoveThread) -> bool:
        """Map the thread to another conversation; return whether it was still in the old one."""
        found = await self._batch.write(
            lambda: leases.move_conversation(
                self._namespace,
                self._lease,
                old_id=step.old_id,
                conversation_id=step.conversation_id,
                anchor=step.anchor,
                phase=step.phase,
                progress=step.progress,
            )
        )
        moved = bool(found == step.conversation_id)
        if moved:
            self._batch.phase = step.phase
            self._batch.progress = step.progress
            self._log_moved(step)
        if moved and step.drops_old:
            await self._drop(step.old_id)
        elif step.is_new and not moved:
            await self._drop(step.conversation_id)
        return moved

    def _log_moved(self, step: steps.MoveThread) -> None:
        thread_id = self._lease.thread_id
        if not step.is_new:
            _log.warning(
                "thread %r: its batch is refused all the same; it has conversation %s again",
                thread_id,
                step.conversation_id,
            )
            return
        rest = "" if step.drops_old else ". The old one stays at the provider"
        _log.warning(
            "thread %r: the model cannot read conversation %s any more (%s); it is continued in "
            "%s, which begins with its last turns%s",
            thread_id,
            step.old_id,
            _reason(step.progress),
            step.conversation_id,
            rest,
        )

    async def _drop(self, conversation_id: str) -> None:
        """Delete a conversation that no thread has."""
        try:
            await self._session.asked(self._backend.drop_conversation(conversation_id))
        except BackendError as error:
            _log.warning(
                "conversation %s is not needed and could not be deleted: %s", conversation_id, error
            )


def _reason(progress: Progress) -> str:
    return "unknown" if progress.error is None else progress.error.message
