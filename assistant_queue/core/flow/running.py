"""What is sent and watched: from the phase where an earlier holder stopped, through the tool rounds, to the run's end."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.flow.outgrowing import Outgrowing
from assistant_queue.core.flow.state import ENDED_WELL, HELD, Event, GiveUp, Hold, Park, Unreachable
from assistant_queue.core.runs import ActionRequired, CannotAsk, Finding, NotFound, RunEnded, RunStarted, Undecided
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import BackendError, RunFailed, RunVanished, StreamCut, TooManyToolRounds, UnknownThread
from assistant_queue.models import ErrorInfo

MAX_CUTS = 5
"""Streams of one run that may break in a row before the thread is given back for a moment. Chosen."""

_LOST = ErrorInfo(code="outcome_unknown", message="workers died while they waited for the provider's answer")


class Running(Outgrowing):
    """The steps from the request to the event that ends it."""

    # --- where an earlier holder stopped ----------------------------------------------------------------------------

    def _reach_event(self) -> Generator[steps.Step, Any, Event]:
        if self._capabilities.stateless and self._phase is not Phase.FROZEN:
            return (yield from self._again())
        if self._phase is Phase.SENDING and self._has_outputs_to_send:
            return (yield from self._submit(self._progress.run_id or ""))
        if self._phase is Phase.SENDING:
            return (yield from self._find())
        if self._phase is Phase.RUNNING and self._progress.run_id is not None:
            if not self._capabilities.follows:
                return (yield from self._find())
            return (yield from self._follow(self._progress.run_id))
        return (yield from self._send())

    @property
    def _has_outputs_to_send(self) -> bool:
        """Outputs were refused for the conversation's length, or the run that was given them has failed for it: they are nowhere."""
        progress = self._progress
        return bool(progress.calls) and not progress.sent_ms and (progress.origin is not None or progress.shortened > 0)

    def _again(self) -> Generator[steps.Step, Any, Event]:
        """The provider keeps nothing, so nothing is doubled there: go on behind the last round that is stored here."""
        progress = self._progress
        if not progress.deadline_ms:
            progress.deadline_ms = self._now_ms() + round(self._rules.run_timeout_s * 1000)
        if progress.asked is not None:
            return progress.asked  # the calls were being answered: the same ones, with the outputs that are known
        if progress.sent_ms:  # a failure would have taken this back: the worker that sent it died, or was stopped
            progress.failures += 1
            if progress.failures >= self._rules.max_attempts:
                raise GiveUp(progress.error or _LOST)
        if not progress.calls:
            return (yield from self._send())
        progress.attempts += 1
        return (yield from self._submit(progress.run_id or ""))

    def _find(self) -> Generator[steps.Step, Any, Event]:
        """The answer to the last request is not known: wait out the grace, then ask the provider."""
        progress = self._progress
        wait_ms = progress.sent_ms + self._rules.grace_s * 1000 - self._now_ms()
        if progress.sent_ms and wait_ms > 0:
            raise Hold(wait_ms / 1000)
        asked = progress.run_id or progress.given_up
        finding: Finding = yield from self._ask(steps.Find(request=self._sent, run_id=asked, calls=progress.calls))
        if progress.given_up is not None and not progress.run_id and not progress.calls:
            if isinstance(finding, RunEnded) and finding.run_id == progress.given_up and finding.status not in ENDED_WELL:
                progress.given_up = None  # it came to nothing: what is left is what the conversation holds
                return (yield from self._find())
            if isinstance(finding, RunStarted):
                finding = Undecided()
        if isinstance(finding, CannotAsk):
            raise Park(finding.reason)
        if isinstance(finding, Undecided):
            raise self._still_undecided()
        progress.undecided_since_ms = 0
        if isinstance(finding, RunStarted):
            yield from self._save_running(finding.run_id)
            return (yield from self._follow(finding.run_id))
        if isinstance(finding, NotFound):
            return (yield from self._not_found(finding))
        progress.run_id = finding.run_id or progress.run_id
        if isinstance(finding, ActionRequired) and progress.deadline_ms <= self._now_ms():
            # Its attempt was given up, or no worker was there: the functions get the time that a run gets, not none.
            progress.deadline_ms = self._now_ms() + round(self._rules.run_timeout_s * 1000)
        self._unanswered = tuple(call.id for call in finding.calls) if isinstance(finding, ActionRequired) else ()
        return finding

    def _still_undecided(self) -> Hold | Park:
        """What to do while the provider works on the conversation and does not say on what."""
        progress, now = self._progress, self._now_ms()
        progress.undecided_since_ms = progress.undecided_since_ms or now
        limit_s = self._rules.run_timeout_s if progress.given_up is None else self._rules.retry_for_s
        if now - progress.undecided_since_ms > limit_s * 1000:
            return Park("the provider has been working on this conversation for too long: it does not say on what, or cannot be stopped")
        progress.sent_ms = now
        return Hold(self._rules.grace_s)

    def _not_found(self, finding: NotFound) -> Generator[steps.Step, Any, Event]:
        progress = self._progress
        if progress.passing and self._is_patient():
            progress.refusals += 1
            progress.attempts -= not progress.calls  # it is counted again when it is sent again
        elif progress.sent_ms:
            progress.failures += 1
            if progress.failures >= self._rules.max_attempts:
                raise GiveUp(progress.error or HELD)
        progress.passing = False
        if progress.calls:
            return (yield from self._submit(progress.run_id or ""))
        # Another writer's items may stand where ours were looked for: ours come after them.
        progress.anchor = finding.anchor
        progress.held = progress.held or (finding.holds_text and self._capabilities.keeps_failed_text)
        self._request = replace(self._sent, anchor=finding.anchor, items=() if progress.held else self._sent.items)
        return (yield from self._send())

    def _follow(self, run_id: str) -> Generator[steps.Step, Any, Event]:
        yield from self._ask(steps.Follow(request=self._sent, run_id=run_id))
        return (yield from self._watch())

    def _ask(self, question: steps.Find | steps.Follow) -> Generator[steps.Step, Any, Any]:
        """A question about work that was, or may have been, accepted: that it cannot be asked now says nothing about the work."""
        try:
            return (yield question)
        except (UnknownThread, RunVanished):
            raise
        except BackendError as error:
            raise Unreachable(error) from error

    # --- send, watch, answer ----------------------------------------------------------------------------------------

    def _send(self) -> Generator[steps.Step, Any, Event]:
        progress = self._progress
        progress.attempts += 1
        progress.run_id, progress.rounds, progress.replies, progress.usage = None, 0, (), None
        progress.transcript = progress.given_up = None
        progress.sent_ms = self._now_ms()
        progress.deadline_ms = progress.sent_ms + round(self._rules.run_timeout_s * 1000)
        # Written before the request leaves: a worker that finds this phase knows that the batch may have been accepted.
        yield from self._save(Phase.SENDING, leaves=True)
        started: RunStarted = yield steps.Start(request=self._sent)
        yield from self._save_running(started.run_id)
        return (yield from self._watch())

    def _save_running(self, run_id: str) -> Generator[steps.Step, Any, None]:
        progress = self._progress
        progress.run_id, progress.waiting_since_ms, progress.refusals, progress.passing = run_id, 0, 0, False
        if not self._capabilities.stateless:
            progress.submitted, progress.calls = progress.calls, ()
        self._unanswered = ()
        yield from self._save(Phase.RUNNING)

    def _watch(self) -> Generator[steps.Step, Any, Event]:
        cuts = 0
        while True:
            try:
                event: Event = yield steps.Watch(deadline_ms=self._progress.deadline_ms)
            except StreamCut as error:
                if self._capabilities.stateless:
                    raise
                if not self._capabilities.follows:
                    return (yield from self._find())
                cuts += 1
                if cuts > MAX_CUTS:
                    raise Unreachable(error) from error
                yield from self._ask(steps.Follow(request=self._sent, run_id=self._progress.run_id or ""))
                continue
            except (RunFailed, RunVanished, UnknownThread):
                raise
            except BackendError as error:
                raise Unreachable(error) from error
            if isinstance(event, ActionRequired):
                self._unanswered = tuple(call.id for call in event.calls)
            return event

    def _answer(self, event: ActionRequired) -> Generator[steps.Step, Any, Event]:
        progress = self._progress
        if progress.rounds >= self._rules.max_tool_rounds:
            limit = "the limit is max_tool_rounds"
            raise TooManyToolRounds(f"the model asked for tools {progress.rounds + 1} times in one batch; {limit}")
        run_id = event.run_id or progress.run_id or ""  # found again by its items, a round has no known id
        new = tuple(call for call in event.calls if call.id not in progress.outputs)
        if self._capabilities.stateless:
            progress.asked = event  # before any function is called: these calls and their ids are kept nowhere else
        if new:
            yield from self._blame(new)
            outputs: dict[str, str] = yield steps.Answer(batch=self._batch, run_id=run_id, calls=new)
            progress.outputs.update(outputs)
            self._acquit()
        # Only now: a worker that resumes before the outputs are stored sees the same event and collects it then.
        self._collect(event)
        progress.rounds += 1
        progress.run_id, progress.calls = run_id, event.calls
        progress.transcript, progress.asked = event.transcript, None
        return (yield from self._submit(run_id, tuple(call.id for call in new)))

    def _submit(self, run_id: str, answered: tuple[str, ...] = ()) -> Generator[steps.Step, Any, Event]:
        progress = self._progress
        calls = progress.calls
        progress.sent_ms = self._now_ms()
        # The outputs are stored before they are submitted: a crash between does not call the user's function again.
        self._phase = Phase.SENDING
        yield steps.Save(phase=self._phase, progress=progress, answered=answered, leaves=True)
        outputs = {call.id: progress.outputs[call.id] for call in calls}
        request = replace(self._sent, transcript=progress.transcript)
        started: RunStarted = yield steps.Submit(request=request, run_id=run_id, calls=calls, outputs=outputs)
        yield from self._save_running(started.run_id)
        return (yield from self._watch())
