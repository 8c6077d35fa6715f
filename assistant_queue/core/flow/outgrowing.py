"""A conversation that outgrew the model: the thread goes on in a new one that begins with its last turns."""

from __future__ import annotations

from assistant_queue.core import steps
from assistant_queue.core.flow.ending import Ending
from assistant_queue.core.flow.state import Flow
from assistant_queue.core.thread_ids import providers_id
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import ErrorInfo
from assistant_queue.trouble import Kind, Trouble


class Outgrowing(Ending):
    """The steps after a refusal for the conversation's length, where the backend has no shorter form of the request left."""

    def _has_outgrown(self, trouble: Trouble | None) -> bool:
        """Whether a new conversation can help: the refusal is about the length, and the conversation is the queue's to choose."""
        return (
            trouble is not None
            and trouble.kind is Kind.CONTEXT_OVERFLOW
            and self._capabilities.renews
            and self._request is not None
            and providers_id(self._batch.thread_id, self._rules.thread_ids) is None
        )

    def _renew(self, info: ErrorInfo) -> Flow:
        """Have the conversation begun anew with the later half of its turns, then try again at once; without any turns left, give up."""
        progress, old = self._progress, self._sent.conversation_id
        renewed = yield steps.RenewConversation(request=self._sent, calls=progress.calls)
        if renewed is None:
            return (yield from self._bury("refused", info))
        new, progress.anchor = renewed
        progress.run_id, progress.sent_ms, progress.passing, progress.error = None, 0, False, info
        # Outputs that wait to be submitted are looked for once more, and are not there.
        self._phase = Phase.SENDING if progress.calls else Phase.FROZEN
        # 1. stored: the end of the new conversation   2. the thread moves there   3. the next claim finds both
        # A worker that dies between 1 and 2 leaves an anchor that the old conversation does not hold: the batch is refused there again,
        # for its length, and comes back here.
        yield steps.Save(phase=self._phase, progress=progress)
        yield steps.MoveThread(old_id=old, conversation_id=new, anchor=progress.anchor)
        yield steps.Postpone(state=ThreadState.RETRYING, wait_s=0, phase=self._phase, progress=progress)
        return steps.Postponed(state=ThreadState.RETRYING, error=info)
