"""Read a provider's log and state from tests."""

from __future__ import annotations

import copy
from collections.abc import Callable

from assistant_queue.testing.provider.log import (
    Answered,
    Overlap,
    Record,
    Refusal,
    Request,
    RunRecord,
)
from assistant_queue.testing.provider.state import Json, World, is_user_text, text_of


class Oracle:
    """Answer questions about the provider's history and state.

    From any thread, also after the provider was stopped.
    """

    def __init__(self, world: World) -> None:
        self._world = world

    @property
    def log(self) -> tuple[Record, ...]:
        """Everything that happened, in order."""
        return self._world.log.records()

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request, in order of arrival."""
        return tuple(record for record in self.log if isinstance(record, Request))

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """Every request that was refused, and why."""
        return tuple(record for record in self.log if isinstance(record, Refusal))

    @property
    def answers(self) -> tuple[Answered, ...]:
        """End of every request."""
        return tuple(record for record in self.log if isinstance(record, Answered))

    @property
    def overlaps(self) -> tuple[Overlap, ...]:
        """Every time two runs of one conversation were active at once."""
        return tuple(record for record in self.log if isinstance(record, Overlap))

    @property
    def runs(self) -> tuple[RunRecord, ...]:
        """Every run and response as it stands now, in order of acceptance."""
        return self._world.log.runs()

    @property
    def model_errors(self) -> tuple[Exception, ...]:
        """Exceptions of the model script, or of the stand-in itself, while serving."""
        return tuple(self._world.model_errors)

    def calls(self, op: str, conversation_id: str | None = None) -> tuple[Request, ...]:
        """Every request for an operation, about one conversation if given."""
        return tuple(
            request
            for request in self.requests
            if request.op == op and conversation_id in {None, request.conversation_id}
        )

    def runs_of(self, conversation_id: str) -> tuple[RunRecord, ...]:
        """Every run of a conversation or thread, in order of acceptance."""
        return tuple(run for run in self.runs if run.conversation_id == conversation_id)

    def items(self, conversation_id: str) -> list[Json]:
        """Return the items of a conversation or messages of a thread, in order, as JSON.

        Raises:
            LookupError: There is no such conversation or thread (any more).
        """
        held = self._world.conversations.get(conversation_id)
        if held is not None:
            return copy.deepcopy(list(held.items))
        thread = self._world.threads.get(conversation_id)
        if thread is not None:
            return copy.deepcopy(list(thread.messages))
        raise LookupError(f"No conversation or thread {conversation_id}")

    def user_texts(self, conversation_id: str) -> list[str]:
        """The user texts a conversation or thread holds now, in order."""
        return [text_of(item) for item in self.items(conversation_id) if is_user_text(item)]

    def assistant_texts(self, conversation_id: str) -> list[str]:
        """The model's texts a conversation or thread holds now, in order."""
        return [
            text_of(item) for item in self.items(conversation_id) if item.get("role") == "assistant"
        ]

    def wait_for(
        self,
        holds: Callable[[Oracle], bool] | None = None,
        *,
        runs_started: int | None = None,
        runs_ended: int | None = None,
        timeout: float = 30.0,
    ) -> None:
        """Block the calling thread until everything given holds.

        Args:
            holds: Called after every new record of the log.
            runs_started: At least so many runs were accepted.
            runs_ended: At least so many runs have reached a final status.
            timeout: Seconds.

        Raises:
            TimeoutError: It did not hold in time; the message says how far things had come.
        """

        def reached() -> bool:
            started, ended = self._world.log.counts()
            if started < (runs_started or 0) or ended < (runs_ended or 0):
                return False
            return holds is None or holds(self)

        if not self._world.log.wait(reached, timeout):
            raise TimeoutError(f"Not reached within {timeout} s. {self._summary()}")

    def _summary(self) -> str:
        by_status: dict[str, int] = {}
        for run in self.runs:
            by_status[run.status] = by_status.get(run.status, 0) + 1
        last = [request.op for request in self.requests[-5:]]
        return f"Runs by status: {by_status}; last requests: {last}"
