"""Define the contract of the direct calls, and convert what the protocols answer.

A backend may offer calls beside answering batches.

A backend that has direct calls gives them by a method `direct()`, which returns an object with
these methods, or some of them. Nothing here decides about leases or mappings:
`assistant_queue.client.provider_calls` does, and calls these with the provider's own id at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, Protocol, cast

from assistant_queue.config.protocol import name_of_backend
from assistant_queue.core.history_notes import NO_NOTES, HistoryNotes
from assistant_queue.core.runs import ActionRequired, RunEnded
from assistant_queue.errors import (
    BackendError,
    ConversationBusy,
    InvalidArgument,
    NotSupported,
    OutcomeUnknown,
    RequestRefused,
    RunVanished,
    UnknownThread,
)
from assistant_queue.models import Content, RunInfo, ThreadInfo, ThreadMessage

_SAFE_WORD = re.compile(r"[\w.\[\]-]{1,80}")


@dataclass(frozen=True, slots=True)
class Place:
    """Target of a call: the thread by the caller's id and by the provider's.

    The caller's id is for results and errors. `kept` is the history that the queue stores if the
    provider stores none. `notes` are those of the thread's journal, for a list of messages.
    """

    thread_id: str
    conversation_id: str
    kept: str | None = None
    notes: HistoryNotes = NO_NOTES


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Page of messages: at most `limit`, in `order`, after `after` and before `before`."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """Options of one run.

    Attributes:
        instructions: None sends those of `run_options`, if any.
        tools: Instead of the backend's own; None keeps those.
        metadata: Beside those of `run_options`.
        within_s: Most seconds of a run on a server that answers only at its end.
    """

    instructions: str | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    metadata: Mapping[str, str]
    within_s: float


class DirectBackend(Protocol):
    """Direct calls of a backend.

    Each raises the `BackendError` branch only, and never retries a call that creates something.
    """

    async def create_thread(self, metadata: Mapping[str, str]) -> str:
        """Create a thread and return the provider's id."""

    async def get_thread(self, place: Place) -> ThreadInfo:
        """Retrieve the thread."""

    async def create_message(self, place: Place, content: Content) -> str:
        """Add one user message and return the provider's id of it."""

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """Return a page of messages."""

    async def create_run(self, place: Place, options: RunOptions) -> RunInfo:
        """Start a run over the thread's messages."""

    async def get_run(self, place: Place, run_id: str) -> RunInfo:
        """Retrieve a run."""

    async def cancel_run(self, place: Place, run_id: str) -> RunInfo:
        """Ask the provider to stop a run."""

    async def submit_tool_outputs(
        self, place: Place, run_id: str, outputs: Mapping[str, str], within_s: float
    ) -> RunInfo:
        """Answer the calls of a run, and return the next run (a new one on Responses)."""


def direct_calls(backend: object, call: str) -> DirectBackend:
    """Return the object that carries out `call` on this backend.

    Raises:
        NotSupported: It has no direct calls, or not this one. Nothing was sent.
    """
    give = getattr(backend, "direct", None)
    found = give() if callable(give) else None
    if not callable(getattr(found, call, None)):
        raise not_supported(backend, call)
    return cast("DirectBackend", found)


def not_supported(backend: object, call: str) -> NotSupported:
    """Build the error that names the backend and the call."""
    return NotSupported(
        f"the backend {name_of_backend(backend)!r} has no {call}(); nothing was sent - use "
        "add_message_to_thread(), or give it a method direct() that returns an object with it"
    )


# --- answers --------------------------------------------------------------------------------------


def id_of(answer: Mapping[str, Any], thread: str) -> str:
    """Return the id of a created object.

    Raises:
        OutcomeUnknown: The answer names none.
    """
    found = answer.get("id")
    if not found:
        raise OutcomeUnknown(
            f"The provider's answer for thread {thread!r} has no id; check the base URL."
        )
    return str(found)


def time_of(seconds: object) -> datetime | None:
    """Convert a provider's time, None if it sends none that there is."""
    if not isinstance(seconds, int | float) or not seconds:
        return None
    try:
        return datetime.fromtimestamp(seconds, tz=UTC)
    except (OverflowError, OSError, ValueError):
        return None


