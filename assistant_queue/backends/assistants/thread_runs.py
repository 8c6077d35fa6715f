"""Watch, read and cancel single runs of the Assistants protocol."""

from __future__ import annotations

import logging
import time
from functools import partial

from assistant_queue.backends.assistants import parser
from assistant_queue.backends.assistants.requests import AssistantsCalls
from assistant_queue.backends.assistants.thread_log import ThreadLog, is_marked
from assistant_queue.backends.openai.foreign_calls import judged
from assistant_queue.backends.openai.streams import CANCEL_FIRST_S, CANCEL_S, Json, ended, fetch
from assistant_queue.core.runs import ActionRequired, RunEnded, RunRequest
from assistant_queue.errors import RequestRefused, RunVanished

_log = logging.getLogger(__name__)


class ThreadRuns:
    """The runs of threads.

    1. watches a run by polling, until it stops
    2. reads what it said, or what it waits for
    3. cancels it
    4. stops runs that keep a thread busy for nothing
    """

    def __init__(self, calls: AssistantsCalls, log: ThreadLog, *, patience_s: float) -> None:
        """Set up, without a request.

        `patience_s` is the most time between a direct run's calls and their outputs.
        """
        self._calls = calls
        self._threads = log
        self._patience_s = patience_s

    async def until_it_stops(self, request: RunRequest, run_id: str, run: Json) -> Json:
        """Poll a run until the provider has stopped working on it, and return it.

        One that is `cancelling` for ever counts as cancelled.
        """
        read = partial(self._threads.run, request, run_id)
        run = await ended(run, read, parser.is_working)
        run = await ended(run, read, parser.is_open, within_s=CANCEL_S)
        return {**run, "status": "cancelled"} if parser.is_open(run) else run

    async def outcome(self, request: RunRequest, run: Json) -> ActionRequired | RunEnded:
        """Return the outcome of a run, with the texts of all its rounds."""
        if parser.has_ended_well(run) or parser.is_waiting(run):
            return judged(
                parser.outcome_of(
                    run, await self._threads.replies(request, str(run["id"])), whole=True
                ),
                (),
            )
        if run.get("status") == "cancelled":
            # Some servers keep what was said until then.
            replies = await self._threads.replies(request, str(run["id"]))
            return parser.outcome_of(run, replies)
        return parser.outcome_of(run)

    async def cancel(self, request: RunRequest, run_id: str) -> None:
        """Cancel a run and wait a little for its end; one that has ended is fine."""
        if not run_id:
            return
        try:
            run = await fetch(
                self._calls.cancel(request, run_id),
                thread=request.batch.thread_id,
                missing=RunVanished,
            )
            await ended(
                run,
                partial(self._threads.run, request, run_id),
                parser.is_active,
                within_s=CANCEL_S,
                first_s=CANCEL_FIRST_S,
            )
        except (RunVanished, RequestRefused):
            return

    async def have_freed(self, request: RunRequest) -> bool:
        """Stop a direct run that keeps the thread locked while it waits for outputs.

        Return whether there was one.

        Runs of other queues carry a mark, and a worker answers them; outputs of a direct call may
        be on their way for a moment.
        """
        latest = time.time() - self._patience_s
        left = [
            run
            for run in await self._threads.latest_runs(request)
            if parser.is_waiting(run)
            and not is_marked(run)
            and 0 < (run.get("created_at") or 0) < latest
        ]
        for run in left:
            await self.cancel(request, str(run["id"]))
            _log.warning(
                "thread %r: run %s waited for outputs that did not come and was stopped",
                request.batch.thread_id,
                run["id"],
            )
        return bool(left)
