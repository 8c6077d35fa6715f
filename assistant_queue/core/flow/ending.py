"""How a batch ends: its result is stored and delivered, or it goes to the failed list."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.state import MAX_DEATHS, MAX_DEATHS_ELSEWHERE, BatchState, Flow
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.runs import EMPTY, RunEnded
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import CallbackError, NotReplicated
from assistant_queue.models import ErrorInfo, RunResult

MAX_DEATHS_BURYING = 3
"""Workers that may die while they cancel the run of a batch that is to be buried; then it is buried without. Chosen."""

BURIAL_PATIENCE_S = 2.0
"""How long the cancelling may take before a burial: the next batch waits by itself for a run that ends later. Chosen."""

MIN_DELIVERY_WAIT_S, MAX_DELIVERY_WAIT_S = 1.0, 60.0
"""Between two looks at a call of `on_reply` that was given up and goes on: it holds its thread. Chosen."""


class Ending(BatchState):
    """The last steps."""

    def _ended(self, event: RunEnded) -> Flow:
        self._collect(event)
        progress = self._progress
        run_id = event.run_id or str(progress.run_id or "")
        replies, is_fallback = progress.replies, False
        if event.incomplete_reason == EMPTY and not replies:
            said = yield from self._fallback_text(ErrorInfo(code=EMPTY, message="the model ended its answer without a word"))
            replies, is_fallback = ((said,) if said else ()), bool(said)
        result = self._result_of(run_id, event.status, replies, incomplete_reason=event.incomplete_reason, fallback=is_fallback)
        if not self._rules.delivers:
            yield steps.Finish(result=result, anchor=event.anchor)
            return steps.Completed(result=result)
        self._progress = Progress(attempts=progress.attempts, run_id=result.run_id, result=result)
        self._phase = Phase.DELIVERING
        yield steps.Complete(result=result, progress=self._progress, anchor=event.anchor)
        return (yield from self._deliver(result, event.anchor))

    def _deliver(self, result: RunResult, anchor: str | None) -> Flow:
        """Hand the reply over, at least once; a reply that cannot be handed over stays readable for `result_ttl`."""
        progress = self._progress
        undelivered = None
        if self._is_deadly and self._claimed.phase is Phase.DELIVERING:
            undelivered = ErrorInfo(code="worker_deaths", message=f"{self._all_deaths} workers died in on_reply")
        else:
            if self._is_suspect:
                yield from self._blame()
            progress.deliveries += 1
            try:
                yield steps.Deliver(result=result)
            except steps.DeliveryOpen as error:
                progress.deliveries -= not error.is_new
                postponed = yield from self._wait_for_delivery(error)
                if postponed is not None:
                    return postponed
                undelivered = _given_up(error)
            except NotReplicated as error:  # nothing was delivered
                progress.deliveries -= 1
                progress.refusals += 1
                wait_s = min(self._rules.backoff.wait_s(progress.refusals), MAX_DELIVERY_WAIT_S)
                yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=Phase.DELIVERING, progress=progress)
                return steps.Postponed(state=ThreadState.RETRYING, error=ErrorInfo(code=error.code, message=str(error)))
            except CallbackError as error:
                undelivered = ErrorInfo(code=error.code, message=str(error))
                if progress.deliveries < self._rules.max_attempts:
                    wait_s = self._rules.backoff.wait_s(progress.deliveries)
                    yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=Phase.DELIVERING, progress=progress)
                    return steps.Postponed(state=ThreadState.RETRYING, error=undelivered)
        yield steps.Finish(result=result, anchor=anchor, undelivered=undelivered)
        return steps.Completed(result=result)

    def _wait_for_delivery(self, error: steps.DeliveryOpen) -> Generator[steps.Step, Any, steps.Postponed | None]:
        """A call of `on_reply` goes on: look again later, without counting; None once it has gone on for `retry_for`."""
        progress, now = self._progress, self._now_ms()
        progress.open_since_ms = progress.open_since_ms or now
        if now - progress.open_since_ms > self._rules.retry_for_s * 1000:
            return None
        progress.refusals += 1
        wait_s = max(MIN_DELIVERY_WAIT_S, min(self._rules.backoff.wait_s(progress.refusals), MAX_DELIVERY_WAIT_S))
        yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=self._phase, progress=progress)
        return steps.Postponed(state=ThreadState.RETRYING, error=ErrorInfo(code=error.code, message=str(error)))

    def _undeliverable(self) -> Flow:
        """The run is over, and neither the batch nor its record says how."""
        now = moment(self._now_ms())
        result = RunResult(
            thread_id=self._batch.thread_id,
            run_id="",
            batch_id=self._batch.id,
            message_ids=(),
            messages_processed=0,
            status="completed",
            incomplete_reason=None,
            reply=None,
            replies=(),
            usage=None,
            attempts=0,
            started_at=now,
            ended_at=now,
        )
        error = ErrorInfo(
            code="corrupt", message="its record in Redis was changed by somebody else: what there was to deliver is not known"
        )
        yield steps.Finish(result=result, anchor=None, undelivered=error)
        return steps.Failed(reason="corrupt", error=error, progress=self._progress)

    def _bury(self, reason: str, info: ErrorInfo, *, deaths: int = 0) -> Flow:
        """To the failed list; `deaths` are those of workers that were on the way there already."""
        progress = self._progress
        progress.error = info
        is_open = bool(progress.calls) if reason in {"attempts", "refused"} else reason == "worker_deaths"
        most = MAX_DEATHS if progress.calling and self._deaths >= MAX_DEATHS else MAX_DEATHS_ELSEWHERE
        is_urgent = self._all_deaths >= most + MAX_DEATHS_BURYING
        if is_open and progress.run_id and self._capabilities.cancels and not is_urgent:
            # A run that waits for outputs nobody will send, or that nobody watches, keeps the thread's next batch out.
            request = self._request or self._bare_request()
            yield steps.Cancel(request=request, run_id=progress.run_id, patience_s=BURIAL_PATIENCE_S)
        if self._rules.fallback:
            postponed = yield from self._fall_back(reason, info, deaths)
            if postponed is not None:
                return postponed
        left_open = () if self._capabilities.stateless else self._unanswered
        fallback = None if progress.result is None else progress.result.reply
        yield steps.Bury(reason=reason, error=info, progress=self._progress, open_calls=left_open, fallback=fallback)
        return steps.Failed(reason=reason, error=info, progress=self._progress)

    def _fallback_text(self, info: ErrorInfo) -> Generator[steps.Step, Any, str | None]:
        """What people are told instead of a reply: the text of the options, or what the user's callable says."""
        said = self._rules.fallback
        if not isinstance(said, bool):
            return said
        if not said:
            return None
        yield from self._blame()
        asked: str | None = yield steps.FallBack(batch=self._batch, error=info)
        self._acquit()
        return asked

    def _fall_back(self, reason: str, info: ErrorInfo, deaths: int) -> Generator[steps.Step, Any, steps.Postponed | None]:
        """Tell the people in the batch something, once the batch is given up; a text that cannot be handed over stays readable."""
        progress = self._progress
        if progress.burying is None:
            self._acquit()  # of what it is given up for: this is other code
        progress.burying = reason  # with the next step that is stored: whoever takes over sends nothing any more
        if progress.result is None:
            said = None if deaths >= MAX_DEATHS and self._rules.fallback is True else (yield from self._fallback_text(info))
            if not said:
                return None
            progress.result, deaths = self._result_of(progress.run_id or "", "failed", (said,), fallback=True), 0
        if not self._rules.delivers or deaths >= MAX_DEATHS:
            return None
        yield from self._blame()
        try:
            yield steps.Deliver(result=progress.result)
        except steps.DeliveryOpen as error:
            progress.deliveries += error.is_new
            self._acquit()
            return (yield from self._wait_for_delivery(error))
        except CallbackError as error:
            progress.deliveries += 1
            if progress.deliveries < self._rules.max_attempts:
                self._acquit()
                wait_s = self._rules.backoff.wait_s(progress.deliveries)
                yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=self._phase, progress=progress)
                return steps.Postponed(state=ThreadState.RETRYING, error=ErrorInfo(code=error.code, message=str(error)))
        return None


def _given_up(error: steps.DeliveryOpen) -> ErrorInfo:
    return ErrorInfo(code=error.code, message=f"{error}, and has not ended within retry_for either")
