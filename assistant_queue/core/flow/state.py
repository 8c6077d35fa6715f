"""What the steps of a batch share: the rules, the claim, what is known so far; and the few things that every part does."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.retry import Backoff
from assistant_queue.core.runs import ActionRequired, Capabilities, RunEnded, RunRequest
from assistant_queue.core.thread_ids import ThreadIds, providers_id
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import AssistantQueueError, BackendError
from assistant_queue.models import Batch, ErrorInfo, RunResult, ToolCall

MAX_DEATHS = 3
"""Workers that may die in one of the user's functions before the batch is taken to be the reason. Source: docs/reliability.md."""

MAX_DEATHS_ELSEWHERE = 20
"""The same for deaths anywhere else, where a healthy batch waits and may merely meet many kills. Chosen: chaos does not get there."""

ENDED_WELL = frozenset({"completed", "incomplete"})

HELD = ErrorInfo(code="outcome_unknown", message="a worker died while it sent the batch; the provider is asked after the grace period")

Flow = Generator[steps.Step, Any, steps.Ending]
"""Yields steps, is sent their answers, returns how the batch ended for this worker."""

Event = ActionRequired | RunEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options that the flow decides by; seconds.

    Attributes:
        grace_s: How long after an ambiguous request the provider is asked.
        instructions: The default text, None for none, or True to ask the user's callable.
        delivers: There is an `on_reply`.
        fallback: What people are told of a batch that fails for good: a text, None for nothing, or True to ask the user's callable.
    """

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    retry_for_s: float = 600.0
    run_timeout_s: float = 600.0
    grace_s: float = 35.0
    max_tool_rounds: int = 20
    thread_ids: ThreadIds = "auto"
    instructions: str | bool | None = None
    delivers: bool = False
    fallback: str | bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claimed batch, as the store handed it over.

    Attributes:
        batch: Its messages.
        phase: How far an earlier holder got.
        progress: What an earlier holder knew.
        deaths: Holders whose lease lapsed in this phase.
        claimed_ms: When it was claimed first.
        conversation_id: The provider's id of the thread; None if there is none yet.
        anchor: The conversation's end after the last batch; None if not known.
        open_calls: Calls that an earlier batch left unanswered.
        unreadable: What of its stored form cannot be read; None as a rule.
    """

    batch: Batch
    phase: Phase
    progress: Progress
    deaths: int
    claimed_ms: int
    conversation_id: str | None
    anchor: str | None = None
    open_calls: tuple[str, ...] = ()
    unreadable: str | None = None


class BatchState:
    """One claimed batch while its steps are made."""

    def __init__(self, claimed: Claimed, capabilities: Capabilities, rules: Rules, now_ms: Callable[[], int]) -> None:
        self._claimed = claimed
        self._capabilities = capabilities
        self._rules = rules
        self._now_ms = now_ms
        self._batch = claimed.batch
        self._progress = claimed.progress
        self._phase = claimed.phase
        self._unanswered: tuple[str, ...] = tuple(call.id for call in claimed.progress.calls)
        self._request: RunRequest | None = None
        progress = claimed.progress
        progress.keep_past(now_ms(), rules.run_timeout_s)
        in_users_code = progress.calling or claimed.phase is Phase.DELIVERING
        self._deaths = self._all_deaths = claimed.deaths
        if in_users_code:
            suspicious = 0 if progress.waits else claimed.deaths
            self._all_deaths = progress.guilt + suspicious
            # 1. holder: written that it calls, and died: the function may be the reason
            # 2. holder: writes that it waits, before it calls; died before that, it has called nothing
            self._deaths = progress.guilt + min(suspicious, 1)
        self._is_suspect = progress.guilt > 0 or (in_users_code and self._deaths > 0)

    @property
    def _is_deadly(self) -> bool:
        """Workers have died over it until it is taken to be the reason."""
        in_users_code = self._progress.calling or self._claimed.phase is Phase.DELIVERING
        return self._deaths >= (MAX_DEATHS if in_users_code else MAX_DEATHS_ELSEWHERE) or self._claimed.deaths >= MAX_DEATHS_ELSEWHERE

    @property
    def _sent(self) -> RunRequest:
        if self._request is None:
            msg = "the request is made before anything else"
            raise AssertionError(msg)
        return self._request

    def _bare_request(self) -> RunRequest:
        """Where the batch was sent, without what was sent: what made three workers die is not made again."""
        conversation_id = providers_id(self._batch.thread_id, self._rules.thread_ids) or self._claimed.conversation_id
        return RunRequest(batch=self._batch, conversation_id=conversation_id or "", anchor=self._progress.anchor, items=())

    def _save(self, phase: Phase, *, leaves: bool = False) -> Generator[steps.Step, Any, None]:
        self._phase = phase
        yield steps.Save(phase=phase, progress=self._progress, leaves=leaves)

    def _blame(self, asked: tuple[ToolCall, ...] = ()) -> Generator[steps.Step, Any, None]:
        """From here on a death is the batch's own until the opposite is shown: one of the user's functions runs."""
        if self._is_suspect:
            yield from self._wait_alone()
        self._progress.calling = True
        yield steps.Save(phase=self._phase, progress=self._progress, asked=asked)

    def _wait_alone(self) -> Generator[steps.Step, Any, None]:
        """Workers have died while they ran the user's code for this batch - or for a neighbour in the same process: one at a time now."""
        progress = self._progress
        progress.guilt, progress.calling, progress.waits = max(self._deaths, progress.guilt), True, True
        yield steps.Save(phase=self._phase, progress=progress)
        yield steps.Isolate()
        progress.waits = False

    def _acquit(self) -> None:
        """The user's code has come back."""
        self._progress.calling = False
        self._progress.guilt = self._deaths = 0
        self._is_suspect = False

    def _collect(self, event: Event) -> None:
        progress = self._progress
        if event.whole:
            progress.replies, progress.usage = event.replies, event.usage
            return
        progress.replies = (*progress.replies, *event.replies)
        if event.usage is not None:
            progress.usage = event.usage if progress.usage is None else progress.usage + event.usage

    def _result_of(self, run_id: str, status: str, replies: tuple[str, ...], **fields: Any) -> RunResult:
        return RunResult(
            thread_id=self._batch.thread_id,
            run_id=run_id,
            batch_id=self._batch.id,
            message_ids=tuple(message.id for message in self._batch.messages),
            messages_processed=len(self._batch.messages),
            status=status,
            reply="\n\n".join(replies) or None,
            replies=replies,
            usage=self._progress.usage,
            attempts=self._progress.attempts,
            started_at=moment(self._claimed.claimed_ms),
            ended_at=moment(self._now_ms()),
            **{"incomplete_reason": None, **fields},
        )


class Hold(AssistantQueueError):
    """The grace is not over."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("the grace period is not over")
        self.wait_s = wait_s


class Park(AssistantQueueError):
    """Whether the batch was accepted cannot be found out: an operator decides."""


class Unreachable(AssistantQueueError):
    """A question about accepted work could not be asked."""

    def __init__(self, cause: BackendError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class GiveUp(AssistantQueueError):
    """The attempts are used up."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info
