"""A model of stops, interrupts and steers: wishes, messages that join, and providers that cancel."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flow_harness import (
    ASSISTANTS,
    CONVERSATIONS,
    FOREGROUND,
    HOME,
    Crash,
    Entry,
    ModelProvider,
    World,
    _Run,
    answered,
    claimed,
    messages,
)

from assistant_queue.core import steps
from assistant_queue.core.flow import BatchContext, Rules, run_batch
from assistant_queue.core.flow.interrupting import refusal_of
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
)
from assistant_queue.core.thread_state import Phase
from assistant_queue.core.wishes import Wish, Wished
from assistant_queue.errors import RequestRefused, RunVanished
from assistant_queue.models import FunctionCall, Message, ToolCall

RESPONSES = replace(CONVERSATIONS, steers=True)
CHAT = Capabilities(
    found_by=FoundBy.NOT_AT_ALL, conversations=False, stateless=True, writes=True, steers=True
)
COROUTINE = Capabilities(
    found_by=FoundBy.NOT_AT_ALL, cancels=True, conversations=False, writes=True, resumes=True
)
"""A function with a history that the queue can really end."""

KINDS: dict[str, Capabilities] = {
    "responses": RESPONSES,
    "assistants": ASSISTANTS,
    "chat": CHAT,
    "function": COROUTINE,
    "foreground": replace(FOREGROUND, steers=True),
}

ENDED_EARLY = (
    steps.Separate,
    steps.Instruct,
    steps.EnterExclusive,
    steps.FallBack,
    steps.Follow,
    steps.Watch,
    steps.Find,
)
STARTS = (steps.Start, steps.Submit)
MOST_STEPS = 250
STRENGTH = {Wish.STEER: 1, Wish.INTERRUPT: 2, Wish.STOP: 3}


def edited(message_id: str, number: int = 0) -> str:
    """Return the content of a message after an edit; the conversation has both as entries."""
    return f"{message_id} edited {number or ''}"


def what_of(message_id: str, content: object) -> str:
    return str(content) if str(content).startswith(edited(message_id)) else message_id


def entry_of(item: InputItem) -> list[Entry]:
    kind = "said" if item.role == "assistant" else "user"
    return [(kind, what_of(message_id, item.content)) for message_id in item.message_ids]


def entries_of(items: Sequence[InputItem]) -> list[Entry]:
    return [entry for item in items for entry in entry_of(item)]


class SteeredProvider(ModelProvider):
    """A provider that cancels runs and takes messages with outputs.

    `keeps_cut`: a response that is cancelled leaves its input in the conversation.
    `is_stubborn`: a run is cancelled only with the second request to cancel it.
    """

    def __init__(
        self,
        *,
        by_anchor: bool,
        rounds: int = 0,
        keeps_cut: bool = False,
        is_stubborn: bool = False,
    ) -> None:
        super().__init__(by_anchor=by_anchor, rounds=rounds)
        self.keeps_cut = keeps_cut
        self.is_stubborn = is_stubborn
        self.answers: list[list[str]] = []
        """The messages in the conversation at each reply."""

    def open_runs(self, place: str | None = None) -> list[_Run]:
        """Return runs that keep the conversation from others."""
        found = super().open_runs(place)
        return [run for run in found if run.status == "in_progress"] if self.by_anchor else found

    def start(self, request: RunRequest) -> RunAccepted:
        self._heal(request)
        if not request.writes:
            # The backend has an input for a request that says nothing new.
            has_input = bool(request.items) or (self.keeps_cut and bool(request.cut))
            assert has_input or not self.by_anchor, "a response has input"
            left = [one for one in self._open_calls(HOME) if one not in request.open_calls]
            if left and self.by_anchor and not self.open_runs(HOME):
                msg = f"calls without outputs: {left}"
                raise RequestRefused(msg)
        started = super().start(request)
        if not request.writes and self.by_anchor:
            self._last.outputs = tuple(("output", one) for one in self._healed)
        return started

    def _own(self, place: str) -> list[Entry]:
        """Return the whole conversation: the first message of the batch may be removed."""
        return self.conversations[place]

    def _heal(self, request: RunRequest) -> None:
        self._healed = [one for one in request.open_calls if one in self._open_calls(HOME)]

    @property
    def _last(self) -> _Run:
        return self.runs[-1]

    def _write(self, request: RunRequest) -> None:
        log = self.log
        if self.open_runs(HOME):
            msg = "a run is active"
            raise RequestRefused(msg)
        if self.by_anchor:
            log.extend(("output", one) for one in self._healed)
        wanted = entries_of(request.items)
        log.extend(wanted if self.by_anchor else [one for one in wanted if one not in log])

    def _write_items(self, run: _Run) -> None:
        """Outputs come first, and the messages that are added to them after."""
        log = self.conversations[run.place]
        log.extend(run.outputs)
        log.extend(entries_of(run.items))
        run.items = ()
        run.outputs = ()

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> RunAccepted:
        waiting = [run for run in self.runs if run.status == "waiting"]
        started = super().submit(request, run_id, calls, outputs)
        if self.by_anchor:
            for run in waiting:
                run.status = "answered"
        run = self._run(started.run_id)
        run.rounds_left = max(0, run.rounds_left)
        if request.added:
            assert self.by_anchor, "messages are refused while a run is active"
            self._run(started.run_id).items = request.added
        return started

    def settle(self) -> None:
        before = self.log.count(("reply", "batch_1"))
        super().settle()
        if self.log.count(("reply", "batch_1")) > before:
            self.answers.append([what for kind, what in self.log if kind == "user"])

    def cancel(self, run_id: str) -> None:
        run = next((one for one in self.runs if one.id == run_id), None)
        if run is None:
            return
        if self.is_stubborn:
            self.is_stubborn = False
            return
        if run.status == "in_progress" or (run.status == "waiting" and not self.by_anchor):
            if run.status == "waiting":  # what waits is over, and has an output at the provider
                self.log.extend(("output", one.id) for one in run.waits_for)
            if self.keeps_cut and self.by_anchor:
                self._write_items(run)
            run.status = "cancelled"

    def cancelled_texts(self) -> Counter[Entry]:
        return Counter(entry for entry in self.log if entry[0] == "said")

    def find(self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
        run = next((one for one in self.runs if one.id == run_id), None)
        if self.by_anchor and run is not None and not calls and run.status != "answered":
            return RunAccepted(run_id=run.id) if self._is_at_work(run) else self._event(run)
        if not self.by_anchor and run is not None and self._is_at_work(run):
            return RunAccepted(run_id=run.id)
        found = super().find(request, run_id, calls)
        if isinstance(found, NotFound) and not self.by_anchor and not request.writes:
            wanted = entries_of(request.items)
            held = bool(wanted) and all(one in self.log for one in wanted)
            return replace(found, holds_text=held)
        return found

    def _is_at_work(self, run: _Run) -> bool:
        """Whether a run is at work; it ends after two questions."""
        self._numbers[f"questions about {run.id}"] += 1
        if self._numbers[f"questions about {run.id}"] > 2:
            self.settle()
        return run.status == "in_progress"

    def _find_written(self, request: RunRequest) -> Finding:
        since = (self._after(request.anchor, HOME) or 0) if self.by_anchor else 0
        is_there = set(entries_of(request.items)) <= set(self.log[since:])
        return WRITTEN[1] if is_there else NotFound(anchor=self.anchor(HOME))

    def _find_by_metadata(
        self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]
    ) -> Finding | None:
        hidden = [one for one in self.runs if one.id in request.cut and one.id != run_id]
        self.runs = [one for one in self.runs if one not in hidden]
        try:
            return super()._find_by_metadata(request, run_id, calls)
        finally:
            self.runs = [*hidden, *self.runs]

    def _find_by_anchor(self, request: RunRequest, calls: Sequence[ToolCall]) -> Finding | None:
        log = self.log
        if calls:
            if ("output", calls[-1].id) not in log:
                return None
            place = log.index(("output", calls[-1].id)) + 1
        else:
            after = self._after(request.anchor, HOME)
            wanted = entries_of(request.items)
            ends = [
                end
                for end in range((after or 0) + len(wanted), len(log) + 1)
                if log[end - len(wanted) : end] == wanted
            ]
            if after is None or not ends or len(log) == after:
                return None
            place = ends[0]
        rest = log[place:]
        steered = [entry for entry in entries_of(request.steered) if entry in rest]
        rest = [entry for entry in rest if entry not in steered]
        anchor = self.anchor(HOME)
        answered_calls = {what for kind, what in log if kind == "output"}
        still_open = [w for kind, w in rest if kind == "call" and w not in answered_calls]
        if still_open:
            return ActionRequired(
                run_id="",
                calls=tuple(ToolCall(one, FunctionCall("weather", "{}")) for one in still_open),
                whole=not calls,
                anchor=anchor,
                steered=len(steered),
            )
        is_answered = ("reply", request.batch.id) in rest
        replies = ("the answer",) if is_answered else ()
        return RunEnded(
            run_id="", status="completed", replies=replies, whole=not calls, anchor=anchor
        )


class StatelessProvider(SteeredProvider):
    """Chat Completions, or a function: nothing is kept; the history is in the thread's record."""

    def __init__(self, *, rounds: int = 0) -> None:
        super().__init__(by_anchor=False, rounds=rounds)
        self._open: tuple[RunRequest, list[Entry]] | None = None
        self.requests: list[list[Entry]] = []

    def start(self, request: RunRequest) -> RunAccepted:
        return self._send(request, [])

    def submit(
        self,
        request: RunRequest,
        run_id: str,
        calls: Sequence[ToolCall],
        outputs: Mapping[str, str],
    ) -> RunAccepted:
        rounds = [tuple(entry) for entry in json.loads(request.transcript or "[]")]
        assert [what for kind, what in rounds if kind == "call"][-1:] == [one.id for one in calls]
        assert set(outputs) == {one.id for one in calls}
        added = entries_of(request.added)
        return self._send(request, [*rounds, *(("output", one.id) for one in calls), *added])

    def _send(self, request: RunRequest, rounds: list[Entry]) -> RunAccepted:
        self._open = (request, rounds)
        if request.writes:
            return WRITTEN[0]
        history = [tuple(entry) for entry in json.loads(request.anchor or "[]")]
        whole = [*history, *entries_of(request.items), *rounds]
        self.requests.append(whole)  # type: ignore[arg-type]
        assert max(Counter(whole).values()) == 1, whole
        return RunAccepted(run_id=self._new("run"))

    def watch(self, run_id: str) -> ActionRequired | RunEnded:
        assert self._open is not None
        request, rounds = self._open
        history = [tuple(entry) for entry in json.loads(request.anchor or "[]")]
        if request.writes:
            return replace(WRITTEN[1], anchor=json.dumps(self._written(history, request)))
        asked = sum(kind == "call" for kind, _ in rounds)
        if asked < self.rounds:
            call = self._new("call")
            return ActionRequired(
                run_id=run_id,
                calls=(ToolCall(call, FunctionCall("weather", "{}")),),
                transcript=json.dumps([*rounds, ("call", call)]),
            )
        entries = [*history, *entries_of(request.items), *rounds, ("reply", request.batch.id)]
        self.answers.append([what for kind, what in entries if kind == "user"])
        return RunEnded(
            run_id=run_id,
            status="completed",
            replies=("the answer",),
            anchor=json.dumps(entries),
        )

    def _written(self, history: Sequence[Any], request: RunRequest) -> list[Any]:
        """As `chat_completions.requests.written`: rounds stand before what was said."""
        rounds = [tuple(entry) for entry in json.loads(request.transcript or "[]")]
        calls = [what for kind, what in rounds if kind == "call"]
        given = {what for kind, what in rounds if kind == "output"}
        rounds += [("output", one) for one in calls if one not in given]
        rounds += entries_of(request.added)
        entries = entries_of(request.items)
        said = [entry for entry in entries if entry[0] == "said"]
        return [*history, *(entry for entry in entries if entry not in said), *rounds, *said]

    def find(self, request: RunRequest, run_id: str | None, calls: Sequence[ToolCall]) -> Finding:
        return CannotAsk(reason="the function may have been called")


