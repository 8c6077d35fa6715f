"""Answer a round of tool calls: registered tools in parallel, the rest by the handler."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from types import MappingProxyType
from typing import Any

from assistant_queue.core.runs import Asked
from assistant_queue.core.settlements import public_id
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
from assistant_queue.tools import AnswerLater, Tool, Toolbox, ToolContext, WrongArguments
from assistant_queue.tools.approval import bounded, question_of
from assistant_queue.tools.outputs import error_output
from assistant_queue.user_code.caller import Function, Late, Raised, UserCode
from assistant_queue.user_code.error_text import log_raised
from assistant_queue.worker import callbacks

_log = logging.getLogger(__name__)

NOTHING: Mapping[str, str] = MappingProxyType({})

_INTERRUPTED = error_output(
    "the call was interrupted: a new message came, or the answer was stopped"
)


class ToolRound:
    """The calls of one round.

    1. calls registered tools in parallel, and the handler for the rest
    2. notes outputs and durations as the calls end
    3. ends early: calls that may be interrupted are cancelled, or abandoned, and have an output that
       says so
    """

    def __init__(
        self,
        code: UserCode,
        batch: Batch,
        run_id: str,
        observers: Observers = UNOBSERVED,
        now_ms: Callable[[], int] = lambda: 0,
    ) -> None:
        """Call nothing yet; `now_ms` is the store's time."""
        self._outputs: dict[str, str] = {}
        self._open: dict[str, Asked] = {}
        self._approved: Mapping[str, str] = {}
        self._rows: list[ToolRow] = []
        self._work: dict[asyncio.Future[None], bool] = {}
        self._ends_early = False
        self._code = code
        self._batch = batch
        self._run_id = run_id
        self._observers = observers
        self._now = asyncio.get_running_loop().time
        self._now_ms = now_ms

    async def answer(
        self,
        toolbox: Toolbox,
        handler: Function | None,
        calls: Sequence[ToolCall],
        approved: Mapping[str, str] = NOTHING,
    ) -> ToolsAnswered:
        """Call the tools; return their outputs, and how long the calls took.

        Calls that the handler answers together took as long as that. `approved`: by call id, the
        names under which calls were approved.

        Raises:
            InvalidToolResult: The handler returned something that is not a list of outputs.
        """
        self._approved = approved
        self._begin(toolbox, handler, calls)
        if self._ends_early:
            self.end_early()
        try:
            for ended in await asyncio.gather(*self._work, return_exceptions=self._ends_early):
                if isinstance(ended, Exception):
                    raise ended
        except asyncio.CancelledError:
            if not self._ends_early or _is_cancelled():
                raise
            await asyncio.gather(*self._work, return_exceptions=True)
        finally:
            for one in self._work:
                one.cancel()
            await asyncio.gather(*self._work, return_exceptions=True)
        if self._ends_early:
            self._note_unfinished(calls)
        return ToolsAnswered(
            outputs=self._outputs, rows=tuple(self._rows), open=tuple(self._open.values())
        )

    def _begin(self, toolbox: Toolbox, handler: Function | None, calls: Sequence[ToolCall]) -> None:
        rest = []
        for call in calls:
            tool = toolbox.get(call.function.name)
            if tool is None:
                rest.append(call)
            else:
                self._begin_work(self._call_tool(tool, call), may_end=tool.interruptible)
        if rest:
            self._begin_work(self._hand_over(handler, rest), may_end=True)

    def end_early(self) -> None:
        """End the calls that may be interrupted."""
        self._ends_early = True
        for work, may_end in self._work.items():
            if may_end:
                work.cancel()

    def _begin_work(self, work: Coroutine[Any, Any, None], *, may_end: bool) -> None:
        self._work[asyncio.ensure_future(work)] = may_end

    def _note_unfinished(self, calls: Sequence[ToolCall]) -> None:
        for call in calls:
            if call.id not in self._outputs and call.id not in self._open:
                self._note(call, self._moment(), _INTERRUPTED, "interrupted")

    async def _call_tool(self, tool: Tool, call: ToolCall) -> None:
        """Call one tool."""
        context = ToolContext(
            thread_id=self._batch.thread_id,
            run_id=self._run_id,
            call_id=public_id(call.id, self._batch.id),
            batch=self._batch,
            approved_by=self._approved.get(call.id) or None,
        )
        began = self._moment()
        if tool.approval is not None and call.id not in self._approved:
            asked = await _question(tool, call, context, self._code)
            if isinstance(asked, Asked):
                self._open[call.id] = asked
                return
            if asked is not None:
                self._note(call, began, *asked)
                return
        seen = self._observe(call)
        with ended_with(seen):
            with seen.active():
                output, error = await _output_of(tool, call, context, self._code)
            if output is None:
                seen.end(Outcome(output="", error=None))
                self._open[call.id] = Asked(call_id=call.id, kind="answer")
                return
            seen.end(Outcome(output=output, error=error))
        self._note(call, began, output, error)

    async def _hand_over(self, handler: Function | None, rest: Sequence[ToolCall]) -> None:
        """Have the handler answer the calls of functions that are not registered."""
        began = self._moment()
        with ExitStack() as stack:
            seen = {call.id: self._observe(call) for call in rest}
            for one in seen.values():
                stack.enter_context(ended_with(one))
            if len(seen) == 1:  # one call of the handler answers them all
                stack.enter_context(one.active())
            answers = await callbacks.answer(
                handler, self._code, self._batch.thread_id, self._run_id, rest
            )
            for call_id, (output, error) in answers.items():
                seen[call_id].end(Outcome(output=output or "", error=error))
        for call in rest:
            output, error = answers[call.id]
            if output is None:
                self._open[call.id] = Asked(call_id=call.id, kind="answer")
            else:
                self._note(call, began, output, error)

    def _observe(self, call: ToolCall) -> Observation:
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
        self._outputs[call.id] = output
        self._rows.append(row)


async def _question(
    tool: Tool, call: ToolCall, context: ToolContext, code: UserCode
) -> Asked | tuple[str, str] | None:
    """Return what is asked before a call, None for nothing; or an error output and its type.

    Arguments that do not fit are answered at once: there is nothing to approve.
    """
    try:
        values = tool.values(call.function.arguments)
    except Exception:  # noqa: BLE001 - the call itself answers it
        return None
    asked: Any = tool.approval
    if callable(asked):
        decide = asked
        try:
            asked = await code.call(
                partial(decide, context, values),
                limit_s=tool.timeout_s,
                name=f"approval of tool {tool.name}",
            )
        except (Late, Raised) as error:
            _log.error(
                "thread %r, run %s: the approval of %s (%s) could not be decided (%s); the function"
                " is not called",
                context.thread_id,
                context.run_id,
                tool.name,
                call.id,
                type(error).__name__,
            )
            return error_output("the function failed"), "approval_failed"
        if isinstance(asked, str):
            return Asked(call_id=call.id, kind="approval", question=bounded(asked))
    elif isinstance(asked, str):
        return Asked(call_id=call.id, kind="approval", question=question_of(asked, values))
    return Asked(call_id=call.id, kind="approval") if asked else None


async def _output_of(
    tool: Tool, call: ToolCall, context: ToolContext, code: UserCode
) -> tuple[str | None, str | None]:
    """Call one tool; return its output, or an error output and the error's type if it fails.

    None for an output that comes later, from outside.
    """
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
    if isinstance(output, AnswerLater):
        return None, None
    return callbacks.encoded(output, *where), None


def _is_cancelled() -> bool:
    """Return whether the current task was cancelled; else a call of the round was."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
