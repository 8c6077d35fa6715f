"""Drivers of the flow without Redis, HTTP or time: scripted answers, or a model of a provider."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from world_state import frozen, in_seconds

from assistant_queue.core import steps
from assistant_queue.core.flow import BatchContext, Claimed, Rules, run_batch
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import (
    WRITTEN,
    ActionRequired,
    CannotAsk,
    Capabilities,
    Finding,
    FoundBy,
    InputItem,
    NotFound,
    RunAccepted,
    RunEnded,
    RunRequest,
    Undecided,
)
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.core.thread_state import Phase
from assistant_queue.errors import ConversationBusy, OutcomeUnknown, RequestRefused, RunVanished
from assistant_queue.models import Batch, ErrorInfo, FunctionCall, Message, ToolCall
from assistant_queue.testing.fake_clock import FakeClock
from assistant_queue.trouble import Kind, Trouble

ASSISTANTS = Capabilities(
    found_by=FoundBy.METADATA,
    follows=True,
    cancels=True,
    keeps_failed_text=True,
    renews=True,
    writes=True,
)
CONVERSATIONS = Capabilities(
    found_by=FoundBy.ANCHOR, follows=True, cancels=True, renews=True, writes=True
)
FOREGROUND = replace(CONVERSATIONS, cancels=False)
BACKGROUND = {
    True: replace(CONVERSATIONS, background=True),
    False: replace(ASSISTANTS, background=True),
}
"""Capabilities of a backend that can look at runs, by whether it finds batches by an anchor."""

DONE = RunEnded(run_id="run_1", status="completed", replies=("hi",), anchor="item_9")


def call(number: int) -> ToolCall:
    return ToolCall(id=f"call_{number}", function=FunctionCall(name="weather", arguments="{}"))


def action(*numbers: int, run_id: str = "run_1", **fields: Any) -> ActionRequired:
    return ActionRequired(run_id=run_id, calls=tuple(call(number) for number in numbers), **fields)


def messages(*texts: str, **fields: Any) -> tuple[Message, ...]:
    return tuple(
        Message(id=f"m{number}", content=text, **fields) for number, text in enumerate(texts, 1)
    )


def claimed(
    *batch: Message, phase: Phase = Phase.FROZEN, progress: Progress | None = None, **fields: Any
) -> Claimed:
    given = batch or messages("one", "two")
    values: dict[str, Any] = {
        "deaths": 0,
        "claimed_ms": FakeClock().ms,
        "conversation_id": "conv_1",
        "anchor": "item_0",
        **fields,
    }
    return Claimed(
        batch=Batch(id="batch_1", thread_id="thread", messages=given),
        phase=phase,
        progress=progress or Progress(),
        **values,
    )


def names(trace: Sequence[steps.Step]) -> list[str]:
    """The trace in words; a Save with its phase, a Postpone with its state."""
    words = []
    for step in trace:
        word = type(step).__name__
        if isinstance(step, steps.Save):
            word += f"({step.phase.value})"
        elif isinstance(step, steps.Postpone):
            word += f"({step.state.value})"
        words.append(word)
    return words


def frozen_step(step: steps.Step) -> steps.Step:
    """The step with its progress as it is now: the flow continues to change its own."""
    if isinstance(
        step, steps.Save | steps.AwaitRun | steps.Postpone | steps.Bury | steps.MoveThread
    ):
        return replace(step, progress=Progress.load(step.progress.dump()))
    if isinstance(step, steps.Submit):
        return replace(step, outputs=dict(step.outputs))
    return step


def answered(step: steps.Answer, output: str) -> steps.ToolsAnswered:
    """The outputs of a round, each by a call of a tenth of a second."""
    return steps.ToolsAnswered(
        outputs={one.id: output.format(one.id) for one in step.calls},
        rows=tuple(ToolRow(name=one.function.name, ms=100) for one in step.calls),
    )


_USUAL: dict[type[Any], Any] = {
    steps.ReadRevisions: steps.Revisions(messages={}, count=""),
    steps.OpenConversation: ("conv_new", None),
    steps.Locate: "item_0",
    steps.Start: RunAccepted(run_id="run_1"),
    steps.Submit: RunAccepted(run_id="run_2"),
    steps.Follow: RunAccepted(run_id="run_1"),
    steps.Watch: DONE,
    steps.Find: NotFound(anchor="item_0"),
    steps.RenewConversation: ("conv_2", "item_2"),
    steps.MoveThread: True,
    steps.Answer: lambda step: answered(step, "output of {}"),
}


@dataclass
class Scripted:
    """Driver with answers that are given in advance, by the kind of step and in order.

    A step without a given answer is answered as usual.

    An exception is thrown into the flow, a function is called with the step.
    """

    capabilities: Capabilities = CONVERSATIONS
    rules: Rules = field(default_factory=Rules)
    clock: FakeClock = field(default_factory=FakeClock)
    trace: list[steps.Step] = field(default_factory=list)

    def run(self, batch: Claimed, answers: Mapping[type[Any], Any] | None = None) -> steps.Ending:
        queues = {
            kind: list(given) if isinstance(given, list) else [given]
            for kind, given in (answers or {}).items()
        }
        self.trace = []
        flow = run_batch(
            BatchContext(batch, self.capabilities, self.rules, self.clock.store_now_ms)
        )
        answer: Any = None
        while True:
            try:
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
            except StopIteration as stop:
                left = {kind.__name__: rest for kind, rest in queues.items() if rest}
                assert not left, f"answers that nobody asked for: {left}"
                return stop.value  # type: ignore[no-any-return]
            self.trace.append(frozen_step(step))
            given = queues.get(type(step))
            answer = given.pop(0) if given else _USUAL.get(type(step))
            if callable(answer):
                answer = answer(step)

    @property
    def names(self) -> list[str]:
        return names(self.trace)

    def only(self, kind: type[Any]) -> Any:
        found = [step for step in self.trace if isinstance(step, kind)]
        assert len(found) == 1, f"{len(found)} steps of {kind.__name__} in {self.names}"
        return found[0]

    def all(self, kind: type[Any]) -> list[Any]:
        return [step for step in self.trace if isinstance(step, kind)]


# --- a model of a provider ------------------------------------------------------------------------

OVERLONG = Trouble(kind=Kind.CONTEXT_OVERFLOW, status=400, code="context_length_exceeded")
HOME = "conv_1"

Entry = tuple[str, str]
"""Entry of a conversation: (kind, what)."""


@dataclass
class _Run:
    id: str
    batch_id: str
    place: str
    items: tuple[InputItem, ...]
    rounds_left: int
    status: str = "in_progress"
    waits_for: tuple[ToolCall, ...] = ()
    outputs: tuple[Entry, ...] = ()
    error: Trouble | None = None
    can_be_shortened: bool = False


@dataclass(frozen=True, kw_only=True)
class Limit:
    """Longest conversation that the model reads.

    Attributes:
        entries: At most.
        past: Turns that were there before the batch, of two entries each.
        fails_at: Longer ones are refused (`create`), or their runs fail (`run`).
        ways: Runs that may be tried over less of it; none of them helps.
    """

    entries: int
    past: int = 0
    fails_at: str = "create"
    ways: int = 0


class ModelProvider:
    """Conversations at a provider that remembers what it accepted; the thread's is `home`.

    `by_anchor` behaves as Conversations do (items appear when a response is over, each round is a
    separate response, a second request meets a lock), else as Assistants do (texts appear at
    once, a run waits for its outputs under its own id).
    """

    def __init__(
        self,
        *,
        by_anchor: bool,
        rounds: int = 0,
        fails: int = 0,
        is_slow: bool = False,
        limit: Limit | None = None,
    ) -> None:
        self.by_anchor = by_anchor
        self.rounds = rounds
        self.fails = fails
        self.is_slow = is_slow
        self.limit = limit
        self.runs: list[_Run] = []
        self.home = HOME
        self.conversations: defaultdict[str, list[Entry]] = defaultdict(list)
        for turn in range(limit.past if limit else 0):
            self.log.extend([("user", f"old{turn}"), ("reply", f"old{turn}")])
        self._numbers: Counter[str] = Counter()
        self.seen: set[str] = set()
        self.forgets = False

    def _new(self, kind: str) -> str:
        self._numbers[kind] += 1
        return f"{kind}_{self._numbers[kind]}"

    @property
    def log(self) -> list[Entry]:
        """Entries of the thread's conversation, in order."""
        return self.conversations[self.home]

    def anchor(self, place: str) -> str | None:
        """The end of a conversation; no other one has an item of this id."""
        return (
            f"{place}:item_{len(self.conversations[place])}" if self.conversations[place] else None
        )

    def texts(self) -> Counter[str]:
        """Count each message of the batch in the thread's conversation."""
        return self._texts(self.home)

    def _texts(self, place: str) -> Counter[str]:
        return Counter(
            what
            for kind, what in self.conversations[place]
            if kind == "user" and not what.startswith("old")
        )

    def completed(self) -> list[_Run]:
        return [run for run in self.runs if run.status == "completed"]

    def open_runs(self, place: str | None = None) -> list[_Run]:
        return [
            run
            for run in self.runs
            if run.status in ("in_progress", "waiting") and place in (None, run.place)
        ]

    # --- what the driver asks ---------------------------------------------------------------------

    def start(self, request: RunRequest) -> RunAccepted:
        if request.writes:
            self._write(request)
            return WRITTEN[0]
        if self.open_runs(request.conversation_id):
            msg = "a run is active"
            raise ConversationBusy(msg, counts=False)
        run = _Run(
            self._new("run"), request.batch.id, request.conversation_id, request.items, self.rounds
        )
        self._check_length(run, request, sum(len(item.message_ids) for item in request.items))
        self.runs.append(run)
        if not self.by_anchor:
            self._write_items(run)
        return RunAccepted(run_id=run.id)

    def _write(self, request: RunRequest) -> None:
        """Take items at once (Conversations), or those that are missing, one by one."""
        log = self.conversations[request.conversation_id]
        wanted = _users(request)
        log.extend(wanted if self.by_anchor else [one for one in wanted if one not in log])

    def _check_length(self, run: _Run, request: RunRequest, more: int) -> None:
        limit = self.limit
        if limit is None or len(self.conversations[run.place]) + more <= limit.entries:
            return
        if limit.fails_at == "create":
            msg = "too long"
            raise RequestRefused(msg, trouble=OVERLONG)
        run.error = OVERLONG
        run.can_be_shortened = request.shortened < limit.ways and not request.renewed

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> RunAccepted:
        place = request.conversation_id
        waiting = self.by_anchor or [
            run
            for run in self.open_runs(place)
            if run.waits_for == tuple(calls) and run.id == run_id
        ]
        if not waiting or self._open_calls(place) != [one.id for one in calls]:
            msg = "no such calls are open"
            raise RequestRefused(msg)
        assert set(outputs) == {one.id for one in calls}
        written = tuple(("output", one.id) for one in calls)
        asked = sum(kind == "call" for kind, _ in self._own(place))
        if not self.by_anchor:
            run = waiting[0]  # type: ignore[index]
            self.conversations[place].extend(written)
            run.waits_for = ()
            run.status = "in_progress"
            run.rounds_left = run.rounds_left - 1
            return RunAccepted(run_id=run.id)
        following = _Run(
            self._new("run"), request.batch.id, place, (), self.rounds - asked, outputs=written
        )
        self._check_length(following, request, len(calls))
        for run in self.open_runs():
            run.status = "answered"
        self.runs.append(following)
        return RunAccepted(run_id=following.id)

    def _own(self, place: str) -> list[Entry]:
        """Return the entries that the batch has left in a conversation so far."""
        log = self.conversations[place]
        begin = next(
            (number for number, entry in enumerate(log) if entry == ("user", "m1")), len(log)
        )
        return log[begin:]

    def _open_calls(self, place: str) -> list[str]:
        answered = {what for kind, what in self.conversations[place] if kind == "output"}
        return [
            what
            for kind, what in self.conversations[place]
            if kind == "call" and what not in answered
        ]

    def renew(self, request: RunRequest) -> tuple[str, str | None] | None:
        """The later half of the turns, and what is the batch's own, in a new conversation."""
        log = self.conversations[request.conversation_id]
        own = self._own(request.conversation_id) if self.by_anchor else []
        earlier = [entry for entry in log[: len(log) - len(own)] if not entry[1].startswith("m")]
        if not earlier:
            return None
        created = self._new("new")
        turns = len(earlier) // 2
        self.conversations[created] = earlier[2 * (turns - turns // 2) :]
        anchor = self.anchor(created)
        self.conversations[created].extend(own)
        return created, anchor

    def _run(self, run_id: str) -> _Run:
        for run in self.runs:
            if run.id == run_id:
                return run
        msg = f"no run {run_id}"
        raise RunVanished(msg)

    def _write_items(self, run: _Run) -> None:
        for item in run.items:
            self.conversations[run.place].extend(
                ("user", message_id) for message_id in item.message_ids
            )
        self.conversations[run.place].extend(run.outputs)
        run.items = ()
        run.outputs = ()

    def settle(self) -> None:
        """Time passes at the provider: what it works at gets done."""
        for run in self.runs:
            if run.status != "in_progress":
                continue
            if self.fails or run.error is not None:
                self.fails -= run.error is None
                run.status = "failed"
                continue
            self._write_items(run)
            if run.rounds_left:
                run.status = "waiting"
                run.waits_for = (ToolCall(self._new("call"), FunctionCall("weather", "{}")),)
                self.conversations[run.place].append(("call", run.waits_for[0].id))
            else:
                run.status = "completed"
                self.conversations[run.place].append(("reply", run.batch_id))

    def watch(self, run_id: str) -> ActionRequired | RunEnded:
        if not run_id:
            return WRITTEN[1]
        self.settle()
        return self._event(self._run(run_id))

    def _event(self, run: _Run) -> ActionRequired | RunEnded:
        if run.status == "waiting":
            return ActionRequired(run_id=run.id, calls=run.waits_for, anchor=self.anchor(run.place))
        assert run.status != "answered", "the round after it is another response"
        if run.error is not None:
            error = ErrorInfo(code="context_length_exceeded", message="too long")
            can = run.can_be_shortened
            return RunEnded(
                run_id=run.id,
                status=run.status,
                error=error,
                trouble=run.error,
                retryable=can,
                counts=not can,
            )
        replies = ("the answer",) if run.status == "completed" else ()
        return RunEnded(
            run_id=run.id, status=run.status, replies=replies, anchor=self.anchor(run.place)
        )

    def check(self, run_id: str) -> RunAccepted | ActionRequired | RunEnded:
        """Look at a run: it is in progress the first time, over the second."""
        run = self._run(run_id)
        if run.status == "in_progress" and run_id not in self.seen:
            self.seen.add(run_id)
            return RunAccepted(run_id=run_id)
        self.settle()
        self.seen.discard(run_id)
        if self.forgets and run.status not in ("in_progress", "waiting"):
            msg = "kept for ten minutes"
            raise RunVanished(msg)
        return self._event(run)

    def find(self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
        if self.is_slow and self.open_runs():
            self.is_slow = False
            return Undecided()
        if request.writes:
            return self._find_written(request)
        self.settle()
        found = (
            self._find_by_anchor(request, calls)
            if self.by_anchor
            else self._find_by_metadata(request, run_id, calls)
        )
        if found is None:
            held = bool(self._texts(request.conversation_id)) and not self.by_anchor
            return NotFound(anchor=self.anchor(request.conversation_id), holds_text=held)
        return found

    def _find_written(self, request: RunRequest) -> Finding:
        place = request.conversation_id
        log = self.conversations[place]
        since = (self._after(request.anchor, place) or 0) if self.by_anchor else 0
        is_there = set(_users(request)) <= set(log[since:])
        return WRITTEN[1] if is_there else NotFound(anchor=self.anchor(place))

    def _find_by_metadata(
        self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
    ) -> Finding | None:
        here = [run for run in self.runs if run.place == request.conversation_id]
        ours = [
            run for run in here if run.batch_id == request.batch.id and run_id in (None, run.id)
        ]
        if not ours:
            return None
        newest = ours[-1]
        return (
            None
            if newest.status == "waiting" and newest.waits_for == tuple(calls)
            else self._event(newest)
        )

    def _find_by_anchor(self, request: RunRequest, calls: Sequence[ToolCall]) -> Finding | None:
        log = self.conversations[request.conversation_id]
        if calls:
            if ("output", calls[-1].id) not in log:
                return None
            place = log.index(("output", calls[-1].id)) + 1
        else:
            after = self._after(request.anchor, request.conversation_id)
            wanted = _users(request)
            if after is None or not wanted or log[after : after + len(wanted)] != wanted:
                return None
            place = after + len(wanted)
        rest = log[place:]
        assert rest, "a response is written as a whole"
        kind, what = rest[-1]
        anchor = self.anchor(request.conversation_id)
        if kind == "call":
            return ActionRequired(
                run_id="",
                calls=(ToolCall(what, FunctionCall("weather", "{}")),),
                whole=not calls,
                anchor=anchor,
            )
        return RunEnded(
            run_id="", status="completed", replies=("the answer",), whole=not calls, anchor=anchor
        )

    def _after(self, anchor: str | None, place: str) -> int | None:
        """Return the place after an item; None if it is none of this conversation's."""
        if anchor is None:
            return 0
        conversation_id, _, item = anchor.partition(":item_")
        return int(item) if conversation_id == place else None


def _users(request: RunRequest) -> list[Entry]:
    return [("user", message_id) for item in request.items for message_id in item.message_ids]


class Crash(Exception):
    """The worker is killed."""


class Known(Exception):
    """A world of this state was checked to the end."""


_NO_STATE = frozenset(
    {"provider", "capabilities", "rules", "clock", "fault", "number", "known", "last_fault"}
    | {"claims", "steered", "wishes", "trace", "_context", "looks"}
)
"""Attributes of a world that its state has in other words, or that are over, or all have."""


class World:
    """A worker that dies and is replaced, and a store and a provider that keep what they took."""

    def __init__(
        self,
        provider: ModelProvider,
        capabilities: Capabilities,
        rules: Rules = Rules(),  # noqa: B008
        *,
        mapped: bool = False,
        batch: tuple[Message, ...] = (),
    ) -> None:
        self.provider = provider
        self.capabilities = capabilities
        self.rules = rules
        self.clock = FakeClock()
        self.batch = claimed(*batch, conversation_id=None if mapped else HOME, anchor=None)
        self.phase = self.batch.phase
        self.stored = self.batch.progress.dump()
        self.deaths = 0
        self.conversation_id = self.batch.conversation_id
        self.answered: Counter[str] = Counter()
        self.delivered: list[str] = []
        self.finished = 0
        self.buried: list[steps.Bury] = []
        self.dropped: list[str] = []
        self.fault: Callable[[int, steps.Step, str], Exception | None] = (
            lambda _number, _step, _when: None
        )
        self.number = 0
        self.refused_room = 0
        self._watching = ""
        self.known: set[Hashable] | None = None
        self.last_fault = 0
        self.claims: list[Hashable] = []

    @property
    def progress(self) -> Progress:
        return Progress.load(self.stored)

    def live_to_the_end(self) -> steps.Ending:
        """Claim the batch again and again until it is over."""
        for _ in range(60):
            ending = self._one_life()
            if isinstance(ending, steps.Completed | steps.Failed):
                return ending
        msg = "the batch does not come to an end"
        raise AssertionError(msg)

    def _claim(self) -> None:
        """Note the state, or leave a world that is like one that was checked to the end."""
        if self.known is None or self._is_more_to_happen():
            return
        state = self.state()
        if state in self.known:
            raise Known
        self.claims.append(state)

    def _is_more_to_happen(self) -> bool:
        return self.number < self.last_fault

    def state(self) -> Hashable:
        """Return what decides how it continues, and how that is checked."""
        own = {name: value for name, value in vars(self).items() if name not in _NO_STATE}
        own["stored"] = in_seconds(self.stored)
        own["now"] = self.clock.ms // 1000
        return frozen([own, vars(self.provider)])

    def _one_life(self) -> steps.Ending | None:
        self._claim()
        batch = replace(
            self.batch,
            phase=self.phase,
            progress=self.progress,
            deaths=self.deaths,
            conversation_id=self.conversation_id,
        )
        flow = run_batch(
            BatchContext(batch, self.capabilities, self.rules, self.clock.store_now_ms)
        )
        answer: Any = None
        try:
            while True:
                step = flow.throw(answer) if isinstance(answer, Exception) else flow.send(answer)
                answer = self._carry_out(step)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]
        except Crash:
            flow.close()
            self.deaths += 1
            self.clock.advance(31)  # the lease lapses
            return None

    def _carry_out(self, step: steps.Step) -> Any:
        self.number += 1
        self.clock.advance(0.01)
        number = self.number
        for when in ("before", "after"):
            problem = self.fault(number, step, when)
            if isinstance(problem, Crash):
                raise problem
            if problem is not None:
                return problem
            if when == "before":
                try:
                    answer = self._effect(step)
                except (RequestRefused, RunVanished, OutcomeUnknown) as error:
                    answer = error
        return answer

    def _effect(self, step: steps.Step) -> Any:  # noqa: C901, PLR0912 - a case each
        provider = self.provider
        match step:
            case steps.Save():
                self._save(step.phase, step.progress)
            case steps.Start():
                started = provider.start(step.request)
                self._watching = started.run_id
                return started
            case steps.Submit():
                started = provider.submit(step.request, step.run_id, step.calls, step.outputs)
                self._watching = started.run_id
                return started
            case steps.Follow():
                if not step.request.writes:
                    provider._run(step.run_id)
                self._watching = step.run_id
                return RunAccepted(run_id=step.run_id)
            case steps.Watch():
                return provider.watch(self._watching)
            case steps.Find():
                return provider.find(step.request, step.run_id, step.calls)
            case steps.CheckRun():
                return provider.check(step.run_id)
            case steps.AskForRoom():
                self.refused_room -= self.refused_room > 0
                return 30.0 if self.refused_room else 0.0
            case steps.AwaitRun():
                self._save(step.phase, step.progress)
                self.deaths = 0
                self.clock.advance(min(step.wait_s, step.most_s))
            case steps.Locate():
                return provider.anchor(step.conversation_id)
            case steps.OpenConversation():
                self.conversation_id = self.conversation_id or HOME
                return self.conversation_id, provider.anchor(self.conversation_id)
            case steps.RenewConversation():
                return provider.renew(step.request)
            case steps.MoveThread():
                assert step.old_id == self.conversation_id, "nothing else moves it here"
                self._save(step.phase, step.progress)
                self.conversation_id = provider.home = step.conversation_id
                self.dropped += [step.old_id] if step.drops_old else []
                return True
            case steps.Answer():
                self.answered.update(one.id for one in step.calls)
                return answered(step, "sunny")
            case steps.EnterExclusive():
                return None
            case steps.Cancel():
                for run in provider.open_runs():
                    run.status = "cancelled"
            case steps.Postpone():
                self._save(step.phase, step.progress)
                self.deaths = 0
                self.clock.advance(step.wait_s)
            case steps.Finish():
                self.finished += 1
                self.delivered += [step.result.batch_id] if step.delivers else []
            case steps.Bury():
                self.buried.append(step)
            case _:
                raise AssertionError(step)
        return None

    def _save(self, phase: Phase, progress: Progress) -> None:
        stored = progress.dump()
        if phase is not self.phase or stored != self.stored:
            self.deaths = 0
        self.phase = phase
        self.stored = stored


__all__ = [
    "ASSISTANTS",
    "BACKGROUND",
    "CONVERSATIONS",
    "DONE",
    "FOREGROUND",
    "HOME",
    "CannotAsk",
    "Crash",
    "Known",
    "Limit",
    "ModelProvider",
    "Scripted",
    "World",
    "action",
    "call",
    "claimed",
    "messages",
    "names",
]
