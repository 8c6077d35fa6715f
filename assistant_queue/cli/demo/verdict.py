"""The verdict on the promises, from the provider's log, or without a stand-in from the queue's."""

from __future__ import annotations

import dataclasses
import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from assistant_queue.backends.openai.content import BATCH_MARK
from assistant_queue.cli.demo.board import Board, BoardAnswer
from assistant_queue.cli.demo.lines import Line
from assistant_queue.cli.demo.screens import ScreensVerdict
from assistant_queue.core.batching import signed
from assistant_queue.testing import StandInProvider

_STARTS = frozenset({"responses.create", "runs.create"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """Median and maximum of some waits, in seconds; None without any."""

    median: float | None
    longest: float | None

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Waits:
        """Return the figures of these waits."""
        if not seconds:
            return cls(median=None, longest=None)
        return cls(median=round(statistics.median(seconds), 3), longest=round(max(seconds), 3))


@dataclass(frozen=True, slots=True, kw_only=True)
class DemoVerdict:
    """The outcome.

    Attributes:
        runs: Batches that were answered by a completed run.
        lost: Messages that no completed run has answered.
        doubled: Answered more often than they were sent.
        failed: Messages in the failed list; they count as lost, too: the demo has no reason to fail
            any.
        ordered: Threads with messages that reached the model in the order of their sending.
        at_once: Times that a second run was tried or accepted in a thread while one was active.
        refused: Requests that the provider refused on purpose.
        runs_failed: Runs that it accepted and then failed.
        reply_waits: From the sending of a message to the reply of its run.
        start_waits: From the end of a window to the request that starts the run; without a stand-in
            to the claim.
        checked_by: What this was judged by.
        screens: What the people of a chat platform see; None without one.
    """

    messages: int
    threads: int
    runs: int
    lost: int
    doubled: int
    failed: int
    ordered: int
    at_once: int
    refused: int
    runs_failed: int
    tool_calls: int
    reply_waits: Waits
    start_waits: Waits
    checked_by: str
    screens: ScreensVerdict | None = None

    @property
    def runs_saved(self) -> int:
        """Number of runs that batching saved."""
        return self.messages - self.runs

    @property
    def holds(self) -> bool:
        """Whether all messages were answered once, in order, one run at a time, on the screen."""
        return (
            not (self.lost or self.doubled or self.failed or self.at_once)
            and self.ordered == self.threads
            and (self.screens is None or self.screens.holds)
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict for `--json`."""
        return {"holds": self.holds, "runs_saved": self.runs_saved, **dataclasses.asdict(self)}


def judge(
    board: Board, stand_in: StandInProvider | None, screens: ScreensVerdict | None = None
) -> DemoVerdict:
    """Judge the sent messages, with what was found on the screens."""
    sent: dict[str, list[Line]] = {}
    for one in board.sent.values():
        sent.setdefault(one.line.thread, []).append(one.line)
    answered = _by_provider(board, stand_in) if stand_in is not None else _by_records(board)
    lost = doubled = ordered = 0
    for thread, lines in sent.items():
        expected = [signed(line.text, line.author) for line in lines]
        seen = _signed_all(answered.get(thread, []), expected)
        lost += (Counter(expected) - Counter(seen)).total()
        doubled += (Counter(seen) - Counter(expected)).total()
        ordered += _is_in_order(seen, expected)
    # Texts at the provider outside all played threads were not sent by the scene.
    doubled += sum(len(texts) for thread, texts in answered.items() if thread not in sent)
    return DemoVerdict(
        messages=len(board.sent),
        threads=len(sent),
        lost=lost,
        doubled=doubled,
        ordered=ordered,
        failed=sum(len(batch.message_ids) for batch in board.failed.values()),
        screens=screens,
        reply_waits=Waits.of(
            [
                answer.at - board.sent[key].at
                for answer in board.answers.values()
                for key in answer.message_ids
            ]
        ),
        **(
            _facts_of_provider(board, stand_in)
            if stand_in is not None
            else _facts_of_records(board)
        ),
    )


def _signed_all(seen: Iterable[str], expected: Sequence[str]) -> list[str]:
    """Return the texts with their authors: a run without any author names has none."""
    known = set(expected)
    return [text if text in known else signed(text, None) for text in seen]


def _is_in_order(seen: Sequence[str], expected: Sequence[str]) -> bool:
    """Return whether the seen texts are in the expected order, regardless of gaps."""
    ahead = iter(expected)
    return all(text in ahead for text in seen)


# --- the provider's own log -----------------------------------------------------------------------


def _by_provider(board: Board, stand_in: StandInProvider) -> dict[str, list[str]]:
    """Return the user texts of completed runs by thread, or by conversation if it has no thread."""
    thread_of = {conversation: thread for thread, conversation in board.conversations.items()}
    answered: dict[str, list[str]] = {}
    for run in stand_in.runs:
        if run.status == "completed":
            conversation = run.conversation_id or run.id
            answered.setdefault(thread_of.get(conversation, conversation), []).extend(
                run.user_texts
            )
    return answered


def _facts_of_provider(board: Board, stand_in: StandInProvider) -> dict[str, Any]:
    runs = stand_in.runs
    refusals = stand_in.refusals
    first_start: dict[str, float] = {}
    for request in stand_in.requests:
        if request.op in _STARTS and request.body is not None:
            first_start.setdefault(request.body.get("metadata", {}).get(BATCH_MARK, ""), request.at)
    starts = [
        first_start[answer.batch_id] - due
        for answer, due in _windows(board)
        if answer.batch_id in first_start
    ]
    return {
        "runs": len({run.metadata.get(BATCH_MARK) for run in runs if run.status == "completed"}),
        "at_once": len(stand_in.overlaps) + sum(not refusal.scripted for refusal in refusals),
        "refused": sum(refusal.scripted for refusal in refusals),
        "runs_failed": sum(run.status == "failed" for run in runs),
        "tool_calls": sum(len(run.outputs) for run in runs),
        "start_waits": Waits.of(starts),
        "checked_by": f"the stand-in provider's own log: {len(stand_in.requests)} requests, {len(runs)} runs",
    }


def replies_of(board: Board, stand_in: StandInProvider | None) -> Mapping[str, Sequence[str]]:
    """Return the model's replies by thread, in order, as the provider keeps them."""
    if stand_in is not None:
        return {
            thread: stand_in.assistant_texts(conversation)
            for thread, conversation in board.conversations.items()
        }
    replies: dict[str, list[str]] = {}
    for answer in sorted(board.answers.values(), key=lambda answer: answer.claimed_at):
        replies.setdefault(answer.thread, []).append(answer.reply)
    return replies


# --- our own records ------------------------------------------------------------------------------


def _by_records(board: Board) -> dict[str, list[str]]:
    answered: dict[str, list[str]] = {}
    for answer in board.answers.values():
        lines = [board.sent[key].line for key in answer.message_ids]
        answered.setdefault(answer.thread, []).extend(
            signed(line.text, line.author) for line in lines
        )
    return answered


def _facts_of_records(board: Board) -> dict[str, Any]:
    return {
        "runs": len(board.answers),
        "at_once": 0,
        "refused": 0,
        "runs_failed": sum(answer.attempts - 1 for answer in board.answers.values()),
        "tool_calls": 0,
        "start_waits": Waits.of([answer.claimed_at - due for answer, due in _windows(board)]),
        "checked_by": "the queue's own records (the real service keeps no log that could be asked)",
    }


def _windows(board: Board) -> list[tuple[BoardAnswer, float]]:
    """Return the answered batches that waited for a window, not for a run, and the window's end."""
    found = []
    for answer in board.answers.values():
        receipts = [board.sent[key].receipt for key in answer.message_ids]
        if receipts[0].job_id is not None:
            found.append(
                (
                    answer,
                    min(
                        receipt.due_at.timestamp()
                        for receipt in receipts
                        if receipt.job_id is not None
                    ),
                )
            )
    return found
