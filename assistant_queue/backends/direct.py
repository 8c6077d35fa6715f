"""The contract of the direct calls: what a backend offers beside answering batches, and what both protocols' answers become.

A backend that has direct calls gives them by a method `direct()`, which returns an object with these methods, or some of them. Nothing
here decides about leases or mappings: `assistant_queue.direct` does, and calls these with the provider's own id at hand.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any, Literal, Protocol, cast

from assistant_queue.choices import name_of_backend
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
    """Where a call goes: the thread by the caller's id, for results and errors, and by the provider's.

    `kept` is what the queue remembers of the thread, where the provider keeps nothing.
    """

    thread_id: str
    conversation_id: str
    kept: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Which messages are asked for: at most `limit`, in `order`, behind `after` and before `before` in that order."""

    limit: int
    order: Literal["asc", "desc"]
    after: str | None = None
    before: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RunOptions:
    """What the caller says about one run.

    Attributes:
        instructions: None sends none but what `run_options` say.
        tools: Instead of the backend's own; None keeps those.
        metadata: Beside those of `run_options`.
        within_s: How long a run may take where the server answers only when it is over.
    """

    instructions: str | None = None
    tools: Sequence[Mapping[str, Any]] | None = None
    metadata: Mapping[str, str]
    within_s: float


class DirectBackend(Protocol):
    """The direct calls. Each raises the `BackendError` branch only, and never retries what creates something."""

    async def create_thread(self, metadata: Mapping[str, str]) -> str:
        """A new thread; the provider's id."""

    async def get_thread(self, place: Place) -> ThreadInfo:
        """The thread as the provider shows it."""

    async def create_message(self, place: Place, content: Content) -> str:
        """Add one message of the user's; the provider's id of it."""

    async def list_messages(self, place: Place, page: Page) -> list[ThreadMessage]:
        """A page of messages."""

    async def create_run(self, place: Place, options: RunOptions) -> RunInfo:
        """Start a run over what the thread holds."""

    async def get_run(self, place: Place, run_id: str) -> RunInfo:
        """A run as it stands."""

    async def cancel_run(self, place: Place, run_id: str) -> RunInfo:
        """Ask the provider to stop a run."""

    async def submit_tool_outputs(self, place: Place, run_id: str, outputs: Mapping[str, str], within_s: float) -> RunInfo:
        """Answer the calls a run waits for; the run that goes on (another one on Responses)."""


def direct_calls(backend: object, call: str) -> DirectBackend:
    """What carries out `call` on this backend.

    Raises:
        NotSupported: It has no direct calls, or not this one. Nothing was sent.
    """
    give = getattr(backend, "direct", None)
    found = give() if callable(give) else None
    if not callable(getattr(found, call, None)):
        raise not_supported(backend, call)
    return cast("DirectBackend", found)


def not_supported(backend: object, call: str) -> NotSupported:
    """The error that names the backend and the call."""
    return NotSupported(
        f"the backend {name_of_backend(backend)!r} has no {call}(); nothing was sent - use add_message_to_thread(), or give it a method "
        "direct() that returns an object with it"
    )


# --- answers ------------------------------------------------------------------------------------------------------------


def id_of(answer: Mapping[str, Any], thread: str) -> str:
    """The id of what was created.

    Raises:
        OutcomeUnknown: The answer names none.
    """
    found = answer.get("id")
    if not found:
        raise OutcomeUnknown(f"The provider's answer for thread {thread!r} has no id; check the base URL.")
    return str(found)


def time_of(seconds: object) -> datetime | None:
    """A provider's time, None where it gives none."""
    return datetime.fromtimestamp(seconds, tz=timezone.utc) if isinstance(seconds, int | float) and seconds else None


def thread_info(answer: Mapping[str, Any], place: Place) -> ThreadInfo:
    """A thread or conversation, as both protocols spell it."""
    return ThreadInfo(
        id=str(answer.get("id") or place.conversation_id),
        thread_id=place.thread_id,
        created_at=time_of(answer.get("created_at")),
        metadata=dict(answer.get("metadata") or {}),
    )


def run_info(answer: Mapping[str, Any], outcome: ActionRequired | RunEnded | None, place: Place) -> RunInfo:
    """A run.

    Args:
        answer: As the provider shows it.
        outcome: What it waits for or how it ended, None while it is worked on.
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
        return RunInfo(status="requires_action", required_calls=outcome.calls, usage=outcome.usage, **shared)
    return RunInfo(status=outcome.status, error=outcome.error, incomplete_reason=outcome.incomplete_reason, usage=outcome.usage, **shared)


def check_outputs(run: RunInfo, outputs: Mapping[str, str]) -> None:
    """The provider takes all outputs of a round at once, and no others.

    Raises:
        InvalidArgument: These are not the run's. Nothing was sent. A run that waits for none is the provider's to judge.
    """
    wanted = {call.id for call in run.required_calls}
    if wanted and wanted != outputs.keys():
        raise InvalidArgument(
            f"run {run.id!r} of thread {run.thread_id!r} waits for the outputs of {_listed(wanted)}, given are those of "
            f"{_listed(outputs.keys())}; nothing was sent - answer all of its required_calls at once"
        )


def _listed(call_ids: Any) -> str:
    return ", ".join(repr(call_id) for call_id in sorted(call_ids))


# --- errors -------------------------------------------------------------------------------------------------------------


def as_direct(error: BackendError, call: str, thread: str, *, is_writing: bool) -> BackendError:
    """The same failure in the words of a call that is not repeated: the flow's errors promise that a batch is tried again."""
    if isinstance(error, UnknownThread | NotSupported):
        return error
    told = f"{call}, thread {thread!r}: "
    what = _details(error)
    if isinstance(error, ConversationBusy):
        told += f"a run is working on the thread{what}; nothing was done - wait for its end, or stop it with cancel_run()"
    elif isinstance(error, RunVanished):
        told += f"the provider does not know this run{what}; nothing was done - check run_id and the thread it belongs to"
    elif isinstance(error, RequestRefused):
        advice = "correct the arguments or the options" if error.counts else "try again later"
        told += f"the provider did not take the request{what}; nothing was done - {advice}"
    elif is_writing:
        told += f"the provider's answer was lost{what}; whether it was done is not known - look with list_messages() before you repeat it"
    else:
        told += f"the provider did not answer{what}; nothing was changed - try again"
    return type(error)(
        told,
        status_code=error.status_code,
        provider_code=error.provider_code,
        retry_after_s=error.retry_after_s,
        counts=error.counts,
    )


def _details(error: BackendError) -> str:
    cause = error.__cause__
    param = getattr(cause, "param", None)
    parts = [
        f"HTTP {error.status_code}" if error.status_code else type(cause).__name__ if cause is not None else "",
        f"code {error.provider_code}" if error.provider_code and _SAFE_WORD.fullmatch(error.provider_code) else "",
        f"param {param}" if isinstance(param, str) and _SAFE_WORD.fullmatch(param) else "",
    ]
    said = ", ".join(part for part in parts if part)
    return f" ({said})" if said else ""
