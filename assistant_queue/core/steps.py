"""Steps of a batch: requests of the flow to its driver, one frozen value each.

The driver's answer is named after the arrow.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import field

from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Asked, RunRequest
from assistant_queue.core.settlements import OpenCall
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import Batch, ErrorInfo, Message, RunResult, ToolCall
from assistant_queue.values import valueclass


@valueclass(frozen=True, slots=True, kw_only=True)
class Trim:
    """Give all but the first messages back to the thread. -> None"""

    keep: int


@valueclass(frozen=True, slots=True, kw_only=True)
class Join:
    """Let the waiting messages join the batch, and write how far it got. -> Joined

    Only those join with which it stays within the limits of the options. `event`: of which
    subscribers are notified, `run_interrupted` or `message_steered`, with `run_id`.
    """

    phase: Phase
    progress: Progress
    event: str
    run_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Joined:
    """The answer to `Join`.

    Attributes:
        messages: All messages of the batch.
        unreadable: Entries among them that are not messages.
    """

    messages: tuple[Message, ...]
    unreadable: int = 0


@valueclass(frozen=True, slots=True, kw_only=True)
class ReadRevisions:
    """Read the edits and removals of the batch's messages that are to be made. -> Revisions"""


@valueclass(frozen=True, slots=True, kw_only=True)
class Revisions:
    """The answer to `ReadRevisions`.

    Attributes:
        messages: By id, the messages as they are to be; None for one that is removed.
        count: Number of revisions, as it is stored.
    """

    messages: Mapping[str, Message | None]
    count: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Revise:
    """Store the messages that the batch has now, and how far it got. -> whether that was done

    It was not if there are more revisions meanwhile.
    """

    phase: Phase
    progress: Progress
    messages: tuple[Message, ...]
    revisions: Revisions


@valueclass(frozen=True, slots=True, kw_only=True)
class DeclineInterrupt:
    """Publish that the batch is not interrupted after all, and forget that wish. -> None"""

    reason: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Separate:
    """Ask the user's `separate_authors` callable. -> how many messages may share a run"""

    batch: Batch


@valueclass(frozen=True, slots=True, kw_only=True)
class OpenConversation:
    """Create a conversation for a mapped thread and remember it. -> (its id, its anchor or None)"""


@valueclass(frozen=True, slots=True, kw_only=True)
class Locate:
    """Ask for the conversation's end. -> the last item's id, or None"""

    conversation_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class RenewConversation:
    """Create a conversation that begins with the later half of the request's own.

    -> (its id, its anchor or None), None if nothing is left

    `calls`: the open calls with outputs to be submitted there; the items since the anchor go with
    them.
    """

    request: RunRequest
    calls: tuple[ToolCall, ...]


@valueclass(frozen=True, slots=True, kw_only=True)
class MoveThread:
    """Give the thread another conversation, and write how far the batch got with it.

    -> whether the thread has it now

    A thread that has another conversation than `old_id` keeps it. `is_new`: without the thread,
    nothing needs `conversation_id`. `drops_old`: nothing needs `old_id` any more.
    """

    old_id: str
    conversation_id: str
    anchor: str | None
    phase: Phase
    progress: Progress
    is_new: bool = False
    drops_old: bool = False


@valueclass(frozen=True, slots=True, kw_only=True)
class Instruct:
    """Ask the user's `default_instructions` callable. -> text or None"""

    batch: Batch


