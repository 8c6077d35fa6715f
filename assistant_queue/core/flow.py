"""One batch, from the claim to its end, as a generator of steps without I/O.

The driver (`worker/driver.py`) carries out each step and sends its answer, or throws its error, into the generator. So the order of
what is written and what is sent - the whole promise - can be read here and tested without Redis, HTTP or time.

    claim ─► prepare ─► save "sending" ─► start ─► save "running" ─► watch ─┬─► finish
                ▲                                      ▲                    ├─► answer ─► save "sending" + outputs ─► submit ─┐
                │ not found                            │ found              │                                               │
    died while sending, or the answer was lost ─► grace ─► find             └─────────────── watch ◄────────────────────────┘
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from dataclasses import dataclass, field, replace
from typing import Any

from assistant_queue.core import steps
from assistant_queue.core.batching import fit, instructions_of
from assistant_queue.core.progress import Progress, moment
from assistant_queue.core.retry import Backoff
from assistant_queue.core.runs import (
    ActionRequired,
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    NotFound,
    RunEnded,
    RunRequest,
    RunStarted,
    Undecided,
)
from assistant_queue.core.thread_ids import ThreadIds, providers_id
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import (
    AssistantQueueError,
    BackendError,
    CallbackError,
    NotConfigured,
    NotReplicated,
    OutcomeUnknown,
    RunExpired,
    RunFailed,
    RunVanished,
    StreamCut,
    TooManyToolRounds,
    UnknownThread,
)
from assistant_queue.models import Batch, ErrorInfo, RunResult, ToolCall

MAX_DEATHS = 3
"""Workers that may die in one of the user's functions before the batch is taken to be the reason. Source: docs/reliability.md."""

MAX_DEATHS_ELSEWHERE = 20
"""The same for deaths anywhere else, where a healthy batch waits and may merely meet many kills. Chosen: chaos does not get there."""

MAX_ASK_WAIT_S = 60.0
"""The longest wait between two questions about work that may have been accepted: it holds its thread. Chosen."""

MAX_CUTS = 5
"""Streams of one run that may break in a row before the thread is given back for a moment. Chosen."""

_ENDED_WELL = frozenset({"completed", "incomplete"})

Flow = Generator[steps.Step, Any, steps.Ending]
"""Yields steps, is sent their answers, returns how the batch ended for this worker."""

