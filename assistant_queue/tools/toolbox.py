"""A queue's tools: functions with a schema, by name."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, overload

from pydantic import ValidationError
from pydantic_core import from_json

from assistant_queue.errors import ConfigurationError
from assistant_queue.models import Batch
from assistant_queue.tools.approval import NeedsApproval, checked_approval
from assistant_queue.tools.docstrings import read_docstring
from assistant_queue.tools.schema import Json, Signature, read_signature

_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
"""Source: the provider's rule for names of functions."""

MAX_PROBLEMS = 10
"""Problems of one call's arguments in an output. Chosen: enough to correct a call at once, and
short in the conversation."""


class WrongArguments(ValueError):
    """The arguments of a call do not fit the function; the text is for the model."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolContext:
    """Origin of a tool call.

    Passed to the parameter that is annotated with it; the model does not see that parameter.

    Attributes:
        thread_id: The caller's thread id.
        run_id: The run of this round.
        call_id: Stable across retries: an idempotency key.
        batch: The messages that are being answered, with their authors and metadata.
        approved_by: The name under which the call was approved; None if it needed no approval, or
            none was given.
    """

    thread_id: str
    run_id: str
    call_id: str
    batch: Batch
    approved_by: str | None = None

    @property
    def author(self) -> str | None:
        """The author of the last message that has one: its rights count for the call.

        With `separate_authors` there is no other in the batch.
        """
        return next((one.author for one in reversed(self.batch.messages) if one.author), None)

    @property
    def tenant(self) -> str | None:
        """The tenant of the last message that has one."""
        return self.batch.tenant


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A function that a model can call.

    Attributes:
        name: As the model calls it.
        function: The user's own.
        description: The description sent to the model, None for none.
        timeout_s: Seconds one call may take; None: as long as the run.
        interruptible: A call may end early because of a new message, or a stop.
        approval: Whether calls need an approval: None, True, the question, or the user's function.
        signature: Its parameters.
    """

    name: str
    function: Callable[..., Any]
    description: str | None = None
    timeout_s: float | None = None
    interruptible: bool = True
    approval: NeedsApproval = None
    signature: Signature = field(compare=False)

    @property
    def definition(self) -> Json:
        """The definition in the format of Responses; the Assistants backend nests it."""
        definition: Json = {"type": "function", "name": self.name}
        if self.description is not None:
            definition["description"] = self.description
        return {
            **definition,
            "parameters": self.signature.schema,
            "strict": self.signature.is_strict,
        }

    def bind(self, arguments: str, context: ToolContext) -> Callable[[], Any]:
        """Return the call that the model asked for, ready to be made.

        Raises:
            WrongArguments: The arguments are not JSON, or do not fit the signature.
        """
        values = self.values(arguments)
        return partial(self.function, **values, **dict.fromkeys(self.signature.context, context))

    def values(self, arguments: str) -> dict[str, Any]:
        """Return the arguments that were given, by name.

        Raises:
            WrongArguments: They are not JSON, or do not fit the signature.
        """
        given = self._read(arguments)
        return {
            one.name: getattr(given, f"p{number}")
            for number, one in enumerate(self.signature.parameters)
            if f"p{number}" in given.model_fields_set
        }

    def _read(self, arguments: str) -> Any:
        try:
            given = from_json(arguments) if arguments.strip() else {}
        except ValueError as error:
            raise WrongArguments(f"the arguments are not valid JSON: {error}") from None
        if not isinstance(given, dict):
            raise WrongArguments(f"the arguments must be a JSON object, not {type(given).__name__}")
        # Strict mode has every parameter written out: null stands for "not given" where None is no
        # value.
        skipped = {
            one.name
            for one in self.signature.parameters
            if not one.is_required and not one.takes_none
        }
        given = {
            name: value for name, value in given.items() if value is not None or name not in skipped
        }
        try:
            return self.signature.model.model_validate(given)
        except ValidationError as error:
            raise WrongArguments(_explain(error)) from None


def _explain(error: ValidationError) -> str:
    problems = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [
        f"{'.'.join(str(part) for part in one['loc']) or 'arguments'}: {one['msg']}"
        for one in problems[:MAX_PROBLEMS]
    ]
    more = len(problems) - len(lines)
    return (
        "the arguments are wrong: " + "; ".join(lines) + (f"; and {more} more" if more > 0 else "")
    )


