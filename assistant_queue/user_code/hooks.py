"""Hooks: functions of the application that workers call when something has happened."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from assistant_queue.errors import InvalidArgument
from assistant_queue.user_code.functions import is_async_generator, name_of

HookName = Literal[
    "started",
    "completed",
    "failed",
    "retrying",
    "stopped",
    "delivered",
    "undelivered",
    "approval_requested",
]
HOOK_NAMES: tuple[HookName, ...] = get_args(HookName)


@dataclass(frozen=True, slots=True)
class Hook:
    """A function to call, with one value.

    Attributes:
        function: Sync or async.
        name: Its name, for logs.
        on_loop: A sync function is called on the worker's event loop, not on a thread.
        is_listener: It was registered at one worker, not at the queue.
    """

    function: Callable[[Any], Any]
    name: str
    on_loop: bool = False
    is_listener: bool = False


@dataclass(slots=True)
class Hooks:
    """The hooks of a queue; copies of its options share them."""

    _by_name: dict[str, tuple[Hook, ...]] = field(default_factory=dict)

    def add(self, name: str, hook: Hook) -> None:
        """Call a hook at each event of this name from now on."""
        self._by_name[name] = (*self.of(name), hook)

    def of(self, name: str) -> tuple[Hook, ...]:
        """Return the hooks of a name, in the order of their registration."""
        return self._by_name.get(name, ())


def check_hook(name: Any, function: Any) -> Hook:
    """Check a name and a function, and return the hook.

    Raises:
        InvalidArgument: There is no such hook, the function cannot be called with one argument, or
            it is a generator, which a call would not run.
    """
    check_hook_name(name)
    if not callable(function):
        raise InvalidArgument(
            f"Invalid function of the hook {name!r}: expected a function of one argument, "
            f"not {type(function).__name__}"
        )
    if is_async_generator(function) or inspect.isgeneratorfunction(function):
        raise InvalidArgument(
            f"Invalid function of the hook {name!r}: {name_of(function)} is a generator; "
            "expected a plain function or a coroutine function"
        )
    try:
        inspect.signature(function).bind("value")
    except TypeError as error:
        raise InvalidArgument(
            f"Invalid function of the hook {name!r}: it is called with one argument, which "
            f"{name_of(function)} does not take: {error}"
        ) from None
    except ValueError:
        pass  # a builtin without a signature
    return Hook(function, name_of(function))


def check_hook_name(name: Any) -> None:
    """Raise InvalidArgument if there is no such hook."""
    if name not in HOOK_NAMES:
        raise InvalidArgument(
            f"Invalid hook {name!r}: expected one of {', '.join(map(repr, HOOK_NAMES))}"
        )
