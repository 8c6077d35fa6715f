"""Answer a round of tool calls: registered tools in parallel, the rest by the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from assistant_queue.core.steps import ToolsAnswered
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.models import Batch, ToolCall
from assistant_queue.observing import (
    UNOBSERVED,
    Executing,
    Observation,
    Observers,
    Outcome,
    ended_with,
)
from assistant_queue.tools import Tool, Toolbox, ToolContext, WrongArguments
from assistant_queue.tools.outputs import error_output
from assistant_queue.user_code.caller import Function, Late, Raised, UserCode
from assistant_queue.user_code.error_text import log_raised
from assistant_queue.worker import callbacks

_log = logging.getLogger(__name__)


async def answer(
    toolbox: Toolbox,
    handler: Function | None,
    code: UserCode,
    *,
    batch: Batch,
    run_id: str,
    calls: Sequence[ToolCall],
    now_ms: Callable[[], int],
    observers: Observers = UNOBSERVED,
) -> ToolsAnswered:
    """Call the tools of one round; return their outputs, and how long the calls took.

    Calls that the handler answers together took as long as that. `now_ms` is the store's time.

    Raises:
        InvalidToolResult: The handler returned something that is not a list of outputs.
    """
    made = _Round(code, batch, run_id, observers, now_ms)
    work = []
    rest = []
    for call in calls:
        tool = toolbox.get(call.function.name)
        if tool is None:
            rest.append(call)
        else:
            work.append(asyncio.ensure_future(made.call_tool(tool, call)))
    if rest:
        work.append(asyncio.ensure_future(made.hand_over(handler, rest)))
    try:
        await asyncio.gather(*work)
    finally:
        for one in work:
            one.cancel()
        await asyncio.gather(*work, return_exceptions=True)
    return ToolsAnswered(outputs=made.outputs, rows=tuple(made.rows))


class _Round:
    """The calls of one round, as they end."""

    def __init__(
        self,
        code: UserCode,
        batch: Batch,
        run_id: str,
        observers: Observers,
        now_ms: Callable[[], int],
    ) -> None:
        self.outputs: dict[str, str] = {}
        self.rows: list[ToolRow] = []
        self._code = code
        self._batch = batch
        self._run_id = run_id
        self._observers = observers
        self._now = asyncio.get_running_loop().time
        self._now_ms = now_ms

    async def call_tool(self, tool: Tool, call: ToolCall) -> None:
        """Call one tool."""
        context = ToolContext(
            thread_id=self._batch.thread_id,
            run_id=self._run_id,
            call_id=call.id,
            batch=self._batch,
        )
        began = self._moment()
        seen = self._begin(call)
        with ended_with(seen):
            with seen.active():
                output, error = await _call_tool(tool, call, context, self._code)
            seen.end(Outcome(output=output, error=error))
        self._note(call, began, output, error)

    async def hand_over(self, handler: Function | None, rest: Sequence[ToolCall]) -> None:
        """Have the handler answer the calls of functions that are not registered."""
        began = self._moment()
        with ExitStack() as stack:
            seen = {call.id: self._begin(call) for call in rest}
            for one in seen.values():
                stack.enter_context(ended_with(one))
            if len(seen) == 1:  # one call of the handler answers them all
                stack.enter_context(one.active())
            answers = await callbacks.answer(
                handler, self._code, self._batch.thread_id, self._run_id, rest
            )
            for call_id, (output, error) in answers.items():
                seen[call_id].end(Outcome(output=output, error=error))
        for call in rest:
            self._note(call, began, *answers[call.id])

    def _begin(self, call: ToolCall) -> Observation:
        subject = Executing(batch=self._batch, run_id=self._run_id, call=call)
        return self._observers.begin(subject)

    def _moment(self) -> tuple[float, int]:
        """Return now, by the event loop's clock and by the store's."""
        return self._now(), self._now_ms()

    def _note(
        self, call: ToolCall, began: tuple[float, int], output: str, error: str | None
    ) -> None:
        at_s, started_ms = began
        row = ToolRow(
            name=call.function.name,
            ms=round((self._now() - at_s) * 1000),
            error=error or "",
            call_id=call.id,
            started_ms=started_ms,
        )
        self.outputs[call.id] = output
        self.rows.append(row)


async def _call_tool(
    tool: Tool, call: ToolCall, context: ToolContext, code: UserCode
) -> tuple[str, str | None]:
    """Call one tool; return its output, or an error output and the error's type if it fails."""
    where = (context.thread_id, context.run_id, tool.name, call.id)
    try:
        ready = tool.bind(call.function.arguments, context)
    except WrongArguments as error:
        _log.warning(
            "thread %r, run %s: the arguments of %s (%s) are wrong; the model reads that", *where
        )
        return error_output(str(error)), "wrong_arguments"
    except BaseException as error:  # noqa: BLE001 - the user's types run their own code
        log_raised(
            _log,
            "thread %r, run %s: the arguments of %s (%s) could not be read",
            *where,
            error=error,
        )
        return error_output("the function failed"), type(error).__name__
    try:
        output = await code.call(ready, limit_s=tool.timeout_s, name=f"tool {tool.name}")
    except Late as late:
        what = "it is still running and is abandoned" if late.is_abandoned else "it was cancelled"
        _log.error(
            "thread %r, run %s: %s (%s) took longer than its timeout (%g s); %s",
            *where,
            late.limit_s,
            what,
        )
        return error_output(
            f"the function did not answer within {late.limit_s:g} seconds"
        ), "timeout"
    except Raised as raised:
        log_raised(
            _log,
            "thread %r, run %s: %s (%s) raised; the model reads that it failed",
            *where,
            error=raised.error,
        )
        return error_output("the function failed"), type(raised.error).__name__
    return callbacks.encoded(output, *where), None
