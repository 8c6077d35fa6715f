"""How a run comes about on the Assistants side: through legs, each from `queued` to a pause for tool outputs or to the end.

A run goes on whoever listens, and its thread stays locked until it has ended, `requires_action` included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

from assistant_queue.testing.provider import assistants_wire as wire
from assistant_queue.testing.provider.actions import Action, AppendLate, ExpireNow, ReplyWith
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.log import RunRecord
from assistant_queue.testing.provider.problems import outputs_not_accepted, run_not_cancellable, wrong_outputs
from assistant_queue.testing.provider.responses_engine import cut_in_pieces, pause, tool_names
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    OutputGiven,
    Reply,
    RunFailure,
    ToolCalls,
    Turn,
    as_reply,
)
from assistant_queue.testing.provider.sse import DONE, Tape, frame
from assistant_queue.testing.provider.state import Json, Thread, World, count_words, is_user_text, text_of

FINAL = frozenset({"completed", "failed", "cancelled", "expired", "incomplete"})
_CANCELLABLE = frozenset({"queued", "in_progress", "requires_action"})
# What becomes of a message or step that is being written when its run ends early.
_CUT_MESSAGE = {"cancelled": "run_cancelled", "expired": "run_expired", "failed": "run_failed"}


@dataclass(eq=False)
class Step:
    """A step of a run."""

    id: str
    kind: str
    details: Json
    status: str = "in_progress"
    created_at: int = field(default_factory=lambda: int(time.time()))
    completed_at: int | None = None


@dataclass(eq=False)
class Run:
    """A run: what was asked, and how far it is. `tape` is there only while its present leg is streamed.

    `user_messages` are those nobody has answered yet; `open_calls` are (id, name, arguments).
    """

    id: str
    thread: Thread
    asked: Json
    assistant: Json
    user_messages: list[Json]
    expires_at: float
    tape: Tape | None
    actions: tuple[Action, ...] = ()
    created_at: int = field(default_factory=lambda: int(time.time()))
    status: str = "queued"
    started_at: int | None = None
    ended_at: int | None = None
    open_calls: tuple[tuple[str, str, str], ...] = ()
    outputs: tuple[OutputGiven, ...] = ()
    round: int = 0
    steps: list[Step] = field(default_factory=list)
    message: Json | None = None
    said: list[str] = field(default_factory=list)
    last_error: Json | None = None
    incomplete: Json | None = None
    usage: Json | None = None
    task: asyncio.Task[None] | None = None
    timer: asyncio.TimerHandle | None = None

    @property
    def assistant_id(self) -> str:
        """The assistant that runs."""
        return str(self.assistant["id"])

    @property
    def model(self) -> str:
        """The assistant's model."""
        return str(self.assistant["model"])

    @property
    def instructions(self) -> str:
        """The run's or else the assistant's instructions, then the additional ones."""
        first = self.asked.get("instructions") or self.assistant.get("instructions")
        parts = [part for part in (first, self.asked.get("additional_instructions")) if part]
        return "\n\n".join(parts)

    @property
    def tools(self) -> list[Json]:
        """The run's or else the assistant's tools."""
        own = self.asked.get("tools")
        return list(self.assistant["tools"] if own is None else own)