def thread_info(answer: Mapping[str, Any], place: Place) -> ThreadInfo:
    """Convert a thread or conversation of either protocol."""
    return ThreadInfo(
        id=str(answer.get("id") or place.conversation_id),
        thread_id=place.thread_id,
        created_at=time_of(answer.get("created_at")),
        metadata=dict(answer.get("metadata") or {}),
    )


def run_info(
    answer: Mapping[str, Any], outcome: ActionRequired | RunEnded | None, place: Place
) -> RunInfo:
    """Convert a run.

    Args:
        answer: The provider's answer.
        outcome: Its calls or its end, None while it is in progress.
        place: Its thread.
    """
    shared: dict[str, Any] = {
        "id": id_of(answer, place.thread_id),
        "thread_id": place.thread_id,
        "created_at": time_of(answer.get("created_at")),
        "metadata": dict(answer.get("metadata") or {}),
    }
    if outcome is None:
        return RunInfo(status=str(answer.get("status") or ""), **shared)
    if isinstance(outcome, ActionRequired):
        return RunInfo(
            status="requires_action", required_calls=outcome.calls, usage=outcome.usage, **shared
        )
    return RunInfo(
        status=outcome.status,
        error=outcome.error,
        incomplete_reason=outcome.incomplete_reason,
        usage=outcome.usage,
        **shared,
    )


def check_outputs(run: RunInfo, outputs: Mapping[str, str]) -> None:
    """Check that these are all outputs of the round, and no others.

    Raises:
        InvalidArgument: They are not. Nothing was sent. Outputs for a run that waits for none are
            left to the provider to refuse.
    """
    wanted = {call.id for call in run.required_calls}
    if wanted and wanted != outputs.keys():
        raise InvalidArgument(
            f"run {run.id!r} of thread {run.thread_id!r} waits for the outputs of "
            f"{_listed(wanted)}, given are those of {_listed(outputs.keys())}; nothing was sent - "
            "answer all of its required_calls at once"
        )


def _listed(call_ids: Any) -> str:
    return ", ".join(repr(call_id) for call_id in sorted(call_ids))


# --- errors ---------------------------------------------------------------------------------------


def as_direct(error: BackendError, call: str, thread: str, *, is_writing: bool) -> BackendError:
    """Rephrase a failure for a call that is not repeated.

    The flow's errors promise that a batch is tried again.
    """
    if isinstance(error, UnknownThread | NotSupported):
        return error
    what = _details(error)
    if isinstance(error, ConversationBusy):
        text = (
            f"a run is working on the thread{what}; nothing was done - wait for its end, or stop "
            "it with cancel_run()"
        )
    elif isinstance(error, RunVanished):
        text = (
            f"the provider does not know this run{what}; nothing was done - check run_id and the "
            "thread it belongs to"
        )
    elif isinstance(error, RequestRefused):
        advice = "correct the arguments or the options" if error.counts else "try again later"
        text = f"the provider did not take the request{what}; nothing was done - {advice}"
    elif is_writing:
        text = (
            f"the provider's answer was lost{what}; whether it was done is not known - look with "
            "list_messages() before you repeat it"
        )
    else:
        text = f"the provider did not answer{what}; nothing was changed - try again"
    return type(error)(
        f"{call}, thread {thread!r}: {text}",
        status_code=error.status_code,
        provider_code=error.provider_code,
        retry_after_s=error.retry_after_s,
        counts=error.counts,
    )


def _details(error: BackendError) -> str:
    cause = error.__cause__
    param = getattr(cause, "param", None)
    parts = [
        f"HTTP {error.status_code}"
        if error.status_code
        else type(cause).__name__
        if cause is not None
        else "",
        f"code {error.provider_code}"
        if error.provider_code and _SAFE_WORD.fullmatch(error.provider_code)
        else "",
        f"param {param}" if isinstance(param, str) and _SAFE_WORD.fullmatch(param) else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""