@dataclass(frozen=True, kw_only=True)
class Wishing:
    """A wish that is made at a step.

    `message`: of the batch, that is to be edited, or removed if `removes`; "" for a new message.
    """

    kind: Wish
    number: int
    when: str = "before"
    message: str = ""
    removes: bool = False


class SteeredWorld(World):
    """A worker, a store that has wishes and messages that wait, and a provider.

    `is_cut_off`: a request that starts work is cut off, instead of ending before the wish is seen.
    """

    def __init__(
        self,
        provider: SteeredProvider,
        capabilities: Capabilities,
        rules: Rules,
        *wishes: Wishing,
        is_cut_off: bool = False,
        batch: tuple[Message, ...] = (),
    ) -> None:
        super().__init__(provider, capabilities, rules, batch=batch)
        self.steered = provider
        self.wishes = list(wishes)
        self.is_cut_off = is_cut_off
        self.pending: list[Message] = []
        self.wish: Wish | None = None
        self.seen: Wish | None = None
        self.refused: list[str] = []
        self.stopped: list[steps.Stop] = []
        self.results: list[steps.Finish] = []
        self.joined: list[str] = []
        self.trace: list[str] = []
        self.anchor: str | None = None
        self.open_calls: tuple[str, ...] = ()
        self.revisions: dict[str, Message | None] = {}
        self.revised = 0
        self.replaced: set[str] = set()
        """Texts of messages that were edited or removed since."""
        self.looks: set[int] = set()
        """Steps after which a wish is looked for before the next one."""
        self._context: BatchContext | None = None
        self._added = 2
        self._edits = 0

    @property
    def is_over(self) -> bool:
        return bool(self.stopped or self.results or self.buried)

    def entries(self) -> list[str]:
        """The texts of the batch, as they are in the conversation."""
        return [what_of(one.id, one.content) for one in self.batch.batch.messages]

    def ids(self) -> list[str]:
        return [message.id for message in self.batch.batch.messages]

    def next_batch(self) -> SteeredWorld:
        """The thread's next batch, with the messages that wait and one more."""
        left = tuple(self.pending) or messages("next")
        ids = [one if self.pending else replace(one, id="m99") for one in left]
        self.steered.rounds = 0
        world = SteeredWorld(self.steered, self.capabilities, replace(self.rules), batch=tuple(ids))
        batch = replace(world.batch.batch, id="batch_2")
        world.batch = replace(
            world.batch, batch=batch, anchor=self.anchor, open_calls=self.open_calls
        )
        world.clock = self.clock
        return world

    # --- a life -----------------------------------------------------------------------------------

    def live_to_the_end(self) -> steps.Ending:
        for _ in range(60):
            ending = self._one_life()
            if isinstance(ending, steps.Completed | steps.Failed | steps.Stopped):
                return ending
        msg = f"the batch does not come to an end: {self.trace}"
        raise AssertionError(msg)

    def _is_more_to_happen(self) -> bool:
        to_come = any(one.number >= self.number for one in self.wishes)
        return to_come or super()._is_more_to_happen()

    def state(self) -> Hashable:
        made = tuple(one for one in self.trace if one.startswith("wish"))
        return made, super().state()

    def _one_life(self) -> steps.Ending | None:
        self._claim()
        batch = replace(
            self.batch,
            phase=self.phase,
            progress=self.progress,
            deaths=self.deaths,
            conversation_id=self.conversation_id,
            wish=self.wish,
        )
        self.trace.append("claim")
        self.seen = self.wish
        self._context = context = BatchContext(
            batch, self.capabilities, self.rules, self.clock.store_now_ms
        )
        self.looks.add(self.number)
        context.wish_now = self._look
        flow = run_batch(context)
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
            self.clock.advance(31)
            return None

    def _look(self) -> Wish | None:
        self.looks.add(self.number)
        return self.wish

    def _make_wishes(self, number: int, when: str) -> None:
        for wish in [one for one in self.wishes if (one.number, one.when) == (number, when)]:
            self.wishes.remove(wish)
            self.trace.append(f"wish {wish.kind.value}")
            if wish.message:
                self._want_revision(wish)
                continue
            if wish.kind is not Wish.STOP:
                self._added += 1
                name = f"m{self._added}"
                self.pending.append(Message(id=name, content=name))
            self._want(wish.kind)

    def _want(self, kind: Wish) -> None:
        if not self.is_over and STRENGTH[kind] > STRENGTH.get(self.wish, 0):  # type: ignore[arg-type]
            self.wish = kind

    def _want_revision(self, wish: Wishing) -> None:
        """Do as `revise.lua` does."""
        ids = self.ids()
        if self.is_over or wish.message not in ids:
            return
        if wish.removes and len(ids) == 1:
            self.trace.append("wish stop")
            self._want(Wish.STOP)
            return
        self._edits += 1
        content = edited(wish.message, self._edits)
        made = None if wish.removes else Message(id=wish.message, content=content)
        self.revisions[wish.message] = made
        self.revised += 1
        self._want(Wish.INTERRUPT)

    def _revised(self, kept: tuple[Message, ...]) -> tuple[Message, ...]:
        """Return messages as they are with their revisions, which are forgotten."""
        found: list[Message] = []
        for message in kept:
            made = self.revisions.pop(message.id, message)
            if made is not message:
                self.replaced.add(what_of(message.id, message.content))
            found += [made] if made is not None else []
        return tuple(found)

    def _pending_wish(self) -> Wish | None:
        wish = self.wish
        if wish is None or wish is self.seen or wish is Wish.STEER:
            return None
        if wish is Wish.INTERRUPT:
            assert self._context is not None
            reason = refusal_of(self._context)
            if reason is not None:
                self.refused.append(reason)
                self.wish = None
                return None
        return wish

    def _carry_out(self, step: steps.Step) -> Any:
        self.number += 1
        self.clock.advance(0.01)
        number = self.number
        self.trace.append(f"{number} {type(step).__name__}")
        assert number < MOST_STEPS, f"it does not come to an end: {self.trace[:40]}"
        self._make_wishes(number, "before")
        problem = self.fault(number, step, "before")
        if isinstance(problem, Crash):
            raise problem
        leaves = isinstance(step, steps.Save) and step.leaves
        if (leaves or isinstance(step, ENDED_EARLY + STARTS)) and self._pending_wish():
            self.seen = self.wish
            assert self.wish is not None
            return Wished(self.wish, unsent=leaves or isinstance(step, STARTS))
        if problem is not None:
            return problem
        try:
            answer = self._effect(step)
        except (RequestRefused, RunVanished, Wished) as error:
            answer = error
        self._make_wishes(number, "after")
        problem = self.fault(number, step, "after")
        if isinstance(problem, Crash):
            raise problem
        if problem is not None:
            return problem
        is_cut = isinstance(step, ENDED_EARLY) or (self.is_cut_off and isinstance(step, STARTS))
        if is_cut:
            self.looks.add(number)
        if is_cut and not isinstance(answer, Exception) and self._pending_wish():
            self.seen = self.wish
            assert self.wish is not None
            return Wished(self.wish)
        return answer

    def _effect(self, step: steps.Step) -> Any:  # noqa: C901, PLR0912 - a case each
        provider = self.steered
        match step:
            case steps.CloseStream():
                run = next((one for one in provider.runs if one.id == self._watching), None)
                is_open = run is not None and run.status == "in_progress"
                self._watching = ""
                return ("partial",) if is_open else ()
            case steps.Cancel():
                provider.cancel(step.run_id)
            case steps.Join():
                return self._join(step)
            case steps.DeclineInterrupt():
                self.refused.append(step.reason)
                if self.wish is Wish.INTERRUPT:
                    self.wish = self.seen = None
            case steps.ReadRevisions():
                count = str(self.revised or "")
                return steps.Revisions(messages=dict(self.revisions), count=count)
            case steps.Revise():
                return self._revise(step)
            case steps.Trim():
                given_back = self.batch.batch.messages[step.keep :]
                self.pending = [*self._revised(given_back), *self.pending]
                self.revised *= bool(self.revisions)
                self._take(self.batch.batch.messages[: step.keep])
            case steps.Answer():
                self.answered.update(one.id for one in step.calls)
                return answered(step, "sunny")
            case steps.Find():
                return provider.find(step.request, step.run_id, step.calls)
            case steps.Finish():
                self._refuse_unseen_stop()
                self.results.append(step)
                self._leave(step.anchor)
            case steps.Stop():
                self.stopped.append(step)
                self.open_calls = tuple(step.open_calls)
                self._leave(self.batch.anchor if step.keep_anchor else step.anchor)
            case steps.Bury():
                if not step.even_stopped:
                    self._refuse_unseen_stop()
                self.open_calls = tuple(step.open_calls)
                self.buried.append(step)
                self._leave(None)
            case steps.Postpone():
                self._save(step.phase, step.progress)
                self.deaths = 0
                if not (self.wish is Wish.STOP and self.seen is not Wish.STOP):
                    self.clock.advance(step.wait_s)
            case _:
                return super()._effect(step)
        return None

    def _refuse_unseen_stop(self) -> None:
        if self.wish is Wish.STOP and self.seen is not Wish.STOP:
            self.seen = Wish.STOP
            raise Wished(Wish.STOP)

    def _leave(self, anchor: str | None) -> None:
        self.wish = None
        self.anchor = anchor
        if isinstance(self.steered, StatelessProvider):
            kept = self.batch.anchor if anchor is None else anchor
            self.steered.conversations[HOME] = [tuple(one) for one in json.loads(kept or "[]")]

    def _join(self, step: steps.Join) -> steps.Joined:
        self._save(step.phase, step.progress)
        self._take((*self.batch.batch.messages, *self.pending))
        self.joined += [one.id for one in self.pending]
        self.pending = []
        self.wish = self.wish if self.wish is Wish.STOP or self.revised else None
        self.seen = None
        return steps.Joined(messages=self.batch.batch.messages)

    def _revise(self, step: steps.Revise) -> bool:
        if step.revisions.count != str(self.revised or ""):
            return False
        self._save(step.phase, step.progress)
        self._revised(self.batch.batch.messages)
        self.revised = 0
        self._take(step.messages)
        return True

    def _take(self, kept: tuple[Message, ...]) -> None:
        self.batch = replace(self.batch, batch=replace(self.batch.batch, messages=kept))


def provider_of(kind: str, **shape: Any) -> SteeredProvider:
    if KINDS[kind].found_by is FoundBy.NOT_AT_ALL:
        return StatelessProvider(rounds=0 if kind == "function" else shape.get("rounds", 0))
    return SteeredProvider(by_anchor=KINDS[kind].found_by is FoundBy.ANCHOR, **shape)


def world_of(
    kind: str,
    *wishes: Wishing,
    rules: Rules | None = None,
    is_cut_off: bool = False,
    **shape: Any,
) -> SteeredWorld:
    chosen = rules or Rules(max_attempts=10)
    return SteeredWorld(
        provider_of(kind, **shape), KINDS[kind], chosen, *wishes, is_cut_off=is_cut_off
    )


__all__ = [
    "CHAT",
    "COROUTINE",
    "KINDS",
    "RESPONSES",
    "Phase",
    "SteeredWorld",
    "Wishing",
    "claimed",
    "world_of",
]
