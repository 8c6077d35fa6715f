"""Routes of runs: start, read, cancel, and submit tool outputs."""

from __future__ import annotations

from fastapi import APIRouter

from assistant_queue.integrations.fastapi.access import Action
from assistant_queue.integrations.fastapi.guarded_routes import operation
from assistant_queue.integrations.fastapi.schemas import NewRun, Outputs, RunId, ThreadId
from assistant_queue.integrations.fastapi.service import Service
from assistant_queue.models import RunInfo

_PROVIDER = (404, 409, 501, 502)


def add_routes(router: APIRouter, service: Service) -> None:
    """Add the routes of runs to a router."""
    queue = service.queue

    @router.post(
        "/threads/{thread_id}/runs",
        status_code=201,
        **operation(Action.START_RUN, 413, *_PROVIDER, name="start_run"),
    )
    async def start_run(thread_id: ThreadId, body: NewRun) -> RunInfo:
        """Start a run over the provider's thread, outside the queue.

        Messages of the queue do not need this.
        """
        return await queue.create_run(thread_id, body.instructions, body.tools, body.metadata)

    @router.get(
        "/threads/{thread_id}/runs/{run_id}",
        **operation(Action.READ_RUN, *_PROVIDER, name="read_run"),
    )
    async def read_run(thread_id: ThreadId, run_id: RunId) -> RunInfo:
        """Return a run with the tool calls that it waits for."""
        return await queue.get_run(thread_id, run_id)

    @router.post(
        "/threads/{thread_id}/runs/{run_id}/cancel",
        **operation(Action.CANCEL_RUN, *_PROVIDER, name="cancel_run"),
    )
    async def cancel_run(thread_id: ThreadId, run_id: RunId) -> RunInfo:
        """Ask the provider to stop a run."""
        return await queue.cancel_run(thread_id, run_id)

    @router.post(
        "/threads/{thread_id}/runs/{run_id}/tool-outputs",
        **operation(Action.ANSWER_TOOLS, 413, *_PROVIDER, name="answer_tools"),
    )
    async def answer_tools(thread_id: ThreadId, run_id: RunId, body: Outputs) -> RunInfo:
        """Answer all tool calls that a run waits for; return the resumed run."""
        return await queue.submit_tool_outputs(
            thread_id, run_id, [row.model_dump() for row in body.outputs]
        )

    del start_run, read_run, cancel_run, answer_tools
