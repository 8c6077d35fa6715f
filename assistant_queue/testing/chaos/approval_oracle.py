"""The judge of approvals: which functions were called against what was settled.

An approved call is called once, or again by another process if the first one died, or stood still,
before its output was stored; a call that was denied or answered from outside is never called.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

Verdict = Literal["approve", "deny", "answer"]


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A call of a function that has begun.

    Attributes:
        call_id: The call.
        pid: The process.
    """

    call_id: str
    pid: int


@dataclass(frozen=True, slots=True)
class Settling:
    """An attempt to settle a call.

    Attributes:
        call_id: The call.
        verdict: The attempt's.
        counts: Whether it was the first; None if Redis did not say.
    """

    call_id: str
    verdict: Verdict
    counts: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalVerdict:
    """The outcome.

    Attributes:
        approved: Calls that were approved.
        refused: Calls that were denied, or answered from outside.
        again: Calls of functions that were repeated by another process.
        details: One line for each finding.
    """

    approved: int
    refused: int
    again: int
    details: tuple[str, ...] = field(default=())

    @property
    def holds(self) -> bool:
        """Whether nothing was found."""
        return not self.details


def judge_approvals(
    settled: Sequence[Settling], runs: Sequence[ToolRun], *, stops: bool = False
) -> ApprovalVerdict:
    """Compare; `stops`: batches may be stopped, which withdraws their calls."""
    attempts: defaultdict[str, list[Settling]] = defaultdict(list)
    for one in settled:
        attempts[one.call_id].append(one)
    pids: defaultdict[str, list[int]] = defaultdict(list)
    for run in runs:
        pids[run.call_id].append(run.pid)
    verdicts = {call_id: _verdict_of(found) for call_id, found in attempts.items()}
    return ApprovalVerdict(
        approved=sum(one == "approve" for one in verdicts.values()),
        refused=sum(one in {"deny", "answer"} for one in verdicts.values()),
        again=sum(len(found) - 1 for found in pids.values()),
        details=tuple(
            f"call {call_id}: {what}"
            for call_id in sorted({*attempts, *pids})
            for what in _wrong(attempts[call_id], verdicts.get(call_id), pids[call_id], stops=stops)
        ),
    )


def _verdict_of(attempts: Sequence[Settling]) -> Verdict | None:
    """Return what counted; None if that is not known."""
    sure = [one.verdict for one in attempts if one.counts]
    possible = {one.verdict for one in attempts if one.counts is not False}
    return sure[0] if sure else possible.pop() if len(possible) == 1 else None


def _wrong(
    attempts: Sequence[Settling], verdict: Verdict | None, pids: Sequence[int], *, stops: bool
) -> Iterator[str]:
    if sum(bool(one.counts) for one in attempts) > 1:
        yield "was settled more than once"
    is_settled = any(one.counts is not False for one in attempts)
    if not is_settled and not stops:
        yield "was never settled"
    if not is_settled and pids:
        yield "was not approved, and its function was called"
    if verdict == "approve" and not pids and not stops:
        yield "was approved, and its function was not called"
    if verdict in {"deny", "answer"} and pids:
        yield f"was settled by {verdict}, and its function was called"
    if len(set(pids)) < len(pids):
        yield "its function was called twice by one process"
