"""A run as the flow sees it: its request, its events, and what can be found out later.

Plain values, no I/O.

The contract that turns them into a provider's requests is `assistant_queue.backends.base.Backend`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from enum import StrEnum
from typing import Literal

from assistant_queue.models import Batch, Content, ErrorInfo, ToolCall, Usage
from assistant_queue.trouble import Trouble, bounded_wait
from assistant_queue.values import valueclass

EMPTY = "empty"
"""`RunEnded.incomplete_reason` of a run that ended well without a reply."""


class FoundBy(StrEnum):
    """Way to find a batch again after an ambiguous request."""

    METADATA = "by_metadata"
    ANCHOR = "by_anchor"
    NOT_AT_ALL = "not_at_all"


@valueclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """Capabilities of a backend; the flow reads them instead of asking which backend it has.

    Attributes:
        found_by: How `find` recognises a batch.
        follows: A known run can be followed again after a crash; without it, `find` is asked what
            became of it.
        cancels: A known run can be cancelled.
        keeps_failed_text: The provider's thread holds the user's text although the run failed
            (Assistants): a new run must not repeat it.
        conversations: There is a conversation at the provider that a mapped thread id must be
            given.
        stateless: The provider keeps nothing of a run, so that a request that is made again doubles
            nothing there. A lost answer is a failure to be tried again, without a question, and a
            batch continues after the last round that is stored here.
        renews: A conversation that outgrew the model can be begun anew (`RenewsConversations` in
            `backends/base.py`).
        inline_files: Pictures and documents can be part of a message, as data URLs.
        max_items: Most input items of one request, None if the provider has no limit.
        max_item_chars: Most characters of one item, None if the provider has no limit.
        writes: Items can be written to the conversation without a run (`RunRequest.writes`).
        steers: Messages can go with the outputs of a round (`RunRequest.added`).
        background: A run continues without a reader, and can be looked at (`ChecksRuns` in
            `backends/base.py`).
        resumes: A batch continues after the last round that is stored here
            (`ActionRequired.transcript`), as with `stateless`; but whether a run that has begun may
            be repeated, `find` says.
    """

    found_by: FoundBy
    follows: bool = False
    cancels: bool = False
    keeps_failed_text: bool = False
    conversations: bool = True
    stateless: bool = False
    renews: bool = False
    inline_files: bool = True
    max_items: int | None = None
    max_item_chars: int | None = None
    writes: bool = False
    steers: bool = False
    background: bool = False
    resumes: bool = False

    @property
    def keeps_rounds(self) -> bool:
        """The rounds of a batch are stored here, and nowhere else."""
        return self.stateless or self.resumes


@valueclass(frozen=True, slots=True, kw_only=True)
class InputItem:
    """One item of the request, ready to be sent: authors are already written into the content.

    Attributes:
        content: Text, or the caller's content parts.
        message_ids: The queue's messages that this item carries (several when neighbours were
            joined).
        metadata: The caller's pairs, for providers that have a place for them.
        role: `assistant` for a reply of `say`.
    """

    content: Content
    message_ids: tuple[str, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    role: Literal["user", "assistant"] = "user"


@valueclass(frozen=True, slots=True, kw_only=True)
class RunRequest:
    """Everything a backend needs to send a batch, or to recognise it later.

    Attributes:
        batch: The frozen batch.
        conversation_id: The provider's id of the thread ("" if the backend has no
            conversations).
        anchor: The id of the last item known to be in the conversation before this batch; None:
            there was none. If the queue keeps the history itself: the history.
        items: The batch as user items, in order. Empty when the provider's thread holds the text
            already.
        instructions: None to send none.
        open_calls: Ids of tool calls that an earlier batch left unanswered in this conversation;
            the backend answers them with an error output in the same request if the provider
            would refuse the batch otherwise.
        carried: Calls with their outputs, in words, for a run in a conversation that lacks them.
        deadline_s: Seconds until the batch's own deadline, as of now.
        transcript: `ActionRequired.transcript` of the rounds so far; None in the first one.
        steered: Items of messages that have joined the batch after its run had begun.
        added: Those of them that go with the outputs of this round.
        cut: Runs over the batch that were interrupted.
        joined: Messages have joined the batch since it was sent first: an earlier run over it may
            know nothing of these items.
        outputs: Outputs of open calls, by call id, if the items are written; calls that have none
            here are answered with an error.
        again: A request over this batch has left before, even if it was refused for a passing
            reason and counts as no attempt.
        shortened: How many runs over this batch have failed for their length: each time less of the
            conversation is to be read.
        renewed: The conversation was begun anew for this batch, because that was not enough:
            nothing but a shorter one helps.
        writes: The items are written to the conversation, and no run answers them. The events are
            those of a run without text, with `run_id=""`. Only if `Capabilities.writes`; a backend
            that is found `not_at_all` sends nothing and returns the history with the items as
            `RunEnded.anchor`.
    """

    batch: Batch
    conversation_id: str
    anchor: str | None
    items: tuple[InputItem, ...]
    instructions: str | None = None
    open_calls: tuple[str, ...] = ()
    carried: str = ""
    deadline_s: float = 600.0
    transcript: str | None = None
    steered: tuple[InputItem, ...] = ()
    added: tuple[InputItem, ...] = ()
    cut: tuple[str, ...] = ()
    joined: bool = False
    outputs: Mapping[str, str] = field(default_factory=dict)
    again: bool = False
    shortened: int = 0
    renewed: bool = False
    writes: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class RunAccepted:
    """The provider has accepted the request; always the first event."""

    run_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class TextChunk:
    """A piece of the reply.

    Attributes:
        text: The piece.
        cursor: Where to resume after this event (a `sequence_number`), None if it cannot be
            resumed.
        part: Number of the reply part it belongs to, from 0; of those that this stream has shown.
        item: The provider's id of that part, the same in a stream that is resumed; None if it
            has none.
    """

    text: str
    cursor: int | None = None
    part: int = 0
    item: str | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A call that is answered from outside.

    Attributes:
        call_id: The provider's id of it.
        kind: `approval` or `answer`.
        question: What is asked; None for nothing.
    """

    call_id: str
    kind: Literal["approval", "answer"]
    question: str | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class ActionRequired:
    """The run waits for tool outputs.

    Attributes:
        calls: Every open call of the round.
        replies: The assistant's messages in this round so far.
        whole: `replies` and `usage` cover every round of the batch so far, not only this one.
        anchor: The id of the conversation's last item after this round, None if not known.
        transcript: All rounds of the batch up to these calls, in the backend's own words, for a
            provider that keeps nothing; stored with the batch and given back as
            `RunRequest.transcript`.
        first_text_ms: When the worker read the first text of this round, ms of the store's time; 0
            if there was none. Backends leave it out.
        shown: The ids of the conversation's items that hold the replies, if they are known.
        steered: How many of `RunRequest.steered` the conversation holds, if the round was found by
            reading it.
        expires_ms: When the run expires at the provider, ms of its clock; 0 if it does not, or does
            not say.
        open: Calls that the backend makes itself, or has others make, once they are settled: how
            they were settled is their output (`Settlement.dump`).
    """

    run_id: str
    calls: tuple[ToolCall, ...]
    replies: tuple[str, ...] = ()
    whole: bool = False
    usage: Usage | None = None
    anchor: str | None = None
    transcript: str | None = None
    first_text_ms: int = 0
    shown: tuple[str, ...] = ()
    steered: int = 0
    expires_ms: int = 0
    open: tuple[Asked, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class RunEnded:
    """The run is over.

    Attributes:
        status: `completed`, `incomplete`, `failed`, `cancelled` or `expired`.
        replies: The assistant's messages in this round.
        whole: `replies` and `usage` cover every round of the batch, not only this one.
        error: Set unless the status is `completed` or `incomplete`.
        retry_after_s: Seconds the provider asked to wait before the next attempt, a day at most;
            None if it did not say.
        counts: Whether a failure uses up an attempt (a rate limit does not).
        retryable: Whether the same batch can succeed later unchanged (a moderated prompt cannot).
            Of a run that failed for its length: whether less of the conversation can be read next
            time (`RunRequest.shortened`).
        trouble: The provider's error, None if it gave none.
        anchor: The id of the conversation's last item now, None if not known.
        model: The model that answered, by the provider's name; None if it is not named.
        first_text_ms: As in `ActionRequired`.
        steered: As in `ActionRequired`; None if it is not known.
        shown: As in `ActionRequired`; of items that were written without a run, their own ids.
    """

    run_id: str
    status: str
    replies: tuple[str, ...] = ()
    whole: bool = False
    usage: Usage | None = None
    incomplete_reason: str | None = None
    error: ErrorInfo | None = None
    retry_after_s: float | None = None
    counts: bool = True
    retryable: bool = True
    trouble: Trouble | None = None
    anchor: str | None = None
    model: str | None = None
    first_text_ms: int = 0
    steered: int | None = None
    shown: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "retry_after_s", bounded_wait(self.retry_after_s))


WRITTEN = (RunAccepted(run_id=""), RunEnded(run_id="", status="completed"))
"""Events of items that were written to the conversation without a run."""

RunEvent = RunAccepted | TextChunk | ActionRequired | RunEnded
"""Event of a run's stream: one `RunAccepted`, then deltas, then one `ActionRequired` or
`RunEnded`."""


@valueclass(frozen=True, slots=True, kw_only=True)
class NotFound:
    """The provider was asked and does not hold the batch, nor the outputs that were sent last.

    Attributes:
        anchor: The id of the conversation's last item now: another writer may have added items;
            None if there is none.
        holds_text: The provider's thread holds the batch's user text, without a run over it.
    """

    anchor: str | None = None
    holds_text: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Undecided:
    """The provider is still working on this conversation, perhaps on this batch.

    Ask again after another grace period.
    """


@valueclass(frozen=True, slots=True, kw_only=True)
class CannotAsk:
    """This provider cannot be asked. The batch is parked for an operator."""

    reason: str


Finding = RunAccepted | ActionRequired | RunEnded | NotFound | Undecided | CannotAsk
"""Answer of `find`: the run itself (follow it), its open calls, its end, or that there is none."""