@dataclass(eq=True)
class Toolbox:
    """The tools of a queue.

    1. makes a tool of a typed function, and refuses functions that a model could not call
    2. finds a tool by the name in a call
    3. lists the definitions for the backends
    """

    reserved: frozenset[str] = frozenset()
    """Names of the functions in the option `tools`."""
    _tools: dict[str, Tool] = field(default_factory=dict)

    __hash__ = None  # type: ignore[assignment]  # it changes

    def __len__(self) -> int:
        return len(self._tools)

    def __contains__(self, name: object) -> bool:
        return name in self._tools

    def get(self, name: str) -> Tool | None:
        """Return the tool of this name, None if there is none."""
        return self._tools.get(name)

    @property
    def definitions(self) -> list[Json]:
        """Definitions sent to the model, in the order of registration."""
        return [tool.definition for tool in list(self._tools.values())]

    def add(
        self,
        function: Callable[..., Any],
        *,
        name: str | None = None,
        description: str | None = None,
        timeout: float | None = None,
        interruptible: bool = True,
        approval: NeedsApproval = None,
    ) -> Tool:
        """Make a tool of a function.

        Args:
            function: Sync or async; every parameter annotated.
            name: None for the function's own.
            description: None for the text of its docstring before the first section.
            timeout: Seconds one call may take; None: as long as the run.
            interruptible: Whether a call may end early because of a new message, or a stop.
            approval: Whether calls need an approval.

        Raises:
            ConfigurationError: It cannot be a tool; the message names it and says why. Nothing was
                added.
        """
        called = _called(function)
        if not callable(function):
            raise ConfigurationError(
                f"{called} cannot be called, so it is no tool: write @queue.tool or "
                "@queue.tool(name=...) above a function"
            )
        if (
            inspect.isclass(function)
            or inspect.isgeneratorfunction(function)
            or inspect.isasyncgenfunction(function)
        ):
            raise ConfigurationError(
                f"{called} is a class or a generator; a tool is a function that returns its output"
            )
        chosen = getattr(function, "__name__", None) if name is None else name
        if not isinstance(chosen, str) or not _NAME.fullmatch(chosen):
            raise ConfigurationError(
                f"the tool {called} needs a name of 1 to 64 letters, digits, '_' and '-', not "
                f"{chosen!r}: give name="
            )
        if chosen in self._tools or chosen in self.reserved:
            other = (
                _called(self._tools[chosen].function)
                if chosen in self._tools
                else "one in the option tools="
            )
            raise ConfigurationError(
                f"two tools are called {chosen!r}: {called} and {other}; give one of them another "
                "name="
            )
        if description is not None and (
            not isinstance(description, str) or not description.strip()
        ):
            raise ConfigurationError(
                f"the description of the tool {called} must be a non-blank string"
            )
        if not isinstance(interruptible, bool):
            raise ConfigurationError(
                f"interruptible of the tool {called} must be True or False, not {interruptible!r}"
            )
        documented = read_docstring(_doc_of(function))
        signature = read_signature(function, called, ToolContext, documented.parameters)
        tool = Tool(
            name=chosen,
            function=function,
            description=documented.description if description is None else description,
            timeout_s=_seconds(timeout, called),
            interruptible=interruptible,
            approval=checked_approval(approval, called, [one.name for one in signature.parameters]),
            signature=signature,
        )
        self._tools[chosen] = tool
        return tool


class Offered(Sequence[Mapping[str, Any]]):
    """Tools offered to a run: the option `tools`, then the toolbox in its present state."""

    def __init__(self, given: Sequence[Mapping[str, Any]], toolbox: Toolbox) -> None:
        self._given = given
        self._toolbox = toolbox

    def __len__(self) -> int:
        return len(self._given) + len(self._toolbox)

    @overload
    def __getitem__(self, index: int) -> Mapping[str, Any]: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Mapping[str, Any]]: ...
    def __getitem__(self, index: int | slice) -> Mapping[str, Any] | Sequence[Mapping[str, Any]]:
        return [*self._given, *self._toolbox.definitions][index]


def names_in(definitions: Iterable[Mapping[str, Any]] | None) -> frozenset[str]:
    """Return the names of the functions in tool definitions of either protocol's format."""
    found = set()
    for one in definitions or ():
        nested = one.get("function")
        name = nested.get("name") if isinstance(nested, Mapping) else one.get("name")
        if isinstance(name, str):
            found.add(name)
    return frozenset(found)


def _called(function: Any) -> str:
    target = function
    while isinstance(target, partial):
        target = target.func
    name = getattr(target, "__qualname__", None)
    return f"{target.__module__}.{name}" if name is not None else f"{type(target).__name__} object"


def _doc_of(function: Callable[..., Any]) -> str | None:
    target: Any = function
    while isinstance(target, partial):
        target = target.func
    text = target.__doc__ if inspect.isroutine(target) else type(target).__call__.__doc__
    return text if isinstance(text, str) else None


def _seconds(timeout: Any, called: str) -> float | None:
    if timeout is None:
        return None
    if (
        isinstance(timeout, bool)
        or not isinstance(timeout, int | float)
        or not 0 < timeout < float("inf")
    ):
        raise ConfigurationError(
            f"the timeout of the tool {called} must be a number of seconds above 0, not {timeout!r}"
        )
    return float(timeout)
