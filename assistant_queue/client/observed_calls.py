"""Observation of direct calls: requests to the provider, and their answers."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

from assistant_queue.models import RunInfo
from assistant_queue.observing import (
    Asking,
    Calling,
    Observers,
    Outcome,
    error_code,
    finish_reason,
)

T = TypeVar("T")


class ObservedCalls:
    """Notifies the observer of a queue's direct calls."""

    def __init__(self, observers: Observers, user_backend: str | None) -> None:
        """Begin nothing yet.

        Args:
            observers: Of the queue.
            user_backend: The name of the caller's own `Backend`; None for one of this package.
        """
        self._observers = observers
        self._user_backend = user_backend

    async def calling(
        self,
        call: str,
        answer: Awaitable[T],
        *,
        thread_id: str = "",
        conversation_id: str = "",
        run_id: str | None = None,
    ) -> T:
        """Return the answer to a direct call."""
        if self._observers.observer is None:
            return await answer
        subject = Calling(
            call=call,
            thread_id=thread_id,
            conversation_id=conversation_id,
            run_id=run_id,
            backend=self._user_backend,
        )
        observation = self._observers.begin(subject)
        try:
            with observation.active():
                result = await answer
        except BaseException as error:
            observation.end(Outcome(error=error_code(error)))
            raise
        observation.end(_outcome_of(subject, result))
        return result

    async def asking(self, answer: Awaitable[T]) -> T:
        """Return the answer to another request that the call needs."""
        if self._observers.observer is None or self._user_backend is not None:
            return await answer
        with self._observers.begin(Asking()).active():
            return await answer


def _outcome_of(subject: Calling, result: object) -> Outcome:
    if not isinstance(result, RunInfo):
        return Outcome()
    is_failed = result.error is not None
    reason = finish_reason(result.status, result.incomplete_reason, is_failed=is_failed)
    if not subject.runs:
        # A run that is looked at has the error and the tokens of the call that started it.
        return Outcome(run_id=result.id, finish_reason=reason)
    return Outcome(
        error=result.error.code if result.error else None,
        run_id=result.id,
        usage=result.usage,
        model=result.usage.model if result.usage else None,
        finish_reason=reason,
    )
