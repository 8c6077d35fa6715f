"""The outcome of a run of the chaos runner: what was done, and what the judges say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from assistant_queue.testing.chaos.approval_oracle import ApprovalVerdict
from assistant_queue.testing.chaos.audit_oracle import AuditVerdict
from assistant_queue.testing.chaos.delivery_oracle import RepliesVerdict
from assistant_queue.testing.chaos.feed_oracle import FeedVerdict
from assistant_queue.testing.chaos.journal_oracle import JournalVerdict
from assistant_queue.testing.chaos.metrics_oracle import MetricsVerdict
from assistant_queue.testing.chaos.oracle import Verdict
from assistant_queue.testing.chaos.plan import ChaosSettings
from assistant_queue.testing.chaos.recovery import Recovery
from assistant_queue.testing.chaos.said_oracle import SaidVerdict
from assistant_queue.testing.chaos.steering_oracle import SteeringVerdict
from assistant_queue.testing.chaos.takeover_oracle import TakeoverVerdict


@dataclass(frozen=True, slots=True, kw_only=True)
class ChaosOutcome:
    """A run of the chaos runner.

    Attributes:
        done: What was done, by the kind of event; `faults` that acted, and blows that `missed`.
        runs: How the provider's runs ended.
        recoveries: Threads with a lapsed lease.
        repeated: Adds that Redis did not answer and that were repeated.
        ended_by_themselves: Workers that ended without having been killed; they were started again.
        left: Messages that the queue believes to be open; 0 unless the draining took too long.
        deliveries: What became of the replies; None without chat platforms.
        said: What became of the replies of `say`; None without any.
        shown: What the chat platforms were shown of these.
        drained_s: How long the draining took.
        counted: What became of the metrics; None if Redis has forgotten something.
        journals: What is in the journals; None likewise.
        feed: What a reader of the feed received; None if Redis may have forgotten something.
        audit: What is in the audit; None without one, and likewise.
        steering: What became of stops, interrupts and steers; None without any.
        approvals: What became of calls that waited for an approval; None without any.
        takeovers: What became of takeovers; None without any.
    """

    settings: ChaosSettings
    verdict: Verdict
    done: Counter[str]
    runs: Counter[str]
    recoveries: Sequence[Recovery]
    repeated: int
    ended_by_themselves: int
    left: int
    drained_s: float
    deliveries: RepliesVerdict | None = None
    said: SaidVerdict | None = None
    shown: RepliesVerdict | None = None
    counted: MetricsVerdict | None = None
    journals: JournalVerdict | None = None
    feed: FeedVerdict | None = None
    audit: AuditVerdict | None = None
    steering: SteeringVerdict | None = None
    approvals: ApprovalVerdict | None = None
    takeovers: TakeoverVerdict | None = None

    @property
    def holds(self) -> bool:
        """Whether the verdict holds and nothing is left over."""
        is_delivered = all(
            verdict is None or verdict.holds for verdict in (self.deliveries, self.shown)
        )
        is_said = self.said is None or self.said.holds
        asked = (self.steering, self.approvals, self.takeovers)
        others = (self.counted, self.journals, self.feed, self.audit, *asked)
        is_counted = all(one is None or one.holds for one in others)
        is_over = self.left == 0 and is_counted
        return self.verdict.holds and is_delivered and is_said and is_over
