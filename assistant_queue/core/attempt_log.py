"""Log of the attempts at a batch: which worker had it, from when to when, and with what error.

A row is begun in memory by a claim and stored with the steps that are stored anyway. A row that is
still open when another worker claims the batch is that of a worker that died, or lost its lease.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from assistant_queue.core.progress import Progress
from assistant_queue.core.stored_rows import AttemptRow, bounded, shortened
from assistant_queue.models import ErrorInfo

WORKER_LOST = ErrorInfo(
    code="worker_lost", message="its worker died, or lost the lease of the thread"
)
"""The error of an attempt that has no end."""


class AttemptLog:
    """The attempts of one claimed batch; the last row is that of the worker that holds it.

    Attributes:
        was_sent: The batch was sent in this row; another sending begins another row.
    """

    def __init__(self, progress: Progress, worker: str) -> None:
        """Write nothing yet."""
        self._progress = progress
        self._worker = worker
        self.was_sent = False

    @property
    def only_waited(self) -> bool:
        """Whether nothing was sent in the last row, and no run was followed."""
        return not self.was_sent and not any(row.run_id for row in self._progress.tries[-1:])

    def claim(self, number: int, now_ms: int, *, run_id: str, claimed_ms: int, deaths: int) -> None:
        """Begin the row of this claim, and mark the row of a worker that died.

        Args:
            number: Number of the attempt.
            now_ms: Now.
            run_id: The run that is continued, "" for none.
            claimed_ms: When the batch was claimed first.
            deaths: Workers that died over it in its phase.
        """
        rows = [
            row if row.ended_ms or row.error else replace(row, error=WORKER_LOST)
            for row in self._progress.tries
        ]
        if deaths and not rows:  # it died before it stored anything
            rows.append(AttemptRow(number=number, started_ms=claimed_ms, error=WORKER_LOST))
        row = AttemptRow(number=number, started_ms=now_ms, worker=self._worker, run_id=run_id)
        rows.append(row)
        self._progress.tries = bounded(rows)

    def send(self, number: int, now_ms: int) -> None:
        """Note that the batch is sent, for the first time or again."""
        if self.was_sent:
            self.end(now_ms, self._progress.error)
            row = AttemptRow(number=number, started_ms=now_ms, worker=self._worker)
            self._progress.tries = bounded([*self._progress.tries, row])
        self._change(number=number, run_id="")
        self.was_sent = True

    def run(self, run_id: str) -> None:
        """Note the run of the attempt."""
        self._change(run_id=run_id)

    def end(self, now_ms: int, error: ErrorInfo | None = None) -> None:
        """End the row: the batch is given back, or over."""
        self._change(ended_ms=now_ms, error=None if error is None else shortened(error))

    def drop(self) -> None:
        """Forget the row of a claim that only waits."""
        self._progress.tries = self._progress.tries[:-1]

    def _change(self, **values: Any) -> None:
        rows = self._progress.tries
        if rows:
            self._progress.tries = (*rows[:-1], replace(rows[-1], **values))
