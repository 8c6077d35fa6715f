"""State of one claimed batch while its steps are made. Every module of the flow works on it."""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any, cast

from assistant_queue.core import steps
from assistant_queue.core.account import added, labels_answered, ms_of, timeline_of
from assistant_queue.core.attempt_log import AttemptLog
from assistant_queue.core.failure_table import Situation
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.retry import Backoff
from assistant_queue.core.runs import ActionRequired, Capabilities, FoundBy, RunEnded, RunRequest
from assistant_queue.core.thread_ids import ThreadIds, providers_id
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish
from assistant_queue.models import Batch, ErrorInfo, ResultStatus, RunResult, Usage

MAX_DEATHS = 3
"""Workers that may die in one of the user's functions before the batch is taken to be the reason.
Source: docs/reliability.md."""

MAX_DEATHS_ELSEWHERE = 20
"""The same for deaths anywhere else, where a healthy batch waits and may merely meet many kills.
Chosen: no chaos run, with a worker killed every second, has reached it."""

MAX_SHORTENED = 8
"""Runs of one batch that may fail for their length, each reading less than the one before. Chosen:
no backend of this package has as many steps."""

ENDED_WELL = frozenset({"completed", "incomplete"})
"""Statuses of a run with a reply that counts."""

OUTCOME_UNKNOWN = ErrorInfo(
    code="outcome_unknown",
    message="a worker died while it sent the batch; the provider is asked after the grace period",
)
"""The error of a batch that is held before any other is known."""

Steps = Generator[steps.Step, Any, None]
"""Yields steps, is sent their answers, returns nothing."""

Flow = Generator[steps.Step, Any, steps.Ending]
"""Yields steps, is sent their answers, returns how the batch ended for this worker."""

Event = ActionRequired | RunEnded


class AuthorRule(Enum):
    """Authors that may be in one batch."""

    SHARE = "any"
    SEPARATE = "one"
    ASK = "those that the user's callable lets share"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options that the flow decides by; seconds.

    Attributes:
        grace_s: How long after an ambiguous request the provider is asked.
        instructions: The default text, None for none, or True to ask the user's callable.
        delivers: There is an `on_reply`.
        fallback: The reply of a batch that fails for good: a text, None for none, or True to ask
            the user's callable.
        max_batch_chars: Most characters of a batch, None for no limit.
        max_interrupts: How often one batch may be interrupted.
        approval_timeout_s: How long a call waits for an answer from outside.
        remembers_stopped: The conversation is given what it does not hold of a stopped batch.
        background: Batches are parked while the provider works on their runs.
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
    max_batch_chars: int | None = None
    authors: AuthorRule = AuthorRule.SHARE
    max_interrupts: int = 3
    approval_timeout_s: float = 86_400.0
    remembers_stopped: bool = True
    background: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claimed batch, as the store handed it over.

    Attributes:
        batch: Its messages.
        phase: How far an earlier holder got.
        progress: The memory of the batch, as an earlier holder stored it.
        deaths: Holders with a lease that lapsed in this phase.
        claimed_ms: When it was claimed first.
        due_ms: When it was due then; 0 if version 0.1 claimed it.
        conversation_id: The provider's id of the thread; None if there is none yet.
        anchor: The conversation's end after the last batch; None if not known.
        open_calls: Calls that an earlier batch left unanswered.
        unreadable: The part of its stored form that cannot be read; None as a rule.
        wish: What another process wants of it; None for nothing.
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
    due_ms: int = 0
    wish: Wish | None = None


