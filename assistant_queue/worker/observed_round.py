"""Observation of the rounds of one batch: requests to the model, and their answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from assistant_queue.backends.base import Backend
from assistant_queue.backends.function.backend import FunctionBackend
from assistant_queue.config.protocol import name_of_backend
from assistant_queue.core.runs import ActionRequired, RunEnded, RunRequest
from assistant_queue.observing import (
    NOTHING,
    Asking,
    Observers,
    Outcome,
    Round,
    error_code,
    finish_reason,
)


class ObservedRound:
    """Notifies the observer of a batch's rounds, one at a time."""

    def __init__(
        self,
        observers: Observers,
        backend: Backend,
        user_backend: str | None,
        now_ms: Callable[[], int],
    ) -> None:
        """Begin nothing yet; arguments as of `ProviderSession`."""
        self._observers = observers
        self._agent = user_backend or _function_of(backend)
        self._now_ms = now_ms
        self._round = NOTHING
        self._began_ms = 0

    def begin(
        self,
        request: RunRequest,
        *,
        outputs: Mapping[str, str] | None = None,
        is_followed: bool = False,
    ) -> None:
        """Begin a round; one that is still open, because its stream was lost, ends."""
        self._round.end(Outcome(error="stream_cut"))
        self._round = NOTHING
        if self._observers.observer is None or request.writes:
            return
        self._began_ms = self._now_ms()
        self._round = self._observers.begin(
            Round(
                batch=request.batch,
                conversation_id=request.conversation_id,
                backend=self._agent,
                instructions=request.instructions,
                outputs=outputs,
                is_followed=is_followed,
            )
        )

    async def asking(self, answer: Awaitable[Any]) -> Any:
        """Return the answer to a request that begins no round."""
        if self._observers.observer is None or self._agent is not None:
            return await answer
        with self._observers.begin(Asking()).active():
            return await answer

    async def reading(self, answer: Awaitable[Any]) -> Any:
        """Return the answer of the backend; an error ends the round, and so does its stop."""
        if self._round is NOTHING:
            return await answer
        try:
            with self._round.active():
                event = await answer
        except asyncio.CancelledError:
            raise  # a time-out, or the worker's stop: `close` ends the round
        except BaseException as error:
            self.failed(error)
            raise
        if isinstance(event, ActionRequired | RunEnded):
            self._round.end(self._outcome_of(event))
        return event

    def failed(self, error: BaseException) -> None:
        """End the round with an error."""
        self._round.end(Outcome(error=error_code(error)))

    def leave(self, run_id: str) -> None:
        """End the round: its run is at work, and is looked at later."""
        self._round.end(Outcome(run_id=run_id))
        self._round = NOTHING

    def found(self, request: RunRequest, stop: ActionRequired | RunEnded) -> None:
        """Notify of a round that has ended while it was not read."""
        self.begin(request, is_followed=True)
        self._round.end(self._outcome_of(stop))
        self._round = NOTHING

    def close(self) -> None:
        """End the round that is still open, if there is one."""
        self._round.end(Outcome(error="cancelled"))

    def _outcome_of(self, stop: ActionRequired | RunEnded) -> Outcome:
        first_text_s = (stop.first_text_ms - self._began_ms) / 1000 if stop.first_text_ms else None
        end = stop if isinstance(stop, RunEnded) else None
        model = None if stop.usage is None else stop.usage.model
        return Outcome(
            error=end.error.code if end and end.error else None,
            run_id=stop.run_id,
            usage=stop.usage,
            model=(end.model if end else None) or model,
            finish_reason=(
                finish_reason(end.status, end.incomplete_reason, is_failed=end.error is not None)
                if end
                else "tool_calls"
            ),
            first_text_s=first_text_s,
            replies=stop.replies,
            calls=stop.calls if isinstance(stop, ActionRequired) else (),
        )


def _function_of(backend: Backend) -> str | None:
    """Return the name of the function behind a `FunctionBackend`; None for any other backend."""
    return name_of_backend(backend) if isinstance(backend, FunctionBackend) else None
