"""Match scripted faults to requests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from fnmatch import fnmatchcase
from typing import TypeVar

from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.log import Request
from assistant_queue.testing.provider.script import Protocol

_ALIASES = {"submit": "runs.submit_tool_outputs"}

A = TypeVar("A")


class Fault:
    """A rule: which requests, and what happens to them.

    A request matches when every given condition holds; then it is counted, and the fault acts from
    the `nth` of them on, `times` times.
    """

    def __init__(
        self,
        op: str,
        actions: Sequence[Action],
        *,
        conversation_id: str | None,
        protocol: Protocol | None,
        nth: int,
        times: int | None,
        when: Callable[[Request], bool] | None,
    ) -> None:
        self.actions = tuple(actions)
        self._op = _ALIASES.get(op, op)
        self._conversation_id = conversation_id
        self._protocol = protocol
        self._nth = nth
        self._times = times
        self._when = when
        self.matched = 0
        self.acted = 0

    def take(self, request: Request) -> tuple[Action, ...]:
        """The actions for this request: all of them or none."""
        if not self._is_for(request):
            return ()
        self.matched += 1
        if self.matched < self._nth or (self._times is not None and self.acted >= self._times):
            return ()
        self.acted += 1
        return self.actions

    def _is_for(self, request: Request) -> bool:
        if not fnmatchcase(request.op, self._op):
            return False
        if self._conversation_id not in {None, request.conversation_id}:
            return False
        if self._protocol not in {None, request.protocol}:
            return False
        return self._when is None or self._when(request)


class Faults:
    """All faults of a provider; any thread may add, the server's thread takes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[Fault] = []

    def add(self, fault: Fault) -> Fault:
        """Add a fault after the present ones."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def remove(self, fault: Fault) -> None:
        """Take a fault away; nothing happens if it is gone."""
        with self._lock:
            self._faults = [held for held in self._faults if held is not fault]

    def clear(self) -> None:
        """Remove all faults."""
        with self._lock:
            self._faults.clear()

    def take(self, request: Request) -> tuple[Action, ...]:
        """Return the actions of all faults for this request."""
        if not self._faults:
            return ()
        with self._lock:
            return tuple(action for fault in self._faults for action in fault.take(request))


def find(kind: type[A], actions: Sequence[Action]) -> A | None:
    """The first action of a kind."""
    return next((action for action in actions if isinstance(action, kind)), None)
