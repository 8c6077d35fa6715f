"""A conversation that the model cannot read: less of it is read, or the thread goes on in a new one that begins with its last turns."""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.failing import Failing
from assistant_queue.core.flow.state import Flow
from assistant_queue.core.runs import FoundBy, RunEnded
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import BackendError
from assistant_queue.models import ErrorInfo
from assistant_queue.trouble import Kind, Trouble

MAX_SHORTENED = 8
"""Runs of one batch that may fail for their length, each reading less than the one before. Chosen: no backend of ours has as many steps."""


class Outgrowing(Failing):
    """The steps after a conversation was found to be too long.

    1. a run that failed for its length is started again at once, over less of the conversation, as long as the backend says so
    2. else the conversation is begun anew with the later half of its turns, and the batch is sent there; again, until it fits
    3. so is one with calls that were left open, if the provider does not take their answers together with the batch
    4. a batch that is refused all the same goes to the failed list, and the thread back to the conversation it had
    """

    def _refused(self, error: BackendError, info: ErrorInfo) -> Flow:
        if not ((error.outgrown or _has_open_calls(error.trouble)) and self._can_renew):
            return (yield from super()._refused(error, info))
        self._take_back(counts=False)
        return (yield from self._renew(info))

    def _gave_up(self, event: RunEnded, info: ErrorInfo) -> Flow:
        if _has_open_calls(event.trouble) and self._can_renew and self._progress.origin is None:
            self._leave_run()
            return (yield from self._renew(info))
        if event.trouble is None or event.trouble.kind is not Kind.CONTEXT_OVERFLOW or self._capabilities.stateless:
            return (yield from super()._gave_up(event, info))
        if event.retryable and self._progress.shortened < MAX_SHORTENED:
            self._progress.shortened += 1
            self._leave_run()
            return (yield from self._at_once(info))
        if not self._can_renew:
            return (yield from self._refuse(info))
        self._leave_run()
        return (yield from self._renew(info))

    def _leave_run(self) -> None:
        """A response that failed has taken neither the batch nor the outputs that it was given: they are sent again without a question."""
        progress = self._progress
        given = progress.submitted if self._capabilities.found_by is FoundBy.ANCHOR else ()
        self._forget_run()
        if given:
            progress.calls, self._unanswered = given, tuple(call.id for call in given)
        elif not progress.rounds:
            self._phase = Phase.FROZEN

    @property
    def _can_renew(self) -> bool:
        """Whether a new conversation can be begun: the conversation is the queue's to choose, and no run waits in it."""
        waits = bool(self._progress.calls) and self._capabilities.found_by is FoundBy.METADATA
        is_ours = providers_id(self._batch.thread_id, self._rules.thread_ids) is None
        return self._capabilities.renews and self._request is not None and is_ours and not waits

    def _renew(self, info: ErrorInfo) -> Flow:
        """Begin the conversation anew and try again at once.

        Nothing is written before the move: a worker that dies until then leaves a batch that is found, or sent, where it was. The move
        writes how far the batch got in the same step: the end of the new conversation is never looked for in the old one.
        """
        progress = self._progress
        try:
            renewed = yield steps.RenewConversation(request=self._sent, calls=progress.calls)
        except BackendError as error:
            if not error.retryable:
                return (yield from self._refuse(info))
            failed = ErrorInfo(code=error.code, message=str(error))
            return (yield from self._try_again(failed, counts=error.counts, retry_after_s=error.retry_after_s))
        if renewed is None:
            return (yield from self._refuse(info))
        conversation_id, progress.anchor = renewed
        progress.held = False  # the batch's own texts are in the old one
        progress.error = info
        is_first, progress.origin = progress.origin is None, progress.origin or self._sent.conversation_id
        moved = yield steps.MoveThread(
            old_id=self._sent.conversation_id,
            conversation_id=conversation_id,
            anchor=progress.anchor,
            phase=self._phase,
            progress=progress,
            is_new=True,
            drops_old=not is_first,
        )
        if not moved:  # it has been given another conversation meanwhile: that one's end is asked for
            progress.located, progress.anchor, progress.origin = False, None, None
        return (yield from self._at_once(info))

    def _refuse(self, info: ErrorInfo) -> Flow:
        """A batch that is too long by itself, or was refused for another reason after all, costs the thread nothing that it remembers."""
        progress = self._progress
        if progress.origin is not None:
            origin, progress.origin = progress.origin, None
            progress.burying, progress.error = "refused", info
            yield steps.MoveThread(
                old_id=self._sent.conversation_id,
                conversation_id=origin,
                anchor=None,
                phase=self._phase,
                progress=progress,
                drops_old=True,
            )
        return (yield from super()._refuse(info))

    def _at_once(self, info: ErrorInfo) -> Flow:
        progress = self._progress
        progress.error = info
        yield steps.Postpone(state=ThreadState.RETRYING, wait_s=0, phase=self._phase, progress=progress)
        return steps.Postponed(state=ThreadState.RETRYING, error=info)


def _has_open_calls(trouble: Trouble | None) -> bool:
    return trouble is not None and trouble.kind is Kind.OPEN_CALLS
