"""Counts of the steps that end something: made here, added up in Redis by the script of the step.

A step is counted in the branch of its script that runs once, whatever calls are repeated or come
late (`store/lua/_counts.lua`). Here stands what is counted: names of fields, and labels that are
quoted, so that they contain no `:` and no `*`. `store/ops/measuring.py` reads them.

Fields of the hash `metrics`, all of them integers
    a:requested, a:KIND tool calls that were to be answered from outside, and how they were:
                        approved, denied, answered, expired
    p:taken_over, p:handed_back
                        threads that a person took over, and that were handed back
    b:OUTCOME           batches that were sent: completed, incomplete, failed,
                        stopped
    m:failed            messages of failed batches
    saved               messages that ended well, less one for each batch that was sent for them
    again               times that a batch was sent, less one for each batch
    e:CODE              attempts that ended with this error
    t:TOOL:n e ms       calls of a tool, those that failed, their durations together
    k:MODEL:TENANT:..   tokens: `a` input and output, `o` output, `c` cached, `w` written to the
                        cache, `r` reasoning
    d:CHANNEL:OUTCOME   tries of a delivery
    h:X:I, h:X:ms       durations in bucket I, and all of them together; X is in `DURATIONS`
    n:LABEL             different values of a label so far; what comes later is counted as `*`
    about               a text
    abandoned           calls of user code that exceeded their time
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from assistant_queue.core.account import first_queued_at, ms_of
from assistant_queue.core.compact_json import to_ascii_json
from assistant_queue.core.progress import Progress
from assistant_queue.core.window import is_never
from assistant_queue.models import Message, RunResult, Usage

if TYPE_CHECKING:
    from assistant_queue.core.flow.context import Claimed

DURATIONS = {
    "window_wait": "w",
    "queue_wait": "q",
    "first_token": "f",
    "run": "r",
    "delivery": "d",
    "end_to_end": "e",
}
"""Stored names of the durations."""

FIRST_BOUND_MS = 5
BOUNDS = tuple(FIRST_BOUND_MS * 2**power / 1000 for power in range(21))
"""Upper bounds of the buckets, seconds: 5 ms to 5,243 s, each twice the one before. Source: the
semantic conventions of OpenTelemetry for generative AI advise 0.01 s to 81.92 s in the same steps;
chosen: one step below for Redis, six above for batches that wait out an outage."""

MOST_LABELS = 100
"""Different tools, error codes and models, and pairs of channel and outcome, that are counted
apart. Chosen: more than a queue has unless something writes names at random."""
MOST_PAIRS = 200
"""Different pairs of model and tenant. Chosen: 1,000 series at most are read in some milliseconds."""
MOST_LABEL_CHARS = 128
"""Characters of a label. Source: the longest tenant; names of tools have 64 at most."""

OTHER = "*"
"""The stored label of what came when there were as many as are counted apart."""

USAGE_FIELDS = {
    "o": "output_tokens",
    "c": "cached_input_tokens",
    "w": "cache_write_tokens",
    "r": "reasoning_tokens",
}
"""Stored names of tokens, and those of `Usage`; `a` are input and output together, never 0."""


def stored_label(name: str) -> str:
    """Return a label as it is stored."""
    return quote(name[:MOST_LABEL_CHARS], safe="", errors="replace")


def label_of(stored: str) -> str:
    """Return a label as it was before it was stored; "other" for those beyond the bound."""
    return "other" if stored == OTHER else unquote(stored)


def bucket_of(ms: int) -> int:
    """Return the place of a duration's bucket."""
    # The bound of bucket n is FIRST_BOUND_MS * 2**n.
    over = -(-ms // FIRST_BOUND_MS) - 1
    return min(over.bit_length(), len(BOUNDS)) if over > 0 else 0


class Counts:
    """Increments of one step."""

    def __init__(self) -> None:
        """Count nothing yet."""
        self._plain: list[str] = []
        self._labelled: list[list[Any]] = []
        self._since: list[Any] = []

    def add(self, field: str, by: int = 1) -> None:
        """Add to a field; 0 adds nothing."""
        if by:
            self._plain += [field, str(by)]

    def add_labelled(self, values: Sequence[Any], *names: tuple[str, str, int], rest: str) -> None:
        """Add to the fields of a label.

        Args:
            values: Endings of the fields and numbers, in turn. The first number is not 0.
            names: The beginning of the fields, the label's kind and how many of the kind there may
                be. The next one is used if there are as many.
            rest: The beginning if there are as many of each.
        """
        self._labelled.append(
            [list(map(str, values)), *(word for name in names for word in name), rest]
        )

    def took(self, name: str, ms: int) -> None:
        """Add a duration."""
        field = f"h:{DURATIONS[name]}:"
        self._plain += [f"{field}{bucket_of(ms)}", "1"]
        if ms > 0:
            self._plain += [f"{field}ms", str(ms)]

    def took_since(self, name: str, at_ms: int) -> None:
        """Add the duration from a time of the store's to the step itself."""
        self._since += [DURATIONS[name], at_ms]

    def dump(self) -> str:
        """Return the form that `_counts.lua` reads; "" for nothing."""
        parts: dict[str, list[Any]] = {"n": self._plain}
        if self._labelled:
            parts["l"] = self._labelled
        if self._since:
            parts["s"] = self._since
        is_empty = len(parts) == 1 and not self._plain
        return "" if is_empty else to_ascii_json(parts)


def batch_answered(claimed: Claimed, result: RunResult, *, delivers: bool) -> Counts:
    """Return the counts of a batch that ended well.

    Args:
        claimed: The batch as it was claimed, with its progress.
        result: Its result, with the messages that it answers.
        delivers: Its reply joins the outbox.
    """
    counts = Counts()
    messages = _of_users(result.messages)
    if _is_written(result):
        counts.add("saved", messages)
        return counts
    counts.add(f"b:{result.status}")
    counts.add("saved", messages - 1)
    counts.add("again", result.attempts - 1)
    queued_ms = _count_start(counts, claimed, result.messages)
    ended_ms = ms_of(result.ended_at)
    counts.took("run", ended_ms - claimed.claimed_ms)
    if queued_ms and not delivers:
        counts.took("end_to_end", ended_ms - queued_ms)
    _count_tools(counts, claimed.progress)
    _count_tokens(counts, result.usage, result.model, result.tenant)
    return counts


def batch_stopped(claimed: Claimed, result: RunResult) -> Counts:
    """Return the counts of a batch that was stopped; arguments as of `batch_answered`."""
    counts = Counts()
    counts.add("b:stopped")
    counts.add("again", max(result.attempts - 1, 0))
    _count_start(counts, claimed, result.messages)
    counts.took("run", ms_of(result.ended_at) - claimed.claimed_ms)
    _count_tools(counts, claimed.progress)
    _count_tokens(counts, result.usage, result.model, result.tenant)
    return counts


def batch_failed(
    claimed: Claimed,
    progress: Progress,
    error_code: str,
    message_ids: Sequence[str],
    *,
    delivers: bool,
) -> Counts:
    """Return the counts of a batch that goes to the failed list, and of its last attempt.

    Args:
        claimed: The batch as it was claimed.
        progress: How far it got.
        error_code: Of the error that ended it.
        message_ids: Its messages, without those that did not fit.
        delivers: A fallback joins the outbox.
    """
    counts = Counts()
    taken = set(message_ids)
    messages = tuple(one for one in claimed.batch.messages if one.id in taken)
    counts.add("m:failed", _of_users(messages))
    counts.add("b:failed")
    counts.add("again", progress.attempts - 1)
    _count_error(counts, error_code)
    queued_ms = _count_start(counts, claimed, messages)
    counts.took_since("run", claimed.claimed_ms)
    if queued_ms and not delivers:
        counts.took_since("end_to_end", queued_ms)
    _count_tools(counts, progress)
    model = progress.usage.model if progress.usage else None
    _count_tokens(counts, progress.usage, model, claimed.batch.tenant)
    return counts


def calls_asked(count: int) -> Counts:
    """Return the counts of tool calls for which a batch parks."""
    counts = Counts()
    counts.add("a:requested", count)
    return counts


def call_settled(kind: str) -> Counts:
    """Return the counts of a tool call that was settled from outside."""
    counts = Counts()
    counts.add(f"a:{kind}")
    return counts


def answered_by_person(change: str) -> Counts:
    """Return the counts of a thread that a person takes over, or hands back."""
    counts = Counts()
    counts.add(f"p:{change}")
    return counts


def batch_quarantined(error_code: str) -> Counts:
    """Return the counts of a batch with stored progress that cannot be read; it has failed.

    Its messages are counted by the script, which alone has them. Its durations are not known, and
    neither is how often it was sent: as if once.
    """
    counts = Counts()
    counts.add("b:failed")
    _count_error(counts, error_code)
    return counts


def attempt_failed(error_code: str) -> Counts:
    """Return the counts of an attempt that failed, while its batch will be tried again."""
    counts = Counts()
    _count_error(counts, error_code)
    return counts


def delivery_tried(
    channel: str, outcome: str, *, since_ms: int = 0, result: RunResult | None = None
) -> Counts:
    """Return the counts of one try to deliver a reply.

    Args:
        channel: Name of the channel, or `on_reply`.
        outcome: `delivered`, `retried`, `undelivered` or `unknown`.
        since_ms: Of a reply that was delivered: since when it waited, by the store's clock.
        result: The same reply; None if it cannot be read.
    """
    counts = Counts()
    counts.add_labelled(
        ("", 1),
        (f"d:{stored_label(channel)}:{outcome}", "channels", MOST_LABELS),
        rest=f"d:{OTHER}:{outcome}",
    )
    if outcome == "delivered" and since_ms:
        counts.took_since("delivery", since_ms)
        queued_at = first_queued_at(result.messages) if result else None
        if queued_at:
            counts.took_since("end_to_end", ms_of(queued_at))
    return counts


def _of_users(messages: Sequence[Message]) -> int:
    """Count the messages, without replies of `say`."""
    return sum(message.role != "assistant" for message in messages)


def _is_written(result: RunResult) -> bool:
    """Whether no run answered the batch: it was written to the conversation, or to the history."""
    return not result.run_id and not any(message.wants_reply for message in result.messages)


def _count_start(counts: Counts, claimed: Claimed, messages: Sequence[Message]) -> int:
    """Count the durations until the first text; return when the first message was accepted, ms."""
    progress = claimed.progress
    queued_ms = ms_of(first_queued_at(messages))
    due_ms = 0 if is_never(claimed.due_ms) else claimed.due_ms
    if queued_ms and due_ms:
        counts.took("window_wait", due_ms - queued_ms)
    if due_ms:
        counts.took("queue_wait", claimed.claimed_ms - due_ms)
    if progress.first_text_ms and progress.run_sent_ms:
        counts.took("first_token", progress.first_text_ms - progress.run_sent_ms)
    return queued_ms


def _count_error(counts: Counts, code: str) -> None:
    counts.add_labelled(
        ("", 1), (f"e:{stored_label(code)}", "errors", MOST_LABELS), rest=f"e:{OTHER}"
    )


def _count_tools(counts: Counts, progress: Progress) -> None:
    for name in dict.fromkeys(row.name for row in progress.tools):
        rows = [row for row in progress.tools if row.name == name]
        values: list[Any] = [":n", len(rows)]
        failed = sum(bool(row.error) for row in rows)
        ms = sum(row.ms for row in rows)
        values += [":e", failed] if failed else []
        values += [":ms", ms] if ms > 0 else []
        counts.add_labelled(
            values, (f"t:{stored_label(name)}", "tools", MOST_LABELS), rest=f"t:{OTHER}"
        )


def _count_tokens(
    counts: Counts, usage: Usage | None, model: str | None, tenant: str | None
) -> None:
    both = usage.input_tokens + usage.output_tokens if usage else 0
    if usage is None or both <= 0:
        return
    values: list[Any] = [":a", both]
    for short, name in USAGE_FIELDS.items():
        count = getattr(usage, name)
        values += [f":{short}", count] if count > 0 else []
    named = f"k:{stored_label(model or '')}"
    counts.add_labelled(
        values,
        (f"{named}:{stored_label(tenant or '')}", "tenants", MOST_PAIRS),
        (f"{named}:{OTHER}", "models", MOST_LABELS),
        rest=f"k:{OTHER}:{OTHER}",
    )
