"""Every error of the package, in one tree.

    AssistantQueueError
    ├── ConfigurationError            an option, an environment variable, an --app
    │   ├── UnknownOption             (also a TypeError)
    │   ├── WrongQueueClass           the wrong kind of `with` (also a TypeError)
    │   ├── MissingExtra              a package that an extra brings (also an ImportError)
    │   ├── ConfigurationMismatch     worker and producer disagree about the queue
    │   └── FormatTooNew              the prefix was written by a newer version
    ├── InvalidArgument               an argument of a call (also a ValueError)
    │   └── MessageRefused            a validator said no
    ├── QueueError                    what the queue itself says no to
    │   ├── MessageIdConflict
    │   ├── ThreadFull
    │   ├── ThreadBusy
    │   ├── MessageNotFound           (also a LookupError)
    │   ├── MessageCancelled
    │   ├── BatchNotFound             (also a LookupError)
    │   └── BatchFailed
    ├── AccessDenied                  what an `authorize` function says no with
    │   ├── NotAuthenticated          who is asking is not known
    │   └── NotAllowed                who is asking may not do this
    ├── StoreError                    Redis
    │   ├── NotPermitted              Redis' ACL
    │   ├── NotEncodable              half of a surrogate pair in the name of a key
    │   └── StoreUnavailable          away, or refuses for now (also a ConnectionError)
    │       └── NotReplicated         taken by Redis, and no replica has said that it has it
    ├── BackendError                  the model's provider
    │   ├── RequestRefused            provably not accepted
    │   │   ├── UnknownThread
    │   │   ├── NotConfigured         this worker has no provider, only a fallback_reply
    │   │   └── ConversationBusy      locked by a run that is not ours
    │   ├── NotSupported              a direct call that this backend does not have
    │   ├── OutcomeUnknown            it may have been accepted
    │   ├── StreamCut                 accepted, then the connection was lost
    │   ├── RunVanished               accepted, and now the provider does not know it
    │   └── RunFailed                 accepted, then failed
    │       ├── RunExpired
    │       └── TooManyToolRounds
    ├── CallbackError                 the user's own function
    │   └── InvalidToolResult
    └── LeaseLost                     another worker holds the thread now

`retryable` says whether the same call can succeed later unchanged. Of a provider's refusal the fate of its kind decides
(`assistant_queue.trouble`); the flow gives a batch up at once if it is False.
"""

from __future__ import annotations

from assistant_queue.trouble import Fate, Kind, Trouble


class AssistantQueueError(Exception):
    """The root of everything this package raises on purpose."""

    retryable = False
    code = "error"


class ConfigurationError(AssistantQueueError, ValueError):
    """An option, an environment variable or an application path is wrong. Nothing was started or queued."""

    code = "configuration"


class UnknownOption(ConfigurationError, TypeError):
    """The constructor was given an option that does not exist. Nothing was started."""

    code = "unknown_option"


class WrongQueueClass(ConfigurationError, TypeError):
    """`with` on the asyncio class, or `async with` on the blocking one. Nothing was done; the message names both ways out."""

    code = "wrong_queue_class"


class MissingExtra(ConfigurationError, ImportError):
    """A package that this part of the library needs is not installed; the message names the extra that brings it."""

    code = "missing_extra"


class ConfigurationMismatch(ConfigurationError):
    """This worker is configured for another backend, assistant or model than the producers of its queue."""

    code = "configuration_mismatch"


class FormatTooNew(ConfigurationError):
    """The keys under this prefix were written by a newer version of the package. Nothing was read or changed."""

    code = "format_too_new"


class InvalidArgument(AssistantQueueError, ValueError):
    """An argument is of the wrong type or outside its limits. Nothing was queued or changed."""

    code = "invalid_argument"


class MessageRefused(InvalidArgument):
    """A validator refused the message. Nothing was queued or changed.

    A validator of yours may raise it with the reason alone; whoever added the message gets it with the ids.

    Attributes:
        reason: The validator's, for the person who wrote the message.
        message_id: The message, None as long as nobody has said so.
        thread_id: Where it should have gone; None for an edit, which has only the message's id.
    """

    code = "message_refused"

    def __init__(self, reason: str, *, message_id: str | None = None, thread_id: str | None = None) -> None:
        where = "" if thread_id is None else f" for thread {thread_id!r}"
        super().__init__(f"message {message_id!r}{where} is refused: {reason}; nothing was queued" if message_id else reason)
        self.reason = reason
        self.message_id = message_id
        self.thread_id = thread_id


class QueueError(AssistantQueueError):
    """The queue understood the call and said no. Nothing was changed."""


class MessageIdConflict(QueueError):
    """The message id is taken by a message with another text or of another thread. Nothing was queued."""

    code = "message_id_conflict"


class ThreadFull(QueueError):
    """The thread holds `max_pending` waiting messages already. Nothing was queued."""

    retryable = True
    code = "thread_full"


class ThreadBusy(QueueError):
    """A worker holds the thread's lease, so a direct call that writes to it was not made."""

    retryable = True
    code = "thread_busy"


class MessageNotFound(QueueError, LookupError):
    """No message of this id: never added, or its record has outlived `result_ttl`."""

    code = "message_not_found"


class MessageCancelled(QueueError):
    """The message was cancelled before it was sent: there will be no reply to wait for."""

    code = "message_cancelled"


class BatchNotFound(QueueError, LookupError):
    """No failed batch of this id: never failed, or already retried or discarded."""

    code = "batch_not_found"


class BatchFailed(QueueError):
    """The message's batch ended in the failed list. `batch_id` names it for `retry_failed` and `discard_failed`."""

    code = "batch_failed"

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class AccessDenied(AssistantQueueError):
    """Somebody may not do what was asked for. Nothing was done. Raised by `authorize` functions, answered by the HTTP service."""

    code = "access_denied"


