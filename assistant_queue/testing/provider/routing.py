"""The contract between the HTTP side and the endpoints: operations, calls and answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from assistant_queue.testing.provider.actions import Action
from assistant_queue.testing.provider.api_errors import ApiProblem
from assistant_queue.testing.provider.checks import Check
from assistant_queue.testing.provider.log import Request
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import Protocol
from assistant_queue.testing.provider.sse import StreamAnswer
from assistant_queue.testing.provider.state import Json
from assistant_queue.testing.provider.unknown_fields import check_known

# What a lenient server still insists on: without these an endpoint could not do its work.
_ALWAYS_REFUSED = frozenset({"missing_required_parameter", "invalid_type", "invalid_value"})


class ConnectionDropped(Exception):
    """The connection shall be cut instead of an answer."""


@dataclass(frozen=True, slots=True)
class ApiCall:
    """Request as an endpoint sees it.

    The logged record, the body, the actions of faults, and the server's personality.
    """

    request: Request
    body: Json
    actions: tuple[Action, ...]
    is_strict: bool
    server: Personality

    def checked(self, check: Check) -> Json:
        """The body, if it is one the provider takes.

        Raises:
            ApiProblem: In the provider's words; a lenient server lets unknown fields and wrong
                sizes pass.
        """
        try:
            check_known(self.body, check, self.server)
        except ApiProblem as problem:
            if self.is_strict or problem.code in _ALWAYS_REFUSED:
                problem.is_in_stream = False
                raise
        return self.body

    def param(self, name: str) -> str:
        """An id of the path."""
        return self.request.params[name]


Answer = Json | StreamAnswer
Handler = Callable[[ApiCall], Awaitable[Answer]]


@dataclass(frozen=True, slots=True)
class Operation:
    """One endpoint: its name in logs and faults, and its handler."""

    op: str
    method: str
    path: str
    protocol: Protocol
    handler: Handler
