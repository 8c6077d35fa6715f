"""The decorator `tool` of both queue classes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, overload

from assistant_queue.config import Config

Function = TypeVar("Function", bound=Callable[..., Any])


class TakesTools:
    """The decorator of both queue classes."""

    config: Config

    @overload
    def tool(self, function: Function) -> Function: ...
    @overload
    def tool(
        self,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        interruptible: bool = True,
        approval: bool | str | Callable[..., Any] | None = None,
    ) -> Callable[[Function], Function]: ...
    def tool(
        self,
        function: Function | None = None,
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        interruptible: bool = True,
        approval: bool | str | Callable[..., Any] | None = None,
    ) -> Function | Callable[[Function], Function]:
        """Make a tool of a typed function, sync or async: `@queue.tool`, `@queue.tool(timeout=5)`.

        The function stays as it is. Its signature and docstring describe the tool to the model. The
        calls of a round run in parallel; a parameter annotated with `ToolContext` is given it. Wrong arguments, an
        exception and a time-out become outputs that the model can read.

        Args:
            function: Every parameter annotated with a type that JSON knows.
            name: 1 to 64 letters, digits, `_` and `-`; None for the function's own.
            description: None for the docstring's text before its first section.
            timeout: Seconds one call may take; None: as long as the run.
            interruptible: False: a new message with `mid_run="interrupt"`, and a stop, wait until
                the call has ended.
            approval: True, or a question such as `"Refund {amount} to {customer}?"`: the function
                is called once the call is approved (`approve`), meanwhile the batch parks. Or a
                function of the `ToolContext` and the arguments, a dict, that returns whether an
                approval is needed, or the question.

        Raises:
            ConfigurationError: The function cannot be a tool; the message names it and says why.
                Nothing was registered.
        """

        def register(function: Function) -> Function:
            self.config.toolbox.add(
                function,
                name=name,
                description=description,
                timeout=timeout,
                interruptible=interruptible,
                approval=approval,
            )
            return function

        return register if function is None else register(function)