class NotAuthenticated(AccessDenied):
    """It is not known who is asking: no proof, or one that is not valid any more. Nothing was done."""

    code = "not_authenticated"


class NotAllowed(AccessDenied):
    """Who is asking is known and may not do this. Nothing was done."""

    code = "not_allowed"


class StoreError(AssistantQueueError):
    """Redis refused a command. What was asked for did not happen."""

    code = "store"


class NotPermitted(StoreError):
    """Redis does not know this user or password, or its ACL does not allow the command or the key. Nothing happened."""

    code = "not_permitted"


class NotEncodable(StoreError):
    """A command could not be packed: a word of it is no UTF-8, or no text. Nothing was sent, and no other command was kept from it."""

    code = "not_encodable"


class StoreUnavailable(StoreError, ConnectionError):
    """Redis did not answer, or refuses for now: it is full, read-only, loading. Repeat an add that ended so with the same `message_id`.

    Attributes:
        refusal: Redis' own word where it refused (`OOM`, `READONLY` ...): an add was not taken. "" where it did not answer: it may
            have been.
    """

    retryable = True
    code = "store_unavailable"

    def __init__(self, message: str, *, refusal: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal


class NotReplicated(StoreUnavailable):
    """With `durability="replicated"`: Redis took it, but no replica has it yet, as far as is known. It may be kept or not.

    Attributes:
        message_ids: Of an add: the ids, given or generated, under which it is safe to add the same messages again.
    """

    code = "not_replicated"

    def __init__(self, message: str, *, message_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message_ids = message_ids


class BackendError(AssistantQueueError):
    """The provider's answer, translated. Carries what the flow decides by.

    Attributes:
        status_code: The HTTP status, None if there was no answer.
        provider_code: The provider's own error code (``rate_limit_exceeded``), None if the body has none.
        retry_after_s: Seconds the provider asked to wait, None if it did not say.
        counts: Whether the failure uses up one of `max_attempts`.
        retryable: Whether the same request can succeed later unchanged; a batch is given up at once if it cannot.
        outgrown: Whether the conversation's length is, or may be, the reason: less of it may be accepted.
        trouble: What the provider said, None if it said nothing.
    """

    retryable = True
    code = "backend"

    def __init__(
        self,
        message: str,
        *,
        status_code: int | None = None,
        provider_code: str | None = None,
        retry_after_s: float | None = None,
        counts: bool | None = None,
        trouble: Trouble | None = None,
    ) -> None:
        """Take the details from `trouble`, unless they are given.

        Args:
            message: What happened, to which thread, and what to do.
            status_code: As the attribute.
            provider_code: As the attribute.
            retry_after_s: As the attribute.
            counts: As the attribute; None for what the trouble's fate says, True without one.
            trouble: As the attribute.
        """
        super().__init__(message)
        self.trouble = trouble
        fate = Fate.COUNT if trouble is None else trouble.kind.fate
        self.status_code = status_code if status_code is not None or trouble is None else trouble.status
        self.provider_code = provider_code if provider_code is not None or trouble is None else trouble.code
        self.retry_after_s = retry_after_s if retry_after_s is not None or trouble is None else trouble.retry_after_s
        self.counts = fate is not Fate.WAIT if counts is None else counts
        self.outgrown = trouble is not None and trouble.kind is Kind.CONTEXT_OVERFLOW
        if fate in {Fate.FINAL, Fate.REMEDY}:  # a remedy that was left to try would have been tried before this was raised
            self.retryable = False


class RequestRefused(BackendError):
    """The provider provably did not accept the request: a refused connection or a 4xx. Nothing was started there."""

    code = "request_refused"


class UnknownThread(RequestRefused):
    """The provider does not know this thread or conversation. Not retried: it will not know it later either."""

    retryable = False
    code = "unknown_thread"


class NotConfigured(RequestRefused):
    """This worker has no provider, only a `fallback_reply`. Nothing was sent; retry the failed batch when there is one."""

    retryable = False
    code = "not_configured"


class ConversationBusy(RequestRefused):
    """The conversation is locked by another run. Nothing was started; waiting helps."""

    code = "conversation_busy"


class NotSupported(BackendError):
    """This backend has no such direct call. Nothing was sent; messages are answered through the queue all the same."""

    retryable = False
    code = "not_supported"


class OutcomeUnknown(BackendError):
    """A time-out, a 5xx or a lost connection: the provider may have accepted the request. Ask it before sending again."""

    code = "outcome_unknown"


class StreamCut(BackendError):
    """The stream of an accepted run ended early. The run goes on at the provider; follow it by its id."""

    code = "stream_cut"


class RunVanished(BackendError):
    """The provider accepted this run and does not know it any more."""

    code = "run_vanished"


class RunFailed(BackendError):
    """The provider accepted the run and ended it as failed, cancelled or expired."""

    code = "run_failed"


class RunExpired(RunFailed):
    """The run did not end within `run_timeout`. It was cancelled where the provider can."""

    code = "run_expired"


class TooManyToolRounds(RunFailed):
    """The model asked for tools more than `max_tool_rounds` times in one batch. The run was cancelled."""

    code = "too_many_tool_rounds"


class CallbackError(AssistantQueueError):
    """The user's own function did something the queue cannot continue from."""

    code = "callback"


class InvalidToolResult(CallbackError):
    """`handle_requires_action` returned something that is not a list of tool outputs. The run was cancelled."""

    retryable = True
    code = "invalid_tool_result"


class LeaseLost(AssistantQueueError):
    """Another worker holds this thread's lease. Nothing was written; the holder goes on with the batch."""

    code = "lease_lost"
