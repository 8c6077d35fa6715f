"""Write the model's output as messages, steps and the events of a stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from functools import partial

from assistant_queue.testing.provider import assistants_wire as wire
from assistant_queue.testing.provider.actions import AppendLate
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.pacing import forever, pause, say
from assistant_queue.testing.provider.run import Run, Step
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    Never,
    Outcome,
    RunFailure,
    ToolCalls,
    as_reply,
)
from assistant_queue.testing.provider.sse import DONE, frame
from assistant_queue.testing.provider.state import Json, World
from assistant_queue.testing.provider.troubles import code_and_message

# What becomes of a message that is being written when its run ends early.
_CUT_MESSAGE = {"cancelled": "run_cancelled", "expired": "run_expired", "failed": "run_failed"}


class RunWriter:
    """Carries out what the model script decided, in the order of events of the provider."""

    def __init__(self, world: World) -> None:
        self._world = world

    async def perform(self, run: Run, outcome: Outcome) -> str:
        """Do what the model decided.

        Returns:
            The status the run is to have: final, or `requires_action`. It is not set yet.
        """
        if isinstance(outcome, Never):
            await forever()
        if isinstance(outcome, ToolCalls):
            await self._call_tools(run, outcome)
            return "requires_action"
        if isinstance(outcome, IncompleteReply):
            run.incomplete = {"reason": outcome.reason or "max_completion_tokens"}
            await self._speak(run, outcome.text, 1, self._delay(outcome.delay), "incomplete")
            return "incomplete"
        if isinstance(outcome, RunFailure):
            await self._fail(run, outcome)
            return "failed"
        reply = as_reply(outcome)
        delay = self._delay(reply.delay) / max(1, len(reply.texts))
        for text in reply.texts:
            await self._speak(run, text, reply.chunks, delay, "completed")
        return "completed"

    def add_messages(self, run: Run, messages: Sequence[Json]) -> None:
        """Add a run's input or output messages to its thread: at once, or late by a fault."""
        late = find(AppendLate, run.actions)
        if late is None:
            self._append(run, messages)
        else:
            self._world.spawn(self._append_late(run, messages, late.seconds))

    def close_call_step(self, run: Run, outputs: Mapping[str, str]) -> None:
        """The calls of the last step were answered."""
        step = run.steps[-1]
        for call in step.details["tool_calls"]:
            call["function"]["output"] = outputs[call["id"]]
        self._end_step(run, step, "completed")

    def cut_short(self, run: Run, status: str) -> None:
        """End the run with this status; an unfinished message stays, marked as incomplete."""
        if status not in _CUT_MESSAGE:
            return
        if run.message is not None:
            details = {"reason": _CUT_MESSAGE[status]}
            run.message.update(
                status="incomplete", incomplete_at=run.ended_at, incomplete_details=details
            )
            self._emit(run, "thread.message.incomplete", run.message)
        if run.steps and run.steps[-1].status == "in_progress":
            self._end_step(run, run.steps[-1], status)

    def emit_thread(self, run: Run) -> None:
        """Show that the thread was made together with the run."""
        self._emit(run, "thread.created", wire.thread_json(run.thread))

    def emit_run(self, run: Run, event: str) -> None:
        """Put an event on the tape that shows the whole run."""
        if run.tape is not None:
            self._emit(run, f"thread.run.{event}", self.shown(run))

    def close_tape(self, run: Run) -> None:
        """The stream of this leg is over."""
        if run.tape is not None and not run.tape.is_closed:
            run.tape.put(DONE)
            run.tape.close()

    def shown(self, run: Run) -> Json:
        """A run as this server shows it."""
        return wire.run_json(run, self._world.personality.expires_at)

    async def _speak(self, run: Run, text: str, chunks: int, delay: float, status: str) -> None:
        """Write one message, spreading `delay` over its deltas."""
        message, step = self._begin_message(run)
        gates = self._world.gates
        record = partial(self._world.log.run, run.id)
        is_first = True
        async for piece in say(
            text,
            1 if run.tape is None else chunks,
            delay,
            lambda: gates.pass_through("speaking", record),
        ):
            self._emit(
                run,
                "thread.message.delta",
                wire.message_delta(message["id"], piece, is_first=is_first),
            )
            is_first = False
        run.message = None
        run.said.append(text)
        wire.end_message(message, text, status)
        self._emit(run, f"thread.message.{status}", message)
        self._end_step(run, step, "completed")

    def _begin_message(self, run: Run) -> tuple[Json, Step]:
        message = run.message = wire.begun_message(run)
        details = {"type": "message_creation", "message_creation": {"message_id": message["id"]}}
        step = self._begin_step(run, Step(new_id("step"), "message_creation", details))
        self.add_messages(run, [message])
        self._emit(run, "thread.message.created", message)
        self._emit(run, "thread.message.in_progress", message)
        return message, step

    async def _call_tools(self, run: Run, outcome: ToolCalls) -> None:
        await pause(self._delay(outcome.delay))
        if outcome.text is not None:
            await self._speak(run, outcome.text, 1, 0.0, "completed")
        run.open_calls = tuple(
            (new_id("call"), name, arguments) for name, arguments in outcome.calls
        )
        calls = [wire.call_json(*call) for call in run.open_calls]
        for call in calls:
            call["function"]["output"] = None
        step = self._begin_step(
            run, Step(new_id("step"), "tool_calls", {"type": "tool_calls", "tool_calls": calls})
        )
        self._emit(run, "thread.run.step.delta", wire.step_delta(step))

    async def _fail(self, run: Run, failure: RunFailure) -> None:
        await pause(self._delay(failure.delay))
        if failure.text is not None:
            # Left open: the end of the run marks it as unfinished.
            message, _ = self._begin_message(run)
            self._emit(
                run,
                "thread.message.delta",
                wire.message_delta(message["id"], failure.text, is_first=True),
            )
        code, words = code_and_message(failure, self._world.personality)
        run.last_error = {"code": code, "message": words}
        if failure.as_error_event:
            error = {"message": words, "type": code, "param": None, "code": code}
            self._emit(run, "error", error)
            self.close_tape(run)

    def _append(self, run: Run, messages: Sequence[Json]) -> None:
        run.thread.messages.extend(messages)
        self._world.record_appended(run.thread.id, run.id, messages)

    async def _append_late(self, run: Run, messages: Sequence[Json], seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._world.gates.pass_through("appending", lambda: self._world.log.run(run.id))
        self._append(run, messages)

    def _begin_step(self, run: Run, step: Step) -> Step:
        run.steps.append(step)
        for event in ("created", "in_progress"):
            self._emit_step(run, step, event)
        return step

    def _end_step(self, run: Run, step: Step, status: str) -> None:
        step.status = status
        if status == "completed":
            step.completed_at = int(time.time())
        self._emit_step(run, step, status)

    def _emit_step(self, run: Run, step: Step, event: str) -> None:
        if run.tape is not None:
            self._emit(run, f"thread.run.step.{event}", wire.step_json(run, step))

    def _emit(self, run: Run, event: str, data: Json) -> None:
        if run.tape is not None and not run.tape.is_closed:
            run.tape.put(frame(event, data))

    def _delay(self, delay: float | None) -> float:
        return self._world.latency if delay is None else delay
