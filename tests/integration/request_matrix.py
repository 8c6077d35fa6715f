"""Outcomes of a batch after its request goes wrong.

The table of docs/reliability.md, and the rows that test_request_matrix.py asks for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from assistant_queue.testing.provider import (
    Never,
    Personality,
    Reply,
    RunFailure,
    cut_stream,
    drop_connection,
    expire_now,
    never_answer,
    refuse,
    reply_with,
    vanish,
    work_then_refuse,
)
from assistant_queue.testing.provider.actions import Action, CutStream, Silence

UNHURRIED_S = 20.0
"""`request_timeout` and `stream_idle_timeout` where nothing is to time out, however busy the
machine is."""
HURRIED_S = 0.4
"""`request_timeout` where no answer comes, and the second try has all the time there is."""
GRACE_MARGIN_S = 5.0
SHORT_RUN_S = 1.5
"""`run_timeout` of a run that does not end: it must begin within."""
BACKOFF_S = 3.0
BOTH = ("responses", "assistants")

SAID = "You said: one | two"
"""The stand-in says it in two pieces, the second begins with the first message's text."""
ACCENTED = reply_with(Reply("voil\u00e0"))
LAST_EVENT = rb"event: (response|thread\.run)\.completed|\"finish_reason\":\"stop\""