class BatchContext:
    """One claimed batch while its steps are made.

    Attributes:
        claimed: As the store handed it over.
        capabilities: Of the backend.
        rules: The options.
        now_ms: The store's time.
        batch: Its messages, without those that did not fit.
        progress: Its memory; stored with each `Save`.
        phase: How far it got, as it was stored or will be with the next step.
        request: What is sent; None until it is prepared.
        unanswered: Calls that the run waits for: open in the conversation if the batch is buried.
        deaths: Workers that died of it in this phase.
        all_deaths: The same, with those that died on the way to the user's function.
        is_suspect: A worker has died in the user's code for this batch: it may be the reason.
        log: The attempts at it.
        is_stopping: It is being stopped.
        opened: The conversation that was created for the thread meanwhile.
        wish_now: Returns the wish for it that is known now.
    """

    def __init__(
        self,
        claimed: Claimed,
        capabilities: Capabilities,
        rules: Rules,
        now_ms: Callable[[], int],
        worker: str = "",
    ) -> None:
        self.claimed = claimed
        self.capabilities = capabilities
        self.rules = rules
        self.now_ms = now_ms
        self.batch = claimed.batch
        self.progress = claimed.progress
        self.phase = claimed.phase
        self.request: RunRequest | None = None
        self.unanswered: tuple[str, ...] = tuple(call.id for call in claimed.progress.calls)
        self.progress.keep_past(now_ms(), rules.run_timeout_s)
        self.log = AttemptLog(self.progress, worker)
        self.is_stopping = False
        self.opened: str | None = None
        self.wish_now: Callable[[], Wish | None] = lambda: claimed.wish
        if self.progress.result is not None and self.batch.messages:
            self.progress.result = self._described(self.progress.result)
        self._count_deaths()

    def _count_deaths(self) -> None:
        progress = self.progress
        deaths = self.claimed.deaths
        self.deaths = self.all_deaths = deaths
        if self._is_in_user_code:
            suspicious = 0 if progress.waits_for_exclusive else deaths
            self.all_deaths = progress.crashes_in_user_code + suspicious
            # 1. holder: stored that it calls, and died: the function may be the reason
            # 2. holder: stores that it waits, before it calls; died before that, it has called
            # nothing
            self.deaths = progress.crashes_in_user_code + min(suspicious, 1)
        self.is_suspect = progress.crashes_in_user_code > 0 or (
            self._is_in_user_code and self.deaths > 0
        )

    @property
    def _is_in_user_code(self) -> bool:
        return self.progress.in_user_code

    def begin_attempt(self) -> None:
        """Log that a worker has the batch: it will be sent, or its run is continued."""
        sent = self.progress.attempts
        is_new = self.phase is Phase.FROZEN or not sent
        self.log.claim(
            sent + 1 if is_new else sent,
            self.now_ms(),
            run_id=self.progress.run_id or "" if self.phase is Phase.RUNNING else "",
            claimed_ms=self.claimed.claimed_ms,
            deaths=self.claimed.deaths,
        )

    @property
    def is_deadly(self) -> bool:
        """As many workers have died over it as it takes to hold it against the batch."""
        most = MAX_DEATHS if self._is_in_user_code else MAX_DEATHS_ELSEWHERE
        return self.deaths >= most or self.claimed.deaths >= MAX_DEATHS_ELSEWHERE

    @property
    def is_fresh(self) -> bool:
        """Nothing of the batch was sent: it may still become smaller."""
        progress = self.progress
        was_tried = progress.attempts or progress.refusals or progress.failures
        return self.phase is Phase.FROZEN and not was_tried and not progress.already_in_thread

    @property
    def sent(self) -> RunRequest:
        """The request."""
        if self.request is None:
            msg = "the request is made before anything else"
            raise AssertionError(msg)
        return self.request

    def known_conversation(self) -> str | None:
        """The provider's id of the thread; None if it has none yet."""
        return (
            providers_id(self.batch.thread_id, self.rules.thread_ids)
            or self.opened
            or self.claimed.conversation_id
        )

    def bare_request(self) -> RunRequest:
        """The request without its items, for a batch that is not sent again."""
        return RunRequest(
            batch=self.batch,
            conversation_id=self.known_conversation() or "",
            anchor=self.progress.anchor,
            items=(),
        )

    @property
    def writes(self) -> bool:
        """The batch is written to the conversation, and no run answers it.

        No message of it wants a reply. A backend that cannot write answers messages of users.
        """
        messages = self.batch.messages
        return (
            self.capabilities.writes
            and bool(messages)
            and not any(message.wants_reply for message in messages)
        )

    @property
    def awaits_runs(self) -> bool:
        """The batch is parked while the provider works on its run."""
        return self.rules.background and self.capabilities.background and not self.writes

    @property
    def can_renew(self) -> bool:
        """A new conversation can be begun: it is the queue's to choose, and no run waits in it."""
        waits = bool(self.progress.calls) and self.capabilities.found_by is FoundBy.METADATA
        is_ours = providers_id(self.batch.thread_id, self.rules.thread_ids) is None
        return self.capabilities.renews and self.request is not None and is_ours and not waits

    @property
    def is_patient(self) -> bool:
        """Passing trouble is still waited out instead of counted."""
        return self.now_ms() - self.progress.waiting_since_ms <= self.rules.retry_for_s * 1000

    @property
    def situation(self) -> Situation:
        """State that the meaning of a failure depends on."""
        progress = self.progress
        return Situation(
            phase=self.phase,
            is_prepared=self.request is not None,
            stateless=self.capabilities.stateless,
            is_overdue=self.now_ms() > progress.deadline_ms + self.rules.retry_for_s * 1000,
            can_shorten=progress.shortened < MAX_SHORTENED,
            can_renew=self.can_renew,
            was_renewed=progress.origin is not None,
        )

    def new_deadline(self) -> None:
        """Give the attempt the time that a run gets."""
        self.progress.deadline_ms = self.now_ms() + round(self.rules.run_timeout_s * 1000)

    def save(self, phase: Phase, *, leaves: bool = False) -> Steps:
        """Store how far the batch got."""
        self.phase = phase
        yield steps.Save(phase=phase, progress=self.progress, leaves=leaves)

    def collect(self, event: Event) -> None:
        """Add replies and usage of a round to those of the rounds before."""
        progress = self.progress
        progress.first_text_ms = progress.first_text_ms or event.first_text_ms
        if event.whole:
            progress.replies = ()
            progress.shown = ()
            progress.usage = None
        progress.replies = (*progress.replies, *event.replies)
        progress.shown = (*progress.shown, *event.shown)
        progress.usage = added(progress.usage, self._counted(event.usage))

    def _counted(self, usage: Usage | None) -> Usage | None:
        """Return a round's tokens with its number of rounds.

        A run that counts the tokens of all its rounds together does not count the rounds.
        """
        if usage is None or usage.rounds:
            return usage
        before = self.progress.usage
        known = 0 if before is None else before.rounds
        return replace(usage, rounds=max(self.progress.rounds + 1 - known, 1))

    def result_of(
        self,
        run_id: str,
        status: str,
        replies: tuple[str, ...],
        *,
        model: str | None = None,
        **fields: Any,
    ) -> RunResult:
        """The result of the batch with these replies."""
        ended_ms = self.now_ms()
        return RunResult(
            thread_id=self.batch.thread_id,
            run_id=run_id,
            batch_id=self.batch.id,
            message_ids=tuple(message.id for message in self.batch.messages),
            messages_processed=len(self.batch.messages),
            status=cast("ResultStatus", status),
            reply="\n\n".join(replies) or None,
            replies=replies,
            usage=self.progress.usage,
            attempts=self.progress.attempts,
            started_at=moment(self.claimed.claimed_ms),
            ended_at=moment(ended_ms),
            **self._description(ended_ms, self.progress.usage, model),
            **{"incomplete_reason": None, **fields},
        )

    def _described(self, result: RunResult) -> RunResult:
        """Return a stored result with what it answers, and with its times."""
        return replace(result, **self._description(ms_of(result.ended_at), result.usage))

    def _description(
        self, ended_ms: int, usage: Usage | None, model: str | None = None
    ) -> dict[str, Any]:
        """Return the fields of a result that are not stored with it."""
        timeline = timeline_of(
            self.batch.messages,
            self.progress,
            claimed_ms=self.claimed.claimed_ms,
            due_ms=self.claimed.due_ms,
            completed_ms=ended_ms,
        )
        named = model or (usage.model if usage else None)
        return {"model": named, "timeline": timeline, **labels_answered(self.batch)}
