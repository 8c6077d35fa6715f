"""Names and kinds of user functions."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def unwrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function inside `functools.partial` objects."""
    while isinstance(function, partial):
        function = function.func
    return function


def qualified_name(function: Callable[..., Any]) -> str:
    """Return the qualified name of a function, or the class of another callable."""
    function = unwrapped(function)
    return str(getattr(function, "__qualname__", type(function).__name__))


def name_of(function: Callable[..., Any]) -> str:
    """Return a function's module and qualified name, for logs and errors."""
    module = getattr(unwrapped(function), "__module__", "?")
    return f"{module}.{qualified_name(function)}"


def is_async(function: Any) -> bool:
    """Return whether a call returns a coroutine; callable objects and partials included."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(code_of(function))


def is_async_generator(function: Any) -> bool:
    """Return whether a call returns an async generator; callable objects and partials included."""
    return inspect.isasyncgenfunction(function) or inspect.isasyncgenfunction(code_of(function))


def code_of(function: Any) -> Any:
    """Return the function or method that a call executes."""
    function = unwrapped(function)
    return function if inspect.isroutine(function) else type(function).__call__
