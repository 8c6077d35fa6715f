"""The judge of approvals, on logs made by hand."""

from __future__ import annotations

import pytest

from assistant_queue.testing.chaos.approval_oracle import Settling, ToolRun, judge_approvals

SETTLED = [
    Settling("a", "approve", True),
    Settling("a", "deny", False),
    Settling("b", "deny", True),
    Settling("c", "answer", None),
    Settling("d", "approve", None),
    Settling("d", "approve", False),
]
RUNS = [ToolRun("a", 1), ToolRun("d", 2)]


def test_all_is_well() -> None:
    verdict = judge_approvals(SETTLED, [*RUNS, ToolRun("a", 3)])
    assert verdict.details == ()
    assert (verdict.approved, verdict.refused, verdict.again) == (2, 2, 1)


@pytest.mark.parametrize(
    ("settled", "runs", "said"),
    [
        (SETTLED, RUNS[1:], "call a: was approved, and its function was not called"),
        (SETTLED, [*RUNS, ToolRun("b", 4)], "call b: was settled by deny, and its function"),
        (SETTLED, [*RUNS, ToolRun("c", 4)], "call c: was settled by answer, and its function"),
        (SETTLED, [*RUNS, ToolRun("a", 1)], "call a: its function was called twice by one"),
        (SETTLED, [*RUNS, ToolRun("e", 1)], "call e: was never settled"),
        ([*SETTLED, Settling("b", "approve", True)], RUNS, "call b: was settled more than once"),
    ],
)
def test_what_is_wrong_is_found(settled: list[Settling], runs: list[ToolRun], said: str) -> None:
    verdict = judge_approvals(settled, runs)
    assert not verdict.holds
    assert any(detail.startswith(said) for detail in verdict.details), verdict.details


def test_a_call_of_a_batch_that_was_stopped_may_be_withdrawn_and_is_not_made() -> None:
    withdrawn = [*SETTLED, Settling("e", "approve", False)]
    assert judge_approvals(withdrawn, RUNS[1:], stops=True).holds
    verdict = judge_approvals(withdrawn, [*RUNS, ToolRun("e", 1)], stops=True)
    assert verdict.details == ("call e: was not approved, and its function was called",)
    assert not judge_approvals(withdrawn, RUNS).holds