@valueclass(frozen=True, slots=True, kw_only=True)
class Save:
    """Write how far the batch got, before the next step. -> None

    `leaves`: the next step is a request that starts work. With `durability="replicated"` this is on
    a replica first, else NotReplicated. Subscribers are notified of the calls that are `asked` for
    with this step, and of those that were `answered` (their ids).
    """

    phase: Phase
    progress: Progress
    leaves: bool = False
    asked: tuple[ToolCall, ...] = ()
    answered: tuple[str, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class Start:
    """Send the batch. -> RunStarted, and the run's stream is open"""

    request: RunRequest


@valueclass(frozen=True, slots=True, kw_only=True)
class Submit:
    """Send the outputs of a tool round. -> RunStarted, and the stream is open"""

    request: RunRequest
    run_id: str
    calls: tuple[ToolCall, ...]
    outputs: Mapping[str, str]


@valueclass(frozen=True, slots=True, kw_only=True)
class Follow:
    """Find a known run's stream again. -> RunStarted, and the stream is open"""

    request: RunRequest
    run_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """Read the open stream to its end. -> ActionRequired or RunEnded"""

    deadline_ms: int


@valueclass(frozen=True, slots=True, kw_only=True)
class Find:
    """Ask the provider what became of a request. -> a Finding"""

    request: RunRequest
    run_id: str | None
    calls: tuple[ToolCall, ...]


@valueclass(frozen=True, slots=True, kw_only=True)
class CheckRun:
    """Look at a run in the background once. -> RunAccepted if it is in progress, else its event"""

    request: RunRequest
    run_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class AskForRoom:
    """Ask whether another run can be started in the background. -> seconds to wait, 0 for none"""


@valueclass(frozen=True, slots=True, kw_only=True)
class Cancel:
    """Stop a run, as far as the provider can. -> None; its failures are logged, not raised

    `patience_s`: the longest wait for it; None for the backend's own.
    """

    request: RunRequest
    run_id: str
    patience_s: float | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class CloseStream:
    """Close the open stream, if there is one. -> the texts of the run that were read of it

    Nothing more of the text is shown.
    """


@valueclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Call the user's tools. -> ToolsAnswered

    `approved`: by call id, the names that those were approved under, "" for none.
    """

    batch: Batch
    run_id: str
    calls: tuple[ToolCall, ...]
    approved: Mapping[str, str] = field(default_factory=dict)


@valueclass(frozen=True, slots=True, kw_only=True)
class ReadSettlements:
    """Read what came of calls that are answered from outside; deny the `expired` ones.

    -> Settlement by id, of those that were settled
    """

    ids: tuple[str, ...]
    expired: tuple[str, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class CloseCalls:
    """Remove the texts of calls that need no answer any more. -> None"""

    ids: tuple[str, ...]


@valueclass(frozen=True, slots=True, kw_only=True)
class ToolsAnswered:
    """The answer to `Answer`.

    Attributes:
        outputs: By call id, strings, one for each call that is not `open`.
        rows: The calls with their durations, in the order in which they ended.
        open: The calls that are answered from outside.
    """

    outputs: Mapping[str, str]
    rows: tuple[ToolRow, ...] = ()
    open: tuple[Asked, ...] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class EnterExclusive:
    """Wait until no other suspect runs user code in this process. -> None

    The next of the user's functions is called exclusively.
    """


@valueclass(frozen=True, slots=True, kw_only=True)
class FallBack:
    """Ask the user's `fallback_reply` callable. -> text, or None if it has none, or raised"""

    batch: Batch
    error: ErrorInfo


@valueclass(frozen=True, slots=True, kw_only=True)
class Finish:
    """Store the results unless they are stored, give the thread back. -> None

    `delivers`: the reply joins the outbox. `undelivered`: why it cannot; the driver logs it.
    """

    result: RunResult
    anchor: str | None
    delivers: bool = False
    undelivered: ErrorInfo | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class Stop:
    """End a batch that was to be stopped, give the thread back. -> None

    `keep_anchor`: nothing of it is in the conversation. `open_calls`: calls without outputs there.
    """

    result: RunResult
    anchor: str | None
    keep_anchor: bool = False
    open_calls: Sequence[str] = ()


@valueclass(frozen=True, slots=True, kw_only=True)
class Postpone:
    """Give the thread back; the same batch is looked at again after a wait. -> None

    `failed`: the error of the attempt that ends with this; None if none was made.
    """

    state: ThreadState
    wait_s: float
    phase: Phase
    progress: Progress
    failed: ErrorInfo | None = None


@valueclass(frozen=True, slots=True, kw_only=True)
class AwaitRun:
    """Give the thread back while the provider works on the batch's run. -> None

    `run_id`: "" for a batch that waits to be sent. `wait_s`: until it is looked at, longer if many
    runs are at work; never longer than `most_s`.
    """

    run_id: str
    wait_s: float
    most_s: float
    phase: Phase
    progress: Progress


@valueclass(frozen=True, slots=True, kw_only=True)
class ParkBatch:
    """Give the thread back; the batch waits for `calls`, or for its run. -> whether it did

    It did not if a call of another batch has the id of one of them. `new`: how many of them were not
    asked for before.
    """

    wait_s: float
    phase: Phase
    progress: Progress
    calls: tuple[OpenCall, ...] = ()
    new: int = 0


@valueclass(frozen=True, slots=True, kw_only=True)
class Bury:
    """Put the batch on the failed list, give the thread back. -> None

    `fallback` is the text that is sent instead of a reply; `result`, if there is one, joins the
    outbox with it. `even_stopped`: also if the batch is to be stopped.
    """

    reason: str
    error: ErrorInfo
    progress: Progress
    open_calls: Sequence[str]
    fallback: str | None = None
    result: RunResult | None = None
    even_stopped: bool = False


Step = (
    Trim
    | Join
    | ReadRevisions
    | Revise
    | DeclineInterrupt
    | Separate
    | OpenConversation
    | Locate
    | RenewConversation
    | MoveThread
    | Instruct
    | Save
    | Start
    | Submit
    | Follow
    | Watch
    | Find
    | CheckRun
    | AskForRoom
    | Cancel
    | CloseStream
    | Answer
    | ReadSettlements
    | CloseCalls
    | EnterExclusive
    | FallBack
    | Finish
    | Stop
    | Postpone
    | AwaitRun
    | ParkBatch
    | Bury
)


@valueclass(frozen=True, slots=True, kw_only=True)
class Completed:
    """The batch ended in a completed run; its reply is in the outbox."""

    result: RunResult


@valueclass(frozen=True, slots=True, kw_only=True)
class Failed:
    """The batch ended in the failed list."""

    reason: str
    error: ErrorInfo
    progress: Progress


@valueclass(frozen=True, slots=True, kw_only=True)
class Stopped:
    """The batch was stopped; nothing of it is delivered."""

    result: RunResult


@valueclass(frozen=True, slots=True, kw_only=True)
class Postponed:
    """The batch is not over; it will be looked at again.

    Attributes:
        state: `retrying` or `held`.
        error: The failure that it waits for.
    """

    state: ThreadState
    error: ErrorInfo


@valueclass(frozen=True, slots=True, kw_only=True)
class AtWork:
    """The batch is parked while the provider works on it; `run_id` is "" if it waits to be sent."""

    run_id: str


@valueclass(frozen=True, slots=True, kw_only=True)
class Parked:
    """The batch waits without a worker.

    Attributes:
        calls: The calls for which it waits; none if it waits for its run.
        new: Those of them that were not asked for before.
    """

    calls: tuple[OpenCall, ...] = ()
    new: tuple[OpenCall, ...] = ()


Ending = Completed | Failed | Stopped | Postponed | AtWork | Parked