class RunsEngine:
    """Moves runs through their life.

    1. `start` takes a checked run on and locks its thread.
    2. A leg asks the model and writes messages, calls and the stream.
    3. `submit` checks tool outputs and starts the next leg.
    4. `cancel`, `expire`, `abort` and `vanish` end it from outside; `end` is the only way out.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    def start(self, run: Run, *, request: int, is_new_thread: bool = False) -> None:
        """Start work on a run that has passed all checks."""
        world = self._world
        run.thread.runs[run.id] = run
        world.enter(run.thread, run.id)
        world.log.start_run(_record(run, request))
        if is_new_thread:
            self._emit(run, "thread.created", wire.thread_json(run.thread))
        self._emit_run(run, "created")
        delay = max(0.0, run.expires_at - time.time())
        run.timer = asyncio.get_running_loop().call_later(delay, self.expire, run)
        run.task = world.spawn(self._leg(run))
        if find(ExpireNow, run.actions) is not None:
            self.expire(run)

    def submit(self, run: Run, given: Sequence[Json], tape: Tape | None) -> None:
        """Take all outputs of the round and go on.

        Raises:
            ApiProblem: The run does not wait for outputs, or these are not exactly those it waits for.
        """
        if run.status != "requires_action":
            raise outputs_not_accepted(run.status)
        expected = [call_id for call_id, _, _ in run.open_calls]
        got = [output["tool_call_id"] for output in given]
        if sorted(expected) != sorted(got):
            raise wrong_outputs(expected, got)
        names = {call_id: name for call_id, name, _ in run.open_calls}
        taken = tuple(OutputGiven(out["tool_call_id"], names[out["tool_call_id"]], out["output"]) for out in given)
        run.outputs += taken
        run.round += 1
        run.open_calls = ()
        run.status = "queued"
        run.tape = tape
        self._world.log.change_run(run.id, status="queued", outputs=run.outputs)
        self._close_call_step(run, {output.call_id: output.output for output in taken})
        run.task = self._world.spawn(self._leg(run))

    def cancel(self, run: Run, *, ignored: bool) -> Json:
        """Begin to cancel; the run as it is then: `cancelling`.

        Raises:
            ApiProblem: It has ended, or is being cancelled already.
        """
        if run.status not in _CANCELLABLE:
            raise run_not_cancellable(run.status)
        if ignored:
            return {**self.shown(run), "status": "cancelling", "required_action": None}
        if run.task is not None:
            run.task.cancel()
        run.status = "cancelling"
        self._world.log.change_run(run.id, status="cancelling")
        self._emit_run(run, "cancelling")
        asyncio.get_running_loop().call_soon(self.end, run, "cancelled")
        return self.shown(run)

    def expire(self, run: Run) -> None:
        """The run's time is over."""
        self.stop(run, "expired")

    def abort(self, run: Run) -> None:
        """The server stops working because its client has gone."""
        run.last_error = {"code": "server_error", "message": "The client disconnected."}
        self.stop(run, "failed")

    def vanish(self, run: Run) -> None:
        """Forget a run; its stream is cut, its user messages stay in the thread."""
        if run.tape is not None:
            run.tape.close(broken=True)
        self.stop(run, "failed", log_as="vanished")
        run.thread.runs.pop(run.id, None)

    def stop(self, run: Run, status: str, *, log_as: str | None = None) -> None:
        """End a run from outside, whatever it is doing."""
        if run.task is not None:
            run.task.cancel()
        self.end(run, status, log_as=log_as)

    def end(self, run: Run, status: str, *, log_as: str | None = None) -> None:
        """Bring a run to a final status. Nothing happens if it has one."""
        if run.status in FINAL:
            return
        if run.timer is not None:
            run.timer.cancel()
        run.status = status
        run.ended_at = int(time.time())
        run.open_calls = ()
        self._cut_short(run, status)
        if not self._world.personality.omits_usage:
            used, said = count_words([text_of(message) for message in run.user_messages]), count_words(run.said)
            run.usage = {"prompt_tokens": used, "completion_tokens": said, "total_tokens": used + said}
        if status in {"completed", "incomplete"}:
            run.thread.answered.update(message["id"] for message in run.user_messages)
        run.thread.active.pop(run.id, None)
        self._world.log.change_run(run.id, status=log_as or status, error_code=(run.last_error or {}).get("code"))
        self._emit_run(run, status)
        self._close_tape(run)

    async def _leg(self, run: Run) -> None:
        world = self._world
        self._emit_run(run, "queued")
        await world.gates.pass_through("accepted", lambda: world.log.run(run.id))
        run.status = "in_progress"
        run.started_at = run.started_at or int(time.time())
        world.log.change_run(run.id, status="in_progress")
        self._emit_run(run, "in_progress")
        scripted = find(ReplyWith, run.actions)
        outcome = world.ask_model(_turn(run)) if scripted is None else scripted.outcome
        status = await self._perform(run, outcome)
        if status is None:
            return
        await world.gates.pass_through("completing", lambda: world.log.run(run.id))
        self.end(run, status)

    async def _perform(self, run: Run, outcome: Outcome) -> str | None:
        """Do what the model decided; the final status, None if the run now waits for outputs."""
        if isinstance(outcome, Never):
            await asyncio.get_running_loop().create_future()
        if isinstance(outcome, ToolCalls):
            await self._call_tools(run, outcome)
            return None
        if isinstance(outcome, IncompleteReply):
            run.incomplete = {"reason": outcome.reason or "max_completion_tokens"}
            await self._speak(run, outcome.text, 1, self._delay(outcome.delay), "incomplete")
            return "incomplete"
        if isinstance(outcome, RunFailure):
            await pause(self._delay(outcome.delay))
            run.last_error = {"code": outcome.code, "message": outcome.message}
            if outcome.as_error_event:
                error = {"message": outcome.message, "type": outcome.code, "param": None, "code": outcome.code}
                self._emit(run, "error", error)
                self._close_tape(run)
            return "failed"
        reply: Reply = as_reply(outcome)
        delay = self._delay(reply.delay) / max(1, len(reply.texts))
        for text in reply.texts:
            await self._speak(run, text, reply.chunks, delay, "completed")
        return "completed"

    async def _speak(self, run: Run, text: str, chunks: int, delay: float, status: str) -> None:
        """Write one message, spreading `delay` over its deltas."""
        message = run.message = wire.begun_message(run)
        details = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
        step = self._begin_step(run, Step(new_id("step"), "message_creation", details))
        self.add_messages(run, [message])
        self._emit(run, "thread.message.created", message)
        self._emit(run, "thread.message.in_progress", message)
        pieces = cut_in_pieces(text, chunks) if run.tape is not None else [text]
        for index, piece in enumerate(pieces):
            await pause(delay / len(pieces))
            self._emit(run, "thread.message.delta", wire.message_delta(message["id"], piece, is_first=index == 0))
        run.message = None
        run.said.append(text)
        message.update(content=[wire.text_part(text)], status=status)
        if status == "completed":
            message["completed_at"] = int(time.time())
        else:
            message.update(incomplete_at=int(time.time()), incomplete_details={"reason": "max_tokens"})
        self._emit(run, f"thread.message.{status}", message)
        self._end_step(run, step, "completed")

    def add_messages(self, run: Run, messages: Sequence[Json]) -> None:
        """Add a run's messages, its input or what it says, to its thread: at once, or late by a fault."""
        late = find(AppendLate, run.actions)
        if late is None:
            self._append(run, messages)
        else:
            self._world.spawn(self._append_late(run, messages, late.seconds))

    def _append(self, run: Run, messages: Sequence[Json]) -> None:
        run.thread.messages.extend(messages)
        self._world.record_appended(run.thread.id, run.id, messages)

    async def _append_late(self, run: Run, messages: Sequence[Json], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._world.gates.pass_through("appending", lambda: self._world.log.run(run.id))
        self._append(run, messages)

    async def _call_tools(self, run: Run, outcome: ToolCalls) -> None:
        if outcome.text is not None:
            await self._speak(run, outcome.text, 1, 0.0, "completed")
        await pause(self._delay(outcome.delay))
        run.open_calls = tuple((new_id("call"), name, arguments) for name, arguments in outcome.calls)
        calls = [wire.call_json(*call) for call in run.open_calls]
        for call in calls:
            call["function"]["output"] = None
        details = {"type": "tool_calls", "tool_calls": calls}
        step = self._begin_step(run, Step(new_id("step"), "tool_calls", details))
        self._emit(run, "thread.run.step.delta", wire.step_delta(step))
        run.status = "requires_action"
        self._world.log.change_run(run.id, status="requires_action")
        self._emit_run(run, "requires_action")
        self._close_tape(run)

    def _begin_step(self, run: Run, step: Step) -> Step:
        run.steps.append(step)
        for event in ("created", "in_progress"):
            self._emit(run, f"thread.run.step.{event}", wire.step_json(run, step))
        return step

    def _end_step(self, run: Run, step: Step, status: str) -> None:
        step.status = status
        if status == "completed":
            step.completed_at = int(time.time())
        self._emit(run, f"thread.run.step.{status}", wire.step_json(run, step))

    def _close_call_step(self, run: Run, outputs: dict[str, str]) -> None:
        step = run.steps[-1]
        for call in step.details["tool_calls"]:
            call["function"]["output"] = outputs[call["id"]]
        self._end_step(run, step, "completed")

    def _cut_short(self, run: Run, status: str) -> None:
        """What was being written stays as it is, marked as unfinished."""
        if status not in _CUT_MESSAGE:
            return
        if run.message is not None:
            details = {"reason": _CUT_MESSAGE[status]}
            run.message.update(status="incomplete", incomplete_at=run.ended_at, incomplete_details=details)
            self._emit(run, "thread.message.incomplete", run.message)
        if run.steps and run.steps[-1].status == "in_progress":
            self._end_step(run, run.steps[-1], status)

    def _emit_run(self, run: Run, event: str) -> None:
        if run.tape is not None:
            self._emit(run, f"thread.run.{event}", self.shown(run))

    def _emit(self, run: Run, event: str, data: Json) -> None:
        if run.tape is not None and not run.tape.is_closed:
            run.tape.put(frame(event, data))

    def _close_tape(self, run: Run) -> None:
        if run.tape is not None and not run.tape.is_closed:
            run.tape.put(DONE)
            run.tape.close()

    def shown(self, run: Run) -> Json:
        """A run as this server shows it."""
        return wire.run_json(run, self._world.personality.expires_at)

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay


def _turn(run: Run) -> Turn:
    return Turn(
        protocol="assistants",
        conversation_id=run.thread.id,
        run_id=run.id,
        user_texts=tuple(text_of(message) for message in run.user_messages),
        instructions=run.instructions or None,
        tools=tool_names(run.tools),
        tool_outputs=run.outputs,
        round=run.round,
        metadata=run.asked.get("metadata") or {},
    )


def _record(run: Run, request: int) -> RunRecord:
    return RunRecord(
        id=run.id,
        protocol="assistants",
        conversation_id=run.thread.id,
        request=request,
        user_texts=tuple(text_of(message) for message in run.user_messages),
        message_metadata=tuple(dict(message["metadata"]) for message in run.user_messages),
        metadata=run.asked.get("metadata") or {},
        instructions=run.instructions or None,
        tools=tool_names(run.tools),
        stream=run.tape is not None,
        started_at=time.time(),
    )


def unanswered(thread: Thread) -> list[Json]:
    """The user messages of a thread that were in no completed run, oldest first."""
    return [message for message in thread.messages if is_user_text(message) and message["id"] not in thread.answered]
