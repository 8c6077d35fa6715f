"""Why a message has no answer (yet): verdicts with their advice as a table, and their words. Pure.

`verdicts.py` chooses among them; `docs/troubleshooting.md` shows the table.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import field
from types import MappingProxyType

from assistant_queue.core.account import time_of
from assistant_queue.core.progress import moment
from assistant_queue.models import ErrorInfo, Explanation, ExplanationVerdict
from assistant_queue.values import valueclass

_MOST_ERROR = 300
"""Characters of an error in a sentence. Chosen: a paragraph; `error` has all of it."""


_SPANS = (
    (9_950, 1000, "s", 1),
    (120_000, 1000, "s", 0),
    (7_200_000, 60_000, "min", 0),
    (172_800_000, 3_600_000, "h", 0),
    (0, 86_400_000, "days", 0),
)
"""Forms of a length of time: its limit in ms, ms of the unit, the unit, digits after the point."""


@valueclass(frozen=True, slots=True)
class Meaning:
    """Meaning of a verdict.

    Attributes:
        title: The verdict in words.
        advice: What to do, as sentences; `{thread}`, `{message}` and `{batch}` stand for the ids.
    """

    title: str
    advice: str


_V = ExplanationVerdict

MEANINGS: Mapping[ExplanationVerdict, Meaning] = MappingProxyType(
    {
        _V.WINDOW_OPEN: Meaning(
            "the window of the thread is open",
            "Wait for its end. If it is too long: shorten `message_delay` (seconds), or set"
            " `max_batch_size`.",
        ),
        _V.NO_REPLY_WANTED: Meaning(
            "only messages that want no reply wait",
            "It is answered with the next message of the thread that wants a reply.",
        ),
        _V.QUEUE_PAUSED: Meaning(
            "the queue is paused", "Run `assistant-queue resume` if nothing speaks against it."
        ),
        _V.THREAD_PAUSED: Meaning(
            "the thread is paused",
            'Run `assistant-queue resume {thread}`. With `after_failure="pause"` a failed batch'
            " pauses its thread: see `assistant-queue failed` first.",
        ),
        _V.TAKEN_OVER: Meaning(
            "a person answers the thread",
            "Wait for that person; `assistant-queue hand-back {thread}` has the model answer.",
        ),
        _V.BACKING_OFF: Meaning(
            "the last attempt failed, and the next one waits",
            "Remove the cause of the error; the next attempt is made by itself.",
        ),
        _V.HELD: Meaning(
            "it is not known whether the provider accepted the batch",
            "Wait: the provider is asked after the grace, and nothing is sent twice.",
        ),
        _V.WAITS_FOR_ANSWER: Meaning(
            "a tool call waits for an answer from outside",
            "Look at `assistant-queue approvals`; approve, deny or answer the call.",
        ),
        _V.IN_BACKGROUND: Meaning(
            "the provider works on it in the background",
            "Wait: it is looked at again when the provider says that it ended, and at the latest"
            " then.",
        ),
        _V.DIRECT_CALL: Meaning(
            "a direct call of a program holds the thread",
            "Wait for its end; its lease expires if that program died.",
        ),
        _V.DUE: Meaning(
            "it is due, and no worker took it yet",
            "Ask again in a few seconds. If it stays so, run `assistant-queue doctor`, as a user of"
            " Redis that may look at the workers.",
        ),
        _V.NO_WORKER: Meaning(
            "no worker is alive",
            "Start `assistant-queue worker`, with the `redis_url` and the `queue_prefix` of the"
            " program that adds the messages.",
        ),
        _V.WORKERS_SUSPENDED: Meaning(
            "the workers are suspended by RQ", "Run `rq resume` with the URL of this Redis."
        ),
        _V.WORKERS_FULL: Meaning(
            "it stands in line, and all workers are busy",
            "Raise `--concurrency`, or start more workers. If few runs are in progress, look for"
            " functions that take long.",
        ),
        _V.WAKE_UP_LOST: Meaning(
            "its wake-up was lost with a worker or a connection",
            "Wait: a live worker of this package writes another one within two seconds. With RQ's"
            " own workers alone, run `assistant-queue sweep --once`.",
        ),
        _V.RUNNING: Meaning(
            "the model is answering",
            "Wait: `run_timeout` ends the attempt. Limit long answers with `max_output_tokens` in"
            " `run_options`.",
        ),
        _V.USER_CODE: Meaning(
            "a function of yours is running",
            "If it takes too long: give the clients that it uses time-outs, and the tool a"
            " `timeout`.",
        ),
        _V.STOPPING: Meaning(
            "the answer is being stopped",
            "Wait: its messages end as cancelled once the run is over. Those that only wait are"
            " answered next.",
        ),
        _V.WORKER_LOST: Meaning(
            "its worker died, or was stopped for too long",
            "Wait: another worker continues within two seconds after the lease. If that happens"
            " often, look for killed workers (memory, deploys).",
        ),
        _V.FAILED: Meaning(
            "its batch is in the failed list",
            "Remove the cause, then run `assistant-queue failed retry {batch}`, or discard it.",
        ),
        _V.PARKED: Meaning(
            "it cannot be found out whether the provider accepted its batch",
            "Read the conversation first. If it has no answer, run"
            " `assistant-queue failed retry {batch}`; else discard it.",
        ),
        _V.DISCARDED: Meaning(
            "its batch failed, and was discarded",
            "Add the message again, under another id, if it still matters.",
        ),
        _V.CANCELLED: Meaning(
            "it was cancelled before it was sent", "Add it again, under another id."
        ),
        _V.STOPPED: Meaning(
            "the answer to it was stopped", "Add it again, under another id, if it still matters."
        ),
        _V.ANSWERED: Meaning(
            "it was answered, and nothing delivers the reply",
            "Read it with `get_message` or `wait_for_reply`. For a delivery, give the worker"
            " `on_reply`, or a channel with the name before the colon of the thread id.",
        ),
        _V.EMPTY_REPLY: Meaning(
            "the model said nothing",
            "Look at the instructions and at `max_output_tokens`; a `fallback_reply` answers"
            " instead.",
        ),
        _V.WRITTEN: Meaning(
            "it is in the conversation, and no run answers it",
            "The model reads it with the next message of the thread that wants a reply. Add one if"
            " it is to answer.",
        ),
        _V.DELIVERING: Meaning(
            "it was answered, and the reply is being delivered",
            "Wait. If it takes long, the platform or your `on_reply` does.",
        ),
        _V.DELIVERY_RETRYING: Meaning(
            "it was answered, and the last try to deliver the reply failed",
            "Remove the cause of the error; it is tried again by itself, for `delivery_for`.",
        ),
        _V.DELIVERY_WAITS: Meaning(
            "it was answered, and the reply waits for its turn",
            "Wait. If workers are alive and it stays so: give them `on_reply` or the channel of the"
            " thread, or raise `delivery_concurrency`.",
        ),
        _V.UNDELIVERED: Meaning(
            "it was answered, and the reply cannot be delivered",
            "Remove the cause, then run `assistant-queue failed retry {batch}`: it delivers without"
            " asking the model.",
        ),
        _V.DELIVERY_UNKNOWN: Meaning(
            "it was answered, and it is not known whether the platform has the reply",
            "Look at the platform first. If the reply is not there, run"
            " `assistant-queue failed retry {batch}`; else discard it.",
        ),
        _V.DELIVERED: Meaning(
            "it was answered, and the reply was delivered",
            "Search on the platform, or in your `on_reply`.",
        ),
        _V.IDLE: Meaning(
            "nothing waits in the thread",
            "Ask by the id of the message; compare the prefix if there should be one.",
        ),
        _V.UNKNOWN: Meaning(
            "there is no record of this id",
            "It was never added here, or its record has expired (`result_ttl`, a day). Compare"
            " `redis_url`, its database and `queue_prefix` with those of the program that adds.",
        ),
    }
)
"""Title and advice of each verdict."""


@valueclass(frozen=True, slots=True, kw_only=True)
class Judgement:
    """A verdict with its evidence, before it is put into words.

    Attributes:
        verdict: The verdict.
        because: Clauses without a full stop, in order.
        since_ms: When it began; 0 if that is not known.
        until_ms: When it ends by itself, or is looked at next; 0 if it does not.
        batch_id: The batch that it depends on; "" for none.
        error: The failure.
        evidence: For programs; values that are None or "" are left out.
    """

    verdict: ExplanationVerdict
    because: tuple[str, ...]
    since_ms: int = 0
    until_ms: int = 0
    batch_id: str = ""
    error: ErrorInfo | None = None
    evidence: Mapping[str, str | int | float | bool | None] = field(default_factory=dict)


def in_words(judgement: Judgement, *, thread_id: str | None, message_id: str | None) -> Explanation:
    """Return the explanation that `explain` returns."""
    meaning = MEANINGS[judgement.verdict]
    advice = meaning.advice.format(
        thread=shlex.quote(thread_id or ""),
        message=shlex.quote(message_id or ""),
        batch=shlex.quote(judgement.batch_id),
    )
    return Explanation(
        verdict=judgement.verdict,
        because="; ".join(clause for clause in judgement.because if clause),
        since=time_of(judgement.since_ms),
        until=time_of(judgement.until_ms),
        advice=advice.replace("`", ""),
        title=meaning.title,
        thread_id=thread_id,
        message_id=message_id,
        batch_id=judgement.batch_id or None,
        error=judgement.error,
        evidence={
            name: value
            for name, value in judgement.evidence.items()
            if value is not None and value != ""
        },
    )


def clock_time(at_ms: int) -> str:
    """Return a time for a sentence."""
    return f"{moment(at_ms):%Y-%m-%d %H:%M:%S} UTC"


def span(length_ms: int) -> str:
    """Return a length of time for a sentence: `3.2 s`, `5 min`, `2 h`, `3 days`."""
    length = max(length_ms, 0)
    shown = next((words for words in _SPANS if length < words[0]), _SPANS[-1])
    _, unit_ms, unit, digits = shown
    return f"{length / unit_ms:.{digits}f} {unit}"


def in_future(at_ms: int, now_ms: int) -> str:
    """Return a coming time for a sentence: when, and in how long."""
    return f"{clock_time(at_ms)} (in {span(at_ms - now_ms)})"


def for_so_long(since_ms: int, now_ms: int) -> str:
    """Return a past time for a sentence: since when, and for how long."""
    return f"since {clock_time(since_ms)} ({span(now_ms - since_ms)})"


def error_words(error: ErrorInfo | None) -> str:
    """Return an error for a sentence."""
    if error is None:
        return "no reason is known"
    line = " ".join(error.message.split()).rstrip(".")
    shown = line if len(line) <= _MOST_ERROR else f"{line[: _MOST_ERROR - 1]}…"
    return f"{error.code}: {shown}" if shown else error.code