CLOSED = "http://127.0.0.1:{closed}/v1"
NO_SUCH_NAME = "http://nobody.invalid/v1"
NOT_TLS = "https://127.0.0.1:{open}/v1"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One outcome of the request that starts a run.

    Attributes:
        outcome: What happens.
        actions: How the stand-in does it.
        address: Where the provider is looked for meanwhile; None: where it is.
        times: How often it goes wrong.
        request_timeout_s: Until the worker gives the batch back; then `UNHURRIED_S`.
        retry_for_s: For how long passing trouble does not count.
        run_timeout_s: The same.
        lost: From then on the provider cannot be reached.
        then: The thread's state when the worker gives the batch back for the first time; `failed`
            where it goes to the failed list at once, `done` where it is answered.
        wait_s: For how long it is given back.
        counted: Failures counted by then.
        end: `completed`, or the reason in the failed list.
        attempts: What the message's status says at the end.
        requests: Requests to start a run that reached the provider.
        runs: Runs that it accepted.
        protocols: Where this can happen.
        reply: What the batch is answered with, if it is.
        orderly: It is all the same if the answer ends as if it were whole, as some proxies make it:
            tried, too.
        personality: The server's ways; None: those of the strict one.
        stream_idle_timeout_s: Until the worker gives the batch back; then `UNHURRIED_S`.
    """

    outcome: str
    actions: tuple[Action, ...] = ()
    address: str | None = None
    times: int = 1
    lost: bool = False
    request_timeout_s: float = UNHURRIED_S
    run_timeout_s: float = 60.0
    retry_for_s: float = 120.0
    then: str = "retrying"
    wait_s: float | None = BACKOFF_S
    counted: int = 1
    end: str = "completed"
    attempts: int = 2
    requests: int = 2
    runs: int = 1
    protocols: tuple[str, ...] = BOTH
    reply: str = SAID
    orderly: bool = False
    personality: Personality | None = None
    stream_idle_timeout_s: float = UNHURRIED_S


def _unreached(outcome: str, address: str) -> Row:
    return Row(
        outcome=outcome,
        address=address,
        request_timeout_s=HURRIED_S,
        counted=0,
        attempts=1,
        requests=1,
    )


def _refused(outcome: str, *actions: Action, counted: int = 0, wait_s: float = BACKOFF_S) -> Row:
    return Row(
        outcome=outcome, actions=actions, counted=counted, wait_s=wait_s, attempts=1 + counted
    )


def _final(outcome: str, *actions: Action, end: str = "refused") -> Row:
    """It would be refused again, so it is sent once."""
    return Row(
        outcome=outcome,
        actions=actions,
        then="failed",
        wait_s=None,
        counted=0,
        end=end,
        attempts=1,
        requests=1,
        runs=0,
    )


def _passing(outcome: str, *actions: Action, wait_s: float | None = None) -> Row:
    """It may have been accepted; where it was not, sending it again is no further attempt."""
    row = _unknown(outcome, *actions)
    return replace(row, attempts=1, wait_s=row.wait_s if wait_s is None else wait_s)


def _unknown(outcome: str, *actions: Action) -> Row:
    limit_s = _limit_s(actions)
    return Row(
        outcome=outcome,
        actions=actions,
        request_timeout_s=limit_s,
        then="held",
        wait_s=limit_s + GRACE_MARGIN_S,
        counted=0,
    )


def _adopted(outcome: str, *actions: Action) -> Row:
    return replace(_unknown(outcome, *actions), attempts=1, requests=1)


def _limit_s(actions: Sequence[Action]) -> float:
    return (
        HURRIED_S
        if any(isinstance(action, Silence) and not action.drop for action in actions)
        else UNHURRIED_S
    )


def _heard(outcome: str, *actions: Action) -> Row:
    """The run has a name, or all of it was heard: no worker lets go of it."""
    reply = "voil\u00e0" if ACCENTED in actions else SAID
    return Row(
        outcome=outcome,
        actions=actions,
        then="done",
        wait_s=None,
        counted=0,
        attempts=1,
        requests=1,
        reply=reply,
        orderly=True,
    )


def _left(status: Any) -> Row:
    """Foreground work may end with its reader, or with its server, and nothing says so.

    The first request asks for the background.
    """
    return Row(
        outcome=f"the run is left `in_progress` for ever, its cancelling is refused with {status}",
        actions=(cut_stream(after_events=2), reply_with(Never())),
        personality=Personality(background="refused", foreground="stops", foreground_cancel=status),
        stream_idle_timeout_s=HURRIED_S,
        requests=3,
        runs=2,
        protocols=("responses",),
    )


def _failed(
    outcome: str, *actions: Action, protocols: tuple[str, ...] = BOTH, run_timeout_s: float = 60.0
) -> Row:
    return Row(
        outcome=outcome, actions=actions, runs=2, protocols=protocols, run_timeout_s=run_timeout_s
    )


CUT_BEFORE_ITS_NAME: list[tuple[str, tuple[Action, ...]]] = [
    ("the stream is cut before any byte of its body", (cut_stream(after_events=0),)),
    ("the stream is cut at its first bytes", (cut_stream(after_bytes=20),)),
]
CUT_AFTER_ITS_NAME: list[tuple[str, tuple[Action, ...]]] = [
    ("the stream is cut after the run's id", (cut_stream(after_events=1),)),
    ("the stream is cut in the middle of a line", (cut_stream(at=b"You said"),)),
    ("the stream is cut in the middle of a character", (cut_stream(at=b"\xa0"), ACCENTED)),
    ("the stream is cut between two pieces of the reply", (cut_stream(before=rb"one \| two"),)),
    ("the stream is cut just before its last event", (cut_stream(before=LAST_EVENT),)),
]
CUT_AT_ITS_END = (
    "the stream is cut between its last event and its end",
    (cut_stream(after=LAST_EVENT),),
)
"""`[DONE]`, the usage of a chat completion, or the end of the body is missing."""

NAMES_A_FIELD = {
    "error": {
        "message": "Invalid value.",
        "type": "invalid_request_error",
        "param": "temperature",
        "code": None,
    }
}

ROWS = [
    _unreached("the connection is refused", CLOSED),
    _unreached("no such name (DNS)", NO_SUCH_NAME),
    _unreached("no TLS where it should be", NOT_TLS),
    _final("400", refuse(400, body=NAMES_A_FIELD)),
    Row(
        outcome="400 that names nothing, after a history",
        actions=(refuse(400),),
        then="done",
        wait_s=None,
        counted=0,
        attempts=1,
        requests=2,
        protocols=("responses",),
    ),
    _final("401", refuse(401)),
    _final("400, the prompt is moderated", refuse(400, "content_filter")),
    _final("404, the model is not known", refuse(404, "model_not_found")),
    _final("404", refuse(404), end="unknown_thread"),
    _unknown("408", refuse(408)),
    _unknown("409", refuse(409)),
    _refused("400 or 409 `conversation_locked`", refuse(409, "conversation_locked")),
    _refused(
        "400, the thread has an active run",
        refuse(400, message="Can't add messages to thread_1 while a run run_1 is active."),
    ),
    _refused("429", refuse(429, "rate_limit_exceeded")),
    _refused(
        "429 with `Retry-After: 7`", refuse(429, "rate_limit_exceeded", retry_after=7), wait_s=7.0
    ),
    _refused("425", refuse(425)),
    _refused("498", refuse(498)),
    _refused("400 with `Retry-After: 7`", refuse(400, retry_after=7), wait_s=7.0),
    _final("429 `insufficient_quota`", refuse(429, "insufficient_quota")),
    _unknown("500", refuse(500)),
    Row(
        outcome="500, again and again",
        actions=(refuse(500),),
        times=9,
        then="held",
        wait_s=UNHURRIED_S + GRACE_MARGIN_S,
        counted=0,
        end="attempts",
        attempts=3,
        requests=3,
        runs=0,
    ),
    _passing("502", refuse(502)),
    _passing("503", refuse(503)),
    _passing("504", refuse(504)),
    _passing("529", refuse(529)),
    _passing("503 with `Retry-After: 90`", refuse(503, retry_after=90), wait_s=90.0),
    _passing("500 with `Retry-After: 90`", refuse(500, retry_after=90), wait_s=90.0),
    _unknown("time-out, not accepted", never_answer(accept=False)),
    _adopted("time-out, accepted", never_answer(accept=True)),
    _unknown("the connection is lost, not accepted", drop_connection(accept=False)),
    _adopted("the connection is lost, accepted", drop_connection(accept=True)),
    *(
        replace(_adopted(outcome, *actions), orderly=True)
        for outcome, actions in CUT_BEFORE_ITS_NAME
    ),
    replace(
        _adopted(
            "accepted or not, and then the provider cannot be asked", never_answer(accept=True)
        ),
        lost=True,
        run_timeout_s=1.0,
        retry_for_s=4.0,
        end="parked",
    ),
    *(_heard(outcome, *actions) for outcome, actions in CUT_AFTER_ITS_NAME),
    _heard(CUT_AT_ITS_END[0], *CUT_AT_ITS_END[1]),
    _failed("`failed` inside 200", reply_with(RunFailure())),
    _failed(
        "the run does not end within `run_timeout`", reply_with(Never()), run_timeout_s=SHORT_RUN_S
    ),
    _failed("the run expires", expire_now(), protocols=("assistants",)),
    _failed("the run vanishes", vanish()),
    *(_left(status) for status in (400, 404, 409)),
]

CHAT = ("chat_completions",)


def _again(
    outcome: str, *actions: Action, runs: int = 2, run_timeout_s: float = 60.0, attempts: int = 2
) -> Row:
    """Nothing is kept there: a failure like another, whether it was accepted or not."""
    limit_s = _limit_s(actions)
    return Row(
        outcome=outcome,
        actions=actions,
        runs=runs,
        request_timeout_s=limit_s,
        run_timeout_s=run_timeout_s,
        protocols=CHAT,
        attempts=attempts,
    )


def _waited_out(outcome: str, *actions: Action, wait_s: float = BACKOFF_S) -> Row:
    """There is no question to ask first, and no attempt is used up."""
    return replace(_refused(outcome, *actions, wait_s=wait_s), protocols=CHAT)


def _means_the_same(row: Row) -> bool:
    """Refusals, and requests that never left."""
    return (row.then == "retrying" and row.runs == 1) or row.end == "refused"


CHAT_ROWS = [
    *(replace(row, protocols=CHAT) for row in ROWS if _means_the_same(row)),
    _waited_out("404", refuse(404)),
    _again("408", refuse(408), runs=1),
    _again("500", refuse(500), runs=1),
    Row(
        outcome="500, again and again",
        actions=(refuse(500),),
        times=9,
        end="attempts",
        attempts=3,
        requests=3,
        runs=0,
        protocols=CHAT,
    ),
    _waited_out("502", refuse(502)),
    _waited_out("503", refuse(503)),
    _waited_out("504", refuse(504)),
    _waited_out("529", refuse(529)),
    _waited_out("503 with `Retry-After: 90`", refuse(503, retry_after=90), wait_s=90.0),
    _waited_out("500 with `Retry-After: 90`", refuse(500, retry_after=90), wait_s=90.0),
    _again("time-out, not accepted", never_answer(accept=False), runs=1),
    _again("time-out, accepted", never_answer(accept=True)),
    replace(
        _heard("the connection is lost, not accepted", drop_connection(accept=False)),
        requests=2,
        protocols=CHAT,
        orderly=False,
    ),
    replace(
        _heard("the connection is lost, accepted", drop_connection(accept=True)),
        requests=2,
        runs=2,
        protocols=CHAT,
        orderly=False,
    ),
    replace(
        _again("the connection is lost twice", drop_connection(accept=False), runs=1),
        times=2,
        requests=3,
    ),
    *(
        replace(_again(outcome, *actions), orderly=True)
        for outcome, actions in (*CUT_BEFORE_ITS_NAME, *CUT_AFTER_ITS_NAME)
    ),
    replace(_heard(CUT_AT_ITS_END[0], *CUT_AT_ITS_END[1]), protocols=CHAT),
    _again("`failed` inside 200", reply_with(RunFailure())),
    _again(
        "the run does not end within `run_timeout`", reply_with(Never()), run_timeout_s=SHORT_RUN_S
    ),
]
"""The same for a provider that keeps nothing."""

FOUND = "found"
AGAIN = "sent again"
PARKED = "parked"
OPEN = f"{FOUND} or {PARKED}"
LOST: dict[str, Action] = {
    "500, accepted": work_then_refuse(500),
    "time-out, accepted": never_answer(accept=True),
    "the stream is cut, accepted": cut_stream(after_bytes=20),
    "503, not accepted": refuse(503),
}
"""Lost answers, after which a batch is looked for."""


@dataclass(frozen=True, kw_only=True)
class ListingRow:
    """Outcome of a batch after its answer was lost, on a server with its own way of listing.

    Attributes:
        server: Its way.
        personality: The same for the stand-in.
        accepted: What becomes of a batch that it had taken, by protocol.
        refused: What becomes of one that it had not.
    """

    server: str
    personality: Personality
    accepted: tuple[str, str] = (FOUND, FOUND)
    refused: tuple[str, str] = (AGAIN, AGAIN)

    def fates(self, protocol: str, lost: str) -> list[str]:
        """Return the possible outcomes of the batch."""
        each = self.refused if lost.endswith("not accepted") else self.accepted
        return each[BOTH.index(protocol)].split(" or ")


LISTING_ROWS = [
    ListingRow(
        server="newest first, whatever `order` says", personality=Personality(list_order="newest")
    ),
    ListingRow(
        server="oldest first, whatever `order` says", personality=Personality(list_order="oldest")
    ),
    ListingRow(server="pages shorter than `limit`", personality=Personality(page_cap=3)),
    ListingRow(
        server="pages shorter than `limit`, `has_more` always false",
        personality=Personality(page_cap=3, has_more="never"),
    ),
    ListingRow(server="`has_more` missing", personality=Personality(has_more="missing")),
    ListingRow(
        server="no paging: everything, oldest first",
        personality=Personality(list_order="oldest", ignores_after=True, ignores_limit=True),
    ),
    ListingRow(
        server="sorted by random ids",
        personality=Personality(list_order="by_id"),
        accepted=(OPEN, FOUND),
    ),
    ListingRow(
        server="an arbitrary order",
        personality=Personality(list_order="shuffled"),
        accepted=(OPEN, FOUND),
    ),
    ListingRow(
        server="an arbitrary order, pages shorter than `limit`, `has_more` always false",
        personality=Personality(list_order="shuffled", page_cap=3, has_more="never"),
        accepted=(OPEN, OPEN),
    ),
    ListingRow(
        server="another order for every request",
        personality=Personality(list_order="reshuffled"),
        accepted=(OPEN, FOUND),
        refused=(f"{AGAIN} or {PARKED}", f"{AGAIN} or {PARKED}"),
    ),
    ListingRow(
        server="the first three, newest first, whatever `after` says",
        personality=Personality(ignores_after=True, page_cap=3, has_more="always"),
        accepted=(PARKED, FOUND),
        refused=(AGAIN, PARKED),
    ),
]


def listing_table() -> str:
    """The rows of lists for people."""
    head = "| the server lists | accepted, Responses | accepted, Assistants | not accepted, Responses | not accepted, Assistants |"
    rows = [f"| {' | '.join([row.server, *row.accepted, *row.refused])} |" for row in LISTING_ROWS]
    return "\n".join([head, "| --- | --- | --- | --- | --- |", *rows])


_GRACES = dict.fromkeys((UNHURRIED_S + GRACE_MARGIN_S, HURRIED_S + GRACE_MARGIN_S), "the grace")
_WAITS = {None: "-", BACKOFF_S: "the back-off", **_GRACES}


def chat_table() -> str:
    """The rows of Chat Completions for people."""
    return table(CHAT_ROWS)


def table(rows: Sequence[Row] = ROWS) -> str:
    """The rows for people."""
    head = "| outcome of the request | then the batch is | for | counts | ends | requests | runs |"
    lines = [head, "| --- | --- | --- | --- | --- | --- | --- |"]
    for row in rows:
        name = (
            row.outcome
            if row.protocols in {BOTH, CHAT}
            else f"{row.outcome} ({', '.join(row.protocols)})"
        )
        end = row.end if row.end == "completed" else f"failed list: `{row.end}`"
        wait = _WAITS.get(row.wait_s, f"{row.wait_s} s")
        lines.append(
            f"| {name} | {row.then} | {wait} | {'yes' if row.counted else 'no'} | {end} | {row.requests} | {row.runs} |"
        )
    return "\n".join(lines)


def ending_orderly(row: Row) -> Row:
    """The same cut, with an answer that ends as if it were whole."""
    actions = tuple(
        replace(action, is_orderly=True) if isinstance(action, CutStream) else action
        for action in row.actions
    )
    return replace(row, outcome=f"{row.outcome}, as if it were whole", actions=actions)
