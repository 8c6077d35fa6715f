"""Run Assistants runs in legs, each from `queued` to a pause for tool outputs or to the end.

A run continues without subscribers, and its thread stays locked until it has ended,
`requires_action` included.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

from assistant_queue.testing.provider.actions import ExpireNow, ReplyWith
from assistant_queue.testing.provider.api_errors import (
    outputs_not_accepted,
    run_not_cancellable,
    wrong_outputs,
)
from assistant_queue.testing.provider.context_limits import failure_of, overlong_run
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.run import Run
from assistant_queue.testing.provider.run_writer import RunWriter
from assistant_queue.testing.provider.script import Outcome, OutputGiven, tokens_of
from assistant_queue.testing.provider.sse import Tape
from assistant_queue.testing.provider.state import Json, World, count_words, text_of

_CANCELLABLE = frozenset({"queued", "in_progress", "requires_action"})


class RunsEngine:
    """Moves runs through their life.

    1. `start` takes a checked run on and locks its thread.
    2. A leg asks the model and writes messages, calls and the stream.
    3. `submit` checks tool outputs and starts the next leg.
    4. `cancel`, `expire`, `abort` and `vanish` end it from outside.
    5. `end` is the only way out: it unlocks and notifies every subscriber.
    """

    def __init__(self, world: World) -> None:
        self._world = world
        self._writer = RunWriter(world)

    def start(
        self, run: Run, added: Sequence[Json], *, request: int, is_new_thread: bool = False
    ) -> None:
        """Start work on a run that has passed all checks.

        Args:
            run: Which.
            added: The messages that came with it.
            request: The number of the request.
            is_new_thread: Its thread was made by the same request.
        """
        world = self._world
        run.thread.runs[run.id] = run
        world.log.start_run(run.record(request))
        world.enter(run.thread, run.id)
        if added:
            self._writer.add_messages(run, added)
        if is_new_thread:
            self._writer.emit_thread(run)
        self._writer.emit_run(run, "created")
        delay = max(0.0, run.expires_at - time.time())
        run.timer = asyncio.get_running_loop().call_later(delay, self.expire, run)
        run.task = world.spawn(self._leg(run))
        if find(ExpireNow, run.actions) is not None:
            self.expire(run)

    def shown(self, run: Run) -> Json:
        """A run as this server shows it."""
        return self._writer.shown(run)

    def submit(self, run: Run, given: Sequence[Json], tape: Tape | None) -> None:
        """Take all outputs of the round and continue.

        Raises:
            ApiProblem: The run does not wait for outputs, or these are not exactly those it waits
                for.
        """
        if run.status != "requires_action":
            raise outputs_not_accepted(run.status)
        names = {call_id: name for call_id, name, _ in run.open_calls}
        got = [output["tool_call_id"] for output in given]
        if sorted(names) != sorted(got):
            raise wrong_outputs(list(names), got)
        taken = tuple(
            OutputGiven(out["tool_call_id"], names[out["tool_call_id"]], out["output"])
            for out in given
        )
        run.outputs += taken
        run.round += 1
        run.open_calls = ()
        run.status = "queued"
        run.tape = tape
        self._world.log.change_run(run.id, status="queued", outputs=run.outputs)
        self._writer.close_call_step(run, {output.call_id: output.output for output in taken})
        run.task = self._world.spawn(self._leg(run))

    def cancel(self, run: Run, *, is_ignored: bool) -> Json:
        """Begin to cancel.

        Returns:
            The run as it is then: `cancelling`.

        Raises:
            ApiProblem: It has ended, or is being cancelled already.
        """
        if run.status not in _CANCELLABLE:
            raise run_not_cancellable(run.status)
        if is_ignored:
            return {**self.shown(run), "status": "cancelling", "required_action": None}
        if run.task is not None:
            run.task.cancel()
        run.status = "cancelling"
        self._world.log.change_run(run.id, status="cancelling")
        self._writer.emit_run(run, "cancelling")
        asyncio.get_running_loop().call_soon(self.end, run, "cancelled")
        return self.shown(run)

    def expire(self, run: Run) -> None:
        """The run's time is over."""
        self._stop(run, "expired")

    def abort(self, run: Run) -> None:
        """The server stops working because its client has gone."""
        if run.ended_at is None:
            run.last_error = {"code": "server_error", "message": "The client disconnected."}
            self._stop(run, "failed")

    def vanish(self, run: Run) -> None:
        """Forget a run; its stream is cut, its user messages stay in the thread."""
        if run.tape is not None:
            run.tape.close(broken=True)
        self._stop(run, "failed", log_as="vanished")
        run.thread.runs.pop(run.id, None)

    def end(self, run: Run, status: str, *, log_as: str | None = None) -> None:
        """Bring a run to a final status. Nothing happens if it has one.

        Args:
            run: Which.
            status: The final status.
            log_as: The status the log shows, if another.
        """
        if run.ended_at is not None:
            return
        if run.timer is not None:
            run.timer.cancel()
        run.status = status
        run.ended_at = int(time.time())
        run.open_calls = ()
        self._writer.cut_short(run, status)
        if not self._world.personality.omits_usage:
            run.usage = _usage(run)
        if status in {"completed", "incomplete"} and run.said:
            run.thread.answered.update(message["id"] for message in run.user_messages)
        run.thread.active.pop(run.id, None)
        error_code = (run.last_error or {}).get("code")
        self._world.log.change_run(run.id, status=log_as or status, error_code=error_code)
        self._writer.emit_run(run, status)
        self._writer.close_tape(run)

    def _stop(self, run: Run, status: str, *, log_as: str | None = None) -> None:
        if run.task is not None:
            run.task.cancel()
        self.end(run, status, log_as=log_as)

    async def _leg(self, run: Run) -> None:
        world = self._world
        self._writer.emit_run(run, "queued")
        if run.ended_at is not None:
            return  # a fault that ends the work at this event
        await world.gates.pass_through("accepted", lambda: world.log.run(run.id))
        run.status = "in_progress"
        run.started_at = run.started_at or int(time.time())
        world.log.change_run(run.id, status="in_progress")
        self._writer.emit_run(run, "in_progress")
        overlong = overlong_run(run, world.personality)
        scripted = find(ReplyWith, run.actions)
        if overlong is not None:
            outcome: Outcome = failure_of(overlong)
        else:
            outcome = world.ask_model(run.turn()) if scripted is None else scripted.outcome
        run.tokens += tokens_of(outcome)
        status = await self._writer.perform(run, outcome)
        if status == "requires_action":
            self._wait_for_outputs(run)
            return
        await world.gates.pass_through("completing", lambda: world.log.run(run.id))
        self.end(run, status)

    def _wait_for_outputs(self, run: Run) -> None:
        run.status = "requires_action"
        self._world.log.change_run(run.id, status="requires_action")
        self._writer.emit_run(run, "requires_action")
        self._writer.close_tape(run)


def _usage(run: Run) -> Json:
    tokens = run.tokens
    words = count_words([text_of(message) for message in run.user_messages])
    used = words + tokens.cached + tokens.cache_write
    said = count_words(run.said) + tokens.reasoning
    return {"prompt_tokens": used, "completion_tokens": said, "total_tokens": used + said}
