"""The endpoints of runs."""

from __future__ import annotations

import time

from assistant_queue.testing.provider import assistants_wire as wire
from assistant_queue.testing.provider import bodies
from assistant_queue.testing.provider.actions import IgnoreCancel, Vanish
from assistant_queue.testing.provider.api_errors import (
    assistant_side_not_found,
    thread_has_active_run,
)
from assistant_queue.testing.provider.context_limits import check_run, check_shortening, read_by
from assistant_queue.testing.provider.faults import find
from assistant_queue.testing.provider.ids import new_id
from assistant_queue.testing.provider.paging import page
from assistant_queue.testing.provider.routing import Answer, ApiCall, Operation
from assistant_queue.testing.provider.run import Run, unanswered
from assistant_queue.testing.provider.runs_engine import RunsEngine
from assistant_queue.testing.provider.sse import StreamAnswer, Tape
from assistant_queue.testing.provider.state import Json, Thread, World, is_user_text
from assistant_queue.testing.provider.threads_api import find_assistant, find_thread, new_thread


class RunsApi:
    """Creates, shows, continues and cancels runs."""

    def __init__(self, world: World, engine: RunsEngine) -> None:
        self._world = world
        self._engine = engine

    def operations(self) -> list[Operation]:
        """The endpoints of this class."""
        runs = "/threads/{thread_id}/runs"
        run = f"{runs}/{{run_id}}"
        submit = f"{run}/submit_tool_outputs"
        return [
            Operation(
                "threads.create_and_run",
                "POST",
                "/threads/runs",
                "assistants",
                self.create_thread_and_run,
            ),
            Operation("runs.create", "POST", runs, "assistants", self.create),
            Operation("runs.list", "GET", runs, "assistants", self.list_runs),
            Operation("runs.retrieve", "GET", run, "assistants", self.retrieve),
            Operation("runs.update", "POST", run, "assistants", self.update),
            Operation("runs.cancel", "POST", f"{run}/cancel", "assistants", self.cancel),
            Operation("runs.submit_tool_outputs", "POST", submit, "assistants", self.submit),
            Operation("steps.list", "GET", f"{run}/steps", "assistants", self.list_steps),
        ]

    async def create(self, call: ApiCall) -> Answer:
        """Start a run, with further messages if asked for; refused while another is active."""
        thread = find_thread(self._world, call)
        asked = call.checked(bodies.CREATE_RUN)
        assistant = find_assistant(self._world, asked["assistant_id"])
        lock = self._world.personality.lock
        if thread.active and lock != "none":
            raise thread_has_active_run(
                thread.id, next(iter(thread.active)), as_conflict=lock == "conflict"
            )
        return self._start(thread, asked, assistant, call, is_new_thread=False)

    async def create_thread_and_run(self, call: ApiCall) -> Answer:
        """Make a thread and start a run on it."""
        asked = call.checked(bodies.CREATE_THREAD_AND_RUN)
        assistant = find_assistant(self._world, asked["assistant_id"])
        thread = new_thread(self._world, asked.get("thread") or {})
        return self._start(thread, asked, assistant, call, is_new_thread=True)

    async def list_runs(self, call: ApiCall) -> Answer:
        """A page of runs."""
        runs = [self._engine.shown(run) for run in find_thread(self._world, call).runs.values()]
        return page(runs, call.request.query, self._world.personality)

    async def retrieve(self, call: ApiCall) -> Answer:
        """A run as it is."""
        return self._engine.shown(self._find(call))

    async def update(self, call: ApiCall) -> Answer:
        """Replace a run's metadata."""
        run = self._find(call)
        run.asked = {**run.asked, **call.checked(bodies.UPDATE_METADATA)}
        return self._engine.shown(run)

    async def cancel(self, call: ApiCall) -> Answer:
        """Begin to cancel a run."""
        return self._engine.cancel(
            self._find(call), is_ignored=find(IgnoreCancel, call.actions) is not None
        )

    async def submit(self, call: ApiCall) -> Answer:
        """Answer the functions a run waits for."""
        run = self._find(call)
        asked = call.checked(bodies.SUBMIT_OUTPUTS)
        tape = Tape() if asked.get("stream") else None
        self._engine.submit(run, asked["tool_outputs"], tape)
        return self._answer(run)

    async def list_steps(self, call: ApiCall) -> Answer:
        """A page of a run's steps."""
        run = self._find(call)
        steps = [wire.step_json(run, step) for step in run.steps]
        return page(steps, call.request.query, self._world.personality)

    def _start(
        self, thread: Thread, asked: Json, assistant: Json, call: ApiCall, *, is_new_thread: bool
    ) -> Answer:
        given = (
            []
            if self._world.personality.ignores_additional_messages
            else asked.get("additional_messages") or []
        )
        added = [wire.asked_message(thread.id, message) for message in given]
        server = self._world.personality
        check_shortening(asked, server)
        run = Run(
            id=new_id("run"),
            thread=thread,
            asked=asked,
            assistant=assistant,
            user_messages=unanswered(thread)
            + [message for message in added if is_user_text(message)],
            expires_at=time.time() + self._world.run_expires_after,
            tape=Tape() if asked.get("stream") else None,
            actions=call.actions,
            added=added,
        )
        check_run(run, server)
        read = {message["id"] for message in read_by(run, server)}
        run.user_messages = [message for message in run.user_messages if message["id"] in read]
        self._engine.start(run, added, request=call.request.number, is_new_thread=is_new_thread)
        answer = self._answer(run)
        if find(Vanish, call.actions) is not None:
            self._engine.vanish(run)
        return answer

    def _answer(self, run: Run) -> Answer:
        if run.tape is None:
            return self._engine.shown(run)
        return StreamAnswer(run.tape, 0, lambda: self._engine.abort(run))

    def _find(self, call: ApiCall) -> Run:
        ident = call.param("run_id")
        run = find_thread(self._world, call).runs.get(ident)
        if run is None:
            raise assistant_side_not_found("run", ident)
        return run