_Event = ActionRequired | RunEnded


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The options that the flow decides by; seconds.

    Attributes:
        grace_s: How long after an ambiguous request the provider is asked.
        instructions: The default text, None for none, or True to ask the user's callable.
        delivers: There is an `on_reply`.
        fallback: What people are told of a batch that fails for good: a text, None for nothing, or True to ask the user's callable.
    """

    max_attempts: int = 3
    backoff: Backoff = field(default_factory=Backoff)
    retry_for_s: float = 600.0
    run_timeout_s: float = 600.0
    grace_s: float = 35.0
    max_tool_rounds: int = 20
    thread_ids: ThreadIds = "auto"
    instructions: str | bool | None = None
    delivers: bool = False
    fallback: str | bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claimed:
    """A claimed batch, as the store handed it over.

    Attributes:
        batch: Its messages.
        phase: How far an earlier holder got.
        progress: What an earlier holder knew.
        deaths: Holders whose lease lapsed in this phase.
        claimed_ms: When it was claimed first.
        conversation_id: The provider's id of the thread; None if there is none yet.
        anchor: The conversation's end after the last batch; None if not known.
        open_calls: Calls that an earlier batch left unanswered.
        unreadable: What of its stored form cannot be read; None as a rule.
    """

    batch: Batch
    phase: Phase
    progress: Progress
    deaths: int
    claimed_ms: int
    conversation_id: str | None
    anchor: str | None = None
    open_calls: tuple[str, ...] = ()
    unreadable: str | None = None


class BatchFlow:
    """Takes one claimed batch to its end.

    1. prepares the request: what fits, the conversation, its end, the instructions
    2. continues where an earlier holder stopped, by phase
    3. sends, watches, answers tool rounds
    4. decides what a failure means: wait, ask, send again, or give up
    5. stores the result and delivers it
    """

    def __init__(self, claimed: Claimed, capabilities: Capabilities, rules: Rules, now_ms: Callable[[], int]) -> None:
        self._claimed = claimed
        self._capabilities = capabilities
        self._rules = rules
        self._now_ms = now_ms
        self._batch = claimed.batch
        self._progress = claimed.progress
        self._phase = claimed.phase
        self._unanswered: tuple[str, ...] = tuple(call.id for call in claimed.progress.calls)
        self._request: RunRequest | None = None

    def run(self) -> Flow:
        """The batch, step by step."""
        if self._phase is Phase.DELIVERING and self._progress.result is not None:
            return (yield from self._deliver(self._progress.result, None))
        if self._phase is Phase.DELIVERING:
            return (yield from self._undeliverable())
        if self._claimed.unreadable is not None:
            error = ErrorInfo(code="corrupt", message=f"its record in Redis was changed by somebody else: {self._claimed.unreadable}")
            return (yield from self._bury("corrupt", error))
        if self._progress.burying is not None and self._progress.error is not None:
            return (yield from self._bury(self._progress.burying, self._progress.error, deaths=self._claimed.deaths))
        if self._claimed.deaths >= (MAX_DEATHS if self._progress.calling else MAX_DEATHS_ELSEWHERE):
            error = ErrorInfo(
                code="worker_deaths",
                message=f"{self._claimed.deaths} workers died in phase {self._phase.value!r} of this batch; look for what it does to them",
            )
            return (yield from self._bury("worker_deaths", error))
        try:
            yield from self._prepare()
            event = yield from self._reach_event()
            while isinstance(event, ActionRequired):
                event = yield from self._answer(event)
            if event.status not in _ENDED_WELL:
                return (yield from self._run_failed(_error_of(event), counts=event.counts, retry_after_s=event.retry_after_s))
            return (yield from self._ended(event))
        except AssistantQueueError as error:
            return (yield from self._failed(error))

    # --- 1. the request ---------------------------------------------------------------------------------------------

    def _prepare(self) -> Generator[steps.Step, Any, None]:
        progress, capabilities = self._progress, self._capabilities
        fitting = fit(self._batch.messages, max_items=capabilities.max_items, max_item_chars=capabilities.max_item_chars)
        if fitting.taken < len(self._batch.messages):
            # Only before the first request can it not fit: what is frozen after that was made to.
            yield steps.Trim(keep=fitting.taken)
            self._batch = replace(self._batch, messages=self._batch.messages[: fitting.taken])
            # Whoever resumes sees only these: what is sent must be what they would send, or it is not recognised.
            fitting = fit(self._batch.messages, max_items=capabilities.max_items, max_item_chars=capabilities.max_item_chars)
        conversation_id = providers_id(self._batch.thread_id, self._rules.thread_ids) or self._claimed.conversation_id
        if progress.located and conversation_id is None and capabilities.conversations:
            raise _Park(
                "the conversation that the batch was to be sent to, or was, is not known any more: somebody else removed it from Redis"
            )
        if not progress.located and not capabilities.stateless:  # where the history is ours, what the claim read is the end
            progress.anchor = self._claimed.anchor
            if conversation_id is None and capabilities.conversations:
                conversation_id, progress.anchor = yield steps.OpenConversation()
            elif progress.anchor is None and capabilities.found_by is FoundBy.ANCHOR:
                progress.anchor = yield steps.Locate(conversation_id=conversation_id or "")
            progress.located = True
        self._request = RunRequest(
            batch=replace(self._batch, attempts=progress.attempts + 1),
            conversation_id=conversation_id or "",
            anchor=self._claimed.anchor if capabilities.stateless else progress.anchor,
            items=() if progress.held else fitting.items,
            instructions=(yield from self._instructions()),
            open_calls=self._claimed.open_calls,
            deadline_s=self._rules.run_timeout_s,
        )

    def _instructions(self) -> Generator[steps.Step, Any, str | None]:
        own = instructions_of(self._batch.messages)
        if own is not None:
            return own
        default = self._rules.instructions
        if isinstance(default, bool):
            if not default:
                return None
            if self._phase is Phase.FROZEN:  # the next step is written in any case, and takes the blame back
                yield from self._blame()
            asked: str | None = yield steps.Instruct(batch=self._batch)
            self._progress.calling = False
            return asked
        return default

    @property
    def _sent(self) -> RunRequest:
        if self._request is None:
            msg = "the request is made before anything else"
            raise AssertionError(msg)
        return self._request

    # --- 2. where an earlier holder stopped ---------------------------------------------------------------------

    def _reach_event(self) -> Generator[steps.Step, Any, _Event]:
        if self._capabilities.stateless and self._phase is not Phase.FROZEN:
            return (yield from self._again())
        if self._phase is Phase.SENDING:
            return (yield from self._find())
        if self._phase is Phase.RUNNING and self._progress.run_id is not None:
            if not self._capabilities.follows:
                return (yield from self._find())
            return (yield from self._follow(self._progress.run_id))
        return (yield from self._send())

    def _again(self) -> Generator[steps.Step, Any, _Event]:
        """The provider keeps nothing, so nothing is doubled there: go on behind the last round that is stored here."""
        progress = self._progress
        if not progress.deadline_ms:
            progress.deadline_ms = self._now_ms() + round(self._rules.run_timeout_s * 1000)
        if progress.asked is not None:
            return progress.asked  # the calls were being answered: the same ones, with the outputs that are known
        if progress.sent_ms:  # a failure would have taken this back: whoever sent it died, or was stopped
            progress.failures += 1
            if progress.failures >= self._rules.max_attempts:
                raise _GiveUp(progress.error or _LOST)
        if not progress.calls:
            return (yield from self._send())
        progress.attempts += 1
        return (yield from self._submit(progress.run_id or ""))

    def _find(self) -> Generator[steps.Step, Any, _Event]:
        """The answer to the last request is not known: wait out the grace, then ask the provider."""
        progress = self._progress
        wait_ms = progress.sent_ms + self._rules.grace_s * 1000 - self._now_ms()
        if progress.sent_ms and wait_ms > 0:
            raise _Hold(wait_ms / 1000)
        finding: Finding = yield from self._ask(steps.Find(request=self._sent, run_id=progress.run_id, calls=progress.calls))
        if isinstance(finding, CannotAsk):
            raise _Park(finding.reason)
        if isinstance(finding, Undecided):
            progress.undecided_since_ms = progress.undecided_since_ms or self._now_ms()
            if self._now_ms() - progress.undecided_since_ms > self._rules.run_timeout_s * 1000:
                raise _Park("the provider has been working on this conversation for longer than run_timeout and does not say on what")
            progress.sent_ms = self._now_ms()
            raise _Hold(self._rules.grace_s)
        progress.undecided_since_ms = 0
        if isinstance(finding, RunStarted):
            yield from self._save_running(finding.run_id)
            return (yield from self._follow(finding.run_id))
        if isinstance(finding, NotFound):
            return (yield from self._not_found(finding))
        progress.run_id = finding.run_id or progress.run_id
        self._unanswered = tuple(call.id for call in finding.calls) if isinstance(finding, ActionRequired) else ()
        return finding

    def _not_found(self, finding: NotFound) -> Generator[steps.Step, Any, _Event]:
        progress = self._progress
        if progress.sent_ms:
            progress.failures += 1
            if progress.failures >= self._rules.max_attempts:
                raise _GiveUp(progress.error or _HELD)
        if progress.calls:
            return (yield from self._submit(progress.run_id or ""))
        # Another writer's items may stand where ours were looked for: ours come after them.
        progress.anchor = finding.anchor
        progress.held = progress.held or (finding.holds_text and self._capabilities.keeps_failed_text)
        self._request = replace(self._sent, anchor=finding.anchor, items=() if progress.held else self._sent.items)
        return (yield from self._send())

    def _follow(self, run_id: str) -> Generator[steps.Step, Any, _Event]:
        yield from self._ask(steps.Follow(request=self._sent, run_id=run_id))
        return (yield from self._watch())

    def _ask(self, question: steps.Find | steps.Follow) -> Generator[steps.Step, Any, Any]:
        """A question about work that was, or may have been, accepted: that it cannot be asked now says nothing about the work."""
        try:
            return (yield question)
        except (UnknownThread, RunVanished):
            raise
        except BackendError as error:
            raise _Unreachable(error) from error

    # --- 3. send, watch, answer -----------------------------------------------------------------------------------

    def _send(self) -> Generator[steps.Step, Any, _Event]:
        progress = self._progress
        progress.attempts += 1
        progress.run_id, progress.rounds, progress.replies, progress.usage = None, 0, (), None
        progress.transcript = None
        progress.sent_ms = self._now_ms()
        progress.deadline_ms = progress.sent_ms + round(self._rules.run_timeout_s * 1000)
        # Written before the request leaves: whoever finds this phase knows that the batch may have been accepted.
        yield from self._save(Phase.SENDING, leaves=True)
        started: RunStarted = yield steps.Start(request=self._sent)
        yield from self._save_running(started.run_id)
        return (yield from self._watch())

    def _save(self, phase: Phase, *, leaves: bool = False) -> Generator[steps.Step, Any, None]:
        self._phase = phase
        yield steps.Save(phase=phase, progress=self._progress, leaves=leaves)

    def _blame(self, asked: tuple[ToolCall, ...] = ()) -> Generator[steps.Step, Any, None]:
        """From here on a death is the batch's own until the opposite is shown: one of the user's functions runs."""
        self._progress.calling = True
        yield steps.Save(phase=self._phase, progress=self._progress, asked=asked)

    def _save_running(self, run_id: str) -> Generator[steps.Step, Any, None]:
        progress = self._progress
        progress.run_id, progress.waiting_since_ms, progress.refusals = run_id, 0, 0
        if not self._capabilities.stateless:
            progress.calls = ()
        self._unanswered = ()
        yield from self._save(Phase.RUNNING)

    def _watch(self) -> Generator[steps.Step, Any, _Event]:
        cuts = 0
        while True:
            try:
                event: _Event = yield steps.Watch(deadline_ms=self._progress.deadline_ms)
            except StreamCut as error:
                if self._capabilities.stateless:
                    raise
                if not self._capabilities.follows:
                    return (yield from self._find())
                cuts += 1
                if cuts > MAX_CUTS:
                    raise _Unreachable(error) from error
                yield from self._ask(steps.Follow(request=self._sent, run_id=self._progress.run_id or ""))
                continue
            except (RunFailed, RunVanished, UnknownThread):
                raise
            except BackendError as error:
                raise _Unreachable(error) from error
            if isinstance(event, ActionRequired):
                self._unanswered = tuple(call.id for call in event.calls)
            return event

    def _answer(self, event: ActionRequired) -> Generator[steps.Step, Any, _Event]:
        progress = self._progress
        if progress.rounds >= self._rules.max_tool_rounds:
            limit = "the limit is max_tool_rounds"
            raise TooManyToolRounds(f"the model asked for tools {progress.rounds + 1} times in one batch; {limit}")
        run_id = event.run_id or progress.run_id or ""  # found again by its items, a round has no known id
        new = tuple(call for call in event.calls if call.id not in progress.outputs)
        if self._capabilities.stateless:
            progress.asked = event  # before any function is called: nobody else has these calls and their ids
        if new:
            yield from self._blame(new)
            outputs: dict[str, str] = yield steps.Answer(batch=self._batch, run_id=run_id, calls=new)
            progress.outputs.update(outputs)
            progress.calling = False
        # Only now: whoever resumes before the outputs are stored sees the same event and collects it then.
        self._collect(event)
        progress.rounds += 1
        progress.run_id, progress.calls = run_id, event.calls
        progress.transcript, progress.asked = event.transcript, None
        return (yield from self._submit(run_id, tuple(call.id for call in new)))

    def _submit(self, run_id: str, answered: tuple[str, ...] = ()) -> Generator[steps.Step, Any, _Event]:
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

    def _collect(self, event: _Event) -> None:
        progress = self._progress
        if event.whole:
            progress.replies, progress.usage = event.replies, event.usage
            return
        progress.replies = (*progress.replies, *event.replies)
        if event.usage is not None:
            progress.usage = event.usage if progress.usage is None else progress.usage + event.usage

    # --- 4. what a failure means ------------------------------------------------------------------------------------

    def _failed(self, error: AssistantQueueError) -> Flow:  # noqa: C901, PLR0912 - one line a kind of failure, most specific first
        self._progress.calling = False
        info = ErrorInfo(code=error.code, message=str(error))
        if isinstance(error, _Hold):
            return (yield from self._hold(error.wait_s, self._progress.error or _HELD))
        if isinstance(error, _Park):
            return (yield from self._bury("parked", ErrorInfo(code="parked", message=str(error))))
        if isinstance(error, _GiveUp):
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
        if isinstance(error, _Unreachable):
            return (yield from self._unreachable(error.cause))
        if self._capabilities.stateless and isinstance(error, OutcomeUnknown | StreamCut):
            return (yield from self._run_failed(info))
        if isinstance(error, OutcomeUnknown | StreamCut) and self._phase is Phase.SENDING:
            return (yield from self._ambiguous(info))
        if isinstance(error, NotReplicated):
            return (yield from self._unsent(info))
        if isinstance(error, BackendError):
            return (yield from self._refused(error, info))
        raise error

    def _hold(self, wait_s: float, info: ErrorInfo) -> Flow:
        yield steps.Postpone(state=ThreadState.HELD, wait_s=wait_s, phase=self._phase, progress=self._progress)
        return steps.Postponed(state=ThreadState.HELD, error=info)

    def _ambiguous(self, info: ErrorInfo) -> Flow:
        """It may have been accepted: hold the thread, then ask. Never send again blindly."""
        self._progress.error = info
        self._progress.sent_ms = self._now_ms()
        return (yield from self._hold(self._rules.grace_s, info))

    def _unreachable(self, error: BackendError) -> Flow:
        """The provider could not be asked about what it has accepted, or may have: ask again for a while, without counting."""
        progress, info = self._progress, ErrorInfo(code=error.code, message=str(error))
        progress.error = info
        if self._now_ms() > progress.deadline_ms + self._rules.retry_for_s * 1000:
            reason = f"the provider could not be asked what became of the batch: {info.message}"
            return (yield from self._bury("parked", ErrorInfo(code="parked", message=reason)))
        progress.refusals += 1
        wait_s = min(self._rules.backoff.wait_s(progress.refusals, error.retry_after_s), MAX_ASK_WAIT_S)
        return (yield from self._hold(wait_s, info))

    def _refused(self, error: BackendError, info: ErrorInfo) -> Flow:
        """Provably not accepted, or nothing of the batch had been sent yet."""
        self._take_back(counts=error.counts)
        return (yield from self._try_again(info, counts=error.counts, retry_after_s=error.retry_after_s))

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
        if self._progress.run_id is not None and self._capabilities.cancels:
            yield steps.Cancel(request=self._sent, run_id=self._progress.run_id)
            if isinstance(error, RunExpired):
                # It may have ended well before it could be cancelled, or while no worker was there: then it is the one.
                found = yield from self._look_again(self._progress.run_id)
                if found is not None:
                    return (yield from self._ended(found))
        still_works = isinstance(error, RunExpired) and not self._capabilities.cancels
        return (yield from self._run_failed(info, still_works=still_works))

    def _look_again(self, run_id: str) -> Generator[steps.Step, Any, RunEnded | None]:
        """A run that was given up, if it has ended well."""
        try:
            finding: Finding = yield steps.Find(request=self._sent, run_id=run_id, calls=())
        except BackendError:
            return None
        return finding if isinstance(finding, RunEnded) and finding.status in _ENDED_WELL else None

    def _run_failed(self, info: ErrorInfo, *, counts: bool = True, retry_after_s: float | None = None, still_works: bool = False) -> Flow:
        """Accepted, then failed. What the provider keeps of it decides what the next attempt sends."""
        progress, capabilities = self._progress, self._capabilities
        if capabilities.stateless:
            self._phase = Phase.SENDING if progress.calls or progress.asked else Phase.FROZEN
            return (yield from self._try_again(info, counts=counts, retry_after_s=retry_after_s))
        progress.calls, progress.run_id = (), None
        if still_works or capabilities.found_by is FoundBy.ANCHOR:
            # Rounds that completed before the failure are in the conversation: look there before anything is sent.
            self._phase = Phase.SENDING
            progress.sent_ms = self._now_ms() if still_works else 0
        else:
            progress.held = progress.held or capabilities.keeps_failed_text
            self._phase = Phase.FROZEN
        return (yield from self._try_again(info, counts=counts, retry_after_s=retry_after_s))

    def _try_again(self, info: ErrorInfo, *, counts: bool, retry_after_s: float | None) -> Flow:
        progress, now = self._progress, self._now_ms()
        progress.error = info
        if self._capabilities.stateless:
            progress.sent_ms = progress.deadline_ms = 0  # the next attempt has a deadline of its own
        if not counts:
            progress.waiting_since_ms = progress.waiting_since_ms or now
            counts = now - progress.waiting_since_ms > self._rules.retry_for_s * 1000
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

    def _bury(self, reason: str, info: ErrorInfo, *, deaths: int = 0) -> Flow:
        """To the failed list; `deaths` are those of workers that were on the way there already."""
        progress = self._progress
        progress.error = info
        is_open = bool(progress.calls) if reason == "attempts" else reason == "worker_deaths"
        if is_open and progress.run_id and self._capabilities.cancels:
            # A run that waits for outputs nobody will send, or that nobody watches, keeps the thread's next batch out.
            yield steps.Cancel(request=self._request or self._bare_request(), run_id=progress.run_id)
        if self._rules.fallback:
            postponed = yield from self._fall_back(reason, info, deaths)
            if postponed is not None:
                return postponed
        left_open = () if self._capabilities.stateless else self._unanswered
        fallback = None if progress.result is None else progress.result.reply
        yield steps.Bury(reason=reason, error=info, progress=self._progress, open_calls=left_open, fallback=fallback)
        return steps.Failed(reason=reason, error=info, progress=self._progress)

    def _fall_back(self, reason: str, info: ErrorInfo, deaths: int) -> Generator[steps.Step, Any, steps.Postponed | None]:
        """Tell the people in the batch something, once the batch is given up; a text that cannot be handed over stays readable."""
        progress = self._progress
        progress.burying = reason  # with the next step that is stored: whoever takes over sends nothing any more
        if progress.result is None:
            said = self._rules.fallback
            if isinstance(said, bool):
                said = None
                if deaths < MAX_DEATHS:
                    yield from self._blame()
                    said = yield steps.FallBack(batch=self._batch, error=info)
                progress.calling = False
            if not said:
                return None
            progress.result, deaths = self._result_of(progress.run_id or "", "failed", (said,), fallback=True), 0
        if not self._rules.delivers or deaths >= MAX_DEATHS:
            return None
        yield from self._blame()
        try:
            yield steps.Deliver(result=progress.result)
        except CallbackError as error:
            progress.deliveries += 1
            if progress.deliveries < self._rules.max_attempts:
                progress.calling = False
                wait_s = self._rules.backoff.wait_s(progress.deliveries)
                yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=self._phase, progress=progress)
                return steps.Postponed(state=ThreadState.RETRYING, error=ErrorInfo(code=error.code, message=str(error)))
        return None

    def _bare_request(self) -> RunRequest:
        """Where the batch was sent, without what was sent: what made three workers die is not made again."""
        conversation_id = providers_id(self._batch.thread_id, self._rules.thread_ids) or self._claimed.conversation_id
        return RunRequest(batch=self._batch, conversation_id=conversation_id or "", anchor=self._progress.anchor, items=())

    # --- 5. the result ------------------------------------------------------------------------------------------------

    def _ended(self, event: RunEnded) -> Flow:
        self._collect(event)
        progress = self._progress
        run_id = event.run_id or str(progress.run_id or "")
        result = self._result_of(run_id, event.status, progress.replies, incomplete_reason=event.incomplete_reason)
        if not self._rules.delivers:
            yield steps.Finish(result=result, anchor=event.anchor)
            return steps.Completed(result=result)
        self._progress = Progress(attempts=progress.attempts, run_id=result.run_id, result=result)
        self._phase = Phase.DELIVERING
        yield steps.Complete(result=result, progress=self._progress, anchor=event.anchor)
        return (yield from self._deliver(result, event.anchor))

    def _result_of(self, run_id: str, status: str, replies: tuple[str, ...], **fields: Any) -> RunResult:
        return RunResult(
            thread_id=self._batch.thread_id,
            run_id=run_id,
            batch_id=self._batch.id,
            message_ids=tuple(message.id for message in self._batch.messages),
            messages_processed=len(self._batch.messages),
            status=status,
            reply="\n\n".join(replies) or None,
            replies=replies,
            usage=self._progress.usage,
            attempts=self._progress.attempts,
            started_at=moment(self._claimed.claimed_ms),
            ended_at=moment(self._now_ms()),
            **{"incomplete_reason": None, **fields},
        )

    def _deliver(self, result: RunResult, anchor: str | None) -> Flow:
        """Hand the reply over, at least once; a reply that cannot be handed over stays readable for `result_ttl`."""
        progress = self._progress
        undelivered = None
        if self._claimed.deaths >= MAX_DEATHS and self._claimed.phase is Phase.DELIVERING:
            undelivered = ErrorInfo(code="worker_deaths", message=f"{self._claimed.deaths} workers died in on_reply")
        else:
            progress.deliveries += 1
            try:
                yield steps.Deliver(result=result)
            except CallbackError as error:
                undelivered = ErrorInfo(code=error.code, message=str(error))
                if progress.deliveries < self._rules.max_attempts:
                    wait_s = self._rules.backoff.wait_s(progress.deliveries)
                    yield steps.Postpone(state=ThreadState.RETRYING, wait_s=wait_s, phase=Phase.DELIVERING, progress=progress)
                    return steps.Postponed(state=ThreadState.RETRYING, error=undelivered)
        yield steps.Finish(result=result, anchor=anchor, undelivered=undelivered)
        return steps.Completed(result=result)

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


_LOST = ErrorInfo(code="outcome_unknown", message="workers died while they waited for the provider's answer")
_HELD = ErrorInfo(code="outcome_unknown", message="a worker died while it sent the batch; the provider is asked after the grace period")


def _error_of(event: RunEnded) -> ErrorInfo:
    return event.error or ErrorInfo(code="run_failed", message=f"the run ended as {event.status!r}")


class _Hold(AssistantQueueError):
    """The grace is not over."""

    def __init__(self, wait_s: float) -> None:
        super().__init__("the grace period is not over")
        self.wait_s = wait_s


class _Park(AssistantQueueError):
    """Nobody can say whether the batch was accepted: a person decides."""


class _Unreachable(AssistantQueueError):
    """A question about accepted work could not be asked."""

    def __init__(self, cause: BackendError) -> None:
        super().__init__(str(cause))
        self.cause = cause


class _GiveUp(AssistantQueueError):
    """The attempts are used up."""

    def __init__(self, info: ErrorInfo) -> None:
        super().__init__(info.message)
        self.info = info
