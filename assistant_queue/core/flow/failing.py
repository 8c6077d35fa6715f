"""What a failure means: wait, ask, send again, or give up."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.ending import Ending
from assistant_queue.core.flow.state import ENDED_WELL, HELD, Flow, GiveUp, Hold, Park, Unreachable
from assistant_queue.core.runs import Finding, FoundBy, RunEnded, RunStarted
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    CallbackError,
    ConversationBusy,
    NotConfigured,
    NotEncodable,
    NotReplicated,
    OutcomeUnknown,
    RunExpired,
    RunFailed,
    RunVanished,
    StreamCut,
    UnknownThread,
)
from assistant_queue.models import ErrorInfo

MAX_ASK_WAIT_S = 60.0
"""The longest wait between two questions about work that may have been accepted: it holds its thread. Chosen."""


class Failing(Ending):
    """The steps after a failure."""

    def _failed(self, error: AssistantQueueError) -> Flow:  # noqa: C901, PLR0912 - one line a kind of failure, most specific first
        if isinstance(error, CallbackError):
            self._acquit()
        self._progress.calling = False
        info = ErrorInfo(code=error.code, message=str(error))
        if isinstance(error, Hold):
            return (yield from self._hold(error.wait_s, self._progress.error or HELD))
        if isinstance(error, Park):
            return (yield from self._bury("parked", ErrorInfo(code="parked", message=str(error))))
        if isinstance(error, GiveUp):
            return (yield from self._bury("attempts", error.info))
        if isinstance(error, UnknownThread):
            return (yield from self._bury("unknown_thread", info))
        if isinstance(error, NotConfigured):
            self._progress.attempts -= 1  # nothing was sent
            return (yield from self._bury("not_configured", info))
        if isinstance(error, CallbackError) and self._request is None:
            # The instructions: nothing was sent or learned, so the batch stays where it is.
            return (yield from self._try_again(info, counts=True, retry_after_s=None))
        if isinstance(error, RunFailed | CallbackError):
            return (yield from self._stop_run(error, info))
        if isinstance(error, RunVanished):
            return (yield from self._run_failed(info, still_works=True))
        if isinstance(error, Unreachable):
            return (yield from self._unreachable(error.cause))
        if self._capabilities.stateless and isinstance(error, OutcomeUnknown | StreamCut):
            self._progress.attempts -= not error.counts  # it is counted again when it is sent again
            return (yield from self._run_failed(info, counts=error.counts, retry_after_s=error.retry_after_s))
        if isinstance(error, OutcomeUnknown | StreamCut) and self._phase is Phase.SENDING:
            return (yield from self._ambiguous(error, info))
        if isinstance(error, NotEncodable):  # the same write would fail for every worker
            return (yield from self._bury("corrupt", info))
        if isinstance(error, NotReplicated):
            return (yield from self._unsent(info))
        if isinstance(error, BackendError):
            return (yield from self._refused(error, info))
        raise error

    def _hold(self, wait_s: float, info: ErrorInfo) -> Flow:
        yield steps.Postpone(state=ThreadState.HELD, wait_s=wait_s, phase=self._phase, progress=self._progress)
        return steps.Postponed(state=ThreadState.HELD, error=info)

    def _ambiguous(self, error: BackendError, info: ErrorInfo) -> Flow:
        """It may have been accepted: hold the thread, then ask. Never send again blindly."""
        progress, now = self._progress, self._now_ms()
        progress.error = info
        progress.sent_ms = now
        progress.passing = not error.counts
        if progress.passing:
            progress.waiting_since_ms = progress.waiting_since_ms or now
        return (yield from self._hold(max(self._rules.grace_s, error.retry_after_s or 0.0), info))

    def _unreachable(self, error: BackendError) -> Flow:
        """The provider could not be asked about what it has accepted, or may have: ask again for a while, without counting."""
        progress, info = self._progress, ErrorInfo(code=error.code, message=str(error))
        progress.error = info
        if self._now_ms() > progress.deadline_ms + self._rules.retry_for_s * 1000:
            reason = f"the provider could not be asked what became of the batch: {info.message}"
            return (yield from self._bury("parked", ErrorInfo(code="parked", message=reason)))
        progress.refusals += 1
        wait_s = max(min(self._rules.backoff.wait_s(progress.refusals), MAX_ASK_WAIT_S), error.retry_after_s or 0.0)
        return (yield from self._hold(wait_s, info))

    def _refused(self, error: BackendError, info: ErrorInfo) -> Flow:
        """Provably not accepted, nothing of the batch had been sent yet, or the provider keeps nothing of it."""
        if not error.retryable:
            return (yield from self._refuse(info))
        was_sent = self._phase is Phase.SENDING
        self._take_back(counts=error.counts)
        if was_sent and isinstance(error, ConversationBusy) and self._may_be_its_own():
            self._phase, self._progress.sent_ms = Phase.SENDING, 0
        return (yield from self._try_again(info, counts=error.counts, retry_after_s=error.retry_after_s))

    def _may_be_its_own(self) -> bool:
        """What keeps the conversation busy may be an earlier attempt, given up and still at work: it is looked for before the next one."""
        return self._progress.attempts > 0 and self._capabilities.found_by is FoundBy.ANCHOR

    def _refuse(self, info: ErrorInfo) -> Flow:
        """The same batch would be refused again."""
        return (yield from self._bury("refused", info))

    def _unsent(self, info: ErrorInfo) -> Flow:
        """No replica of Redis knows of the request, so it did not leave. As with a Redis that is away, no batch is given up for that."""
        self._take_back(counts=False)
        progress = self._progress
        progress.error = info
        progress.refusals += 1
        wait_s = min(self._rules.backoff.wait_s(progress.refusals), MAX_ASK_WAIT_S)
        yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=self._phase, progress=progress)
        return steps.Postponed(state=ThreadState.RETRYING, error=info)

    def _take_back(self, *, counts: bool) -> None:
        progress = self._progress
        if progress.calls:
            progress.sent_ms = 0  # the run whose outputs were refused may have gone on or ended: ask about it, without a grace
            if self._capabilities.stateless and not counts:
                progress.attempts -= 1  # it is counted again when the outputs are sent again
            return
        if self._phase is Phase.SENDING and not counts:
            progress.attempts -= 1
        self._phase = Phase.FROZEN

    def _stop_run(self, error: AssistantQueueError, info: ErrorInfo) -> Flow:
        """The run is of no use any more: stop it, so that the conversation is free, and count the attempt."""
        progress, capabilities = self._progress, self._capabilities
        still_works = isinstance(error, RunExpired) and not capabilities.cancels
        if progress.run_id is not None and capabilities.cancels:
            yield steps.Cancel(request=self._sent, run_id=progress.run_id)
            if isinstance(error, RunExpired):
                # It may have ended well before it could be cancelled, or while no worker was there: then it is the one. Or it goes on:
                # whether a server cancels is known only after its first refusal.
                found = yield from self._look_again(progress.run_id)
                if isinstance(found, RunEnded) and found.status in ENDED_WELL:
                    return (yield from self._ended(found))
                still_works = isinstance(found, RunStarted) and capabilities.found_by is FoundBy.ANCHOR
        if still_works and capabilities.follows:
            progress.given_up = progress.run_id
        return (yield from self._run_failed(info, still_works=still_works))

    def _look_again(self, run_id: str) -> Generator[steps.Step, Any, Finding | None]:
        """What became of a run that was given up; None if the provider does not say."""
        try:
            finding: Finding = yield steps.Find(request=self._sent, run_id=run_id, calls=())
        except BackendError:
            return None
        return finding

    def _gave_up(self, event: RunEnded, info: ErrorInfo) -> Flow:
        """The provider ended the run badly: the same batch may do better, or never will."""
        if not event.retryable:
            return (yield from self._refuse(info))
        self._progress.attempts -= not event.counts  # it is counted again when it is sent again
        return (yield from self._run_failed(info, counts=event.counts, retry_after_s=event.retry_after_s))

    def _run_failed(self, info: ErrorInfo, *, counts: bool = True, retry_after_s: float | None = None, still_works: bool = False) -> Flow:
        """Accepted, then failed. What the provider keeps of it decides what the next attempt sends."""
        progress, capabilities = self._progress, self._capabilities
        if capabilities.stateless:
            self._phase = Phase.SENDING if progress.calls or progress.asked else Phase.FROZEN
            return (yield from self._try_again(info, counts=counts, retry_after_s=retry_after_s))
        self._forget_run(still_works=still_works)
        return (yield from self._try_again(info, counts=counts, retry_after_s=retry_after_s))

    def _forget_run(self, *, still_works: bool = False) -> None:
        """The run has failed: its calls need no outputs any more."""
        progress, capabilities = self._progress, self._capabilities
        progress.calls, progress.run_id = (), None
        if still_works or capabilities.found_by is FoundBy.ANCHOR:
            # Rounds that completed before the failure are in the conversation: look there before anything is sent.
            self._phase = Phase.SENDING
            progress.sent_ms = self._now_ms() if still_works else 0
        else:
            progress.held = progress.held or capabilities.keeps_failed_text
            self._phase = Phase.FROZEN

    def _is_patient(self) -> bool:
        """Whether passing trouble is still waited out instead of counted."""
        return self._now_ms() - self._progress.waiting_since_ms <= self._rules.retry_for_s * 1000

    def _try_again(self, info: ErrorInfo, *, counts: bool, retry_after_s: float | None) -> Flow:
        progress, now = self._progress, self._now_ms()
        progress.error = info
        if self._capabilities.stateless:
            progress.sent_ms = progress.deadline_ms = 0  # the next attempt has a deadline of its own
        if not counts:
            progress.waiting_since_ms = progress.waiting_since_ms or now
            counts = not self._is_patient()
        if counts:
            progress.failures += 1
            if progress.failures >= self._rules.max_attempts:
                return (yield from self._bury("attempts", info))
            wait_s = self._rules.backoff.wait_s(progress.failures, retry_after_s)
        else:
            progress.refusals += 1
            wait_s = self._rules.backoff.wait_s(progress.refusals, retry_after_s)
            wait_s = min(wait_s, max(self._rules.retry_for_s, retry_after_s or 0.0))
        yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=self._phase, progress=progress)
        return steps.Postponed(state=ThreadState.RETRYING, error=info)
