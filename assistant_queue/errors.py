"""Every error of the package, in one tree.

    AssistantQueueError
    ├── ConfigurationError            an option, an environment variable, an --app
    │   ├── UnknownOption             (also a TypeError)
    │   ├── WrongQueueClass           the wrong kind of `with` (also a TypeError)
    │   ├── MissingExtra              a package that an extra brings (also an ImportError)
    │   ├── ConfigurationMismatch     worker and producer disagree about the queue
    │   └── FormatTooNew              the prefix was written by a newer version
    ├── InvalidArgument               an argument of a call (also a ValueError)
    │   ├── MessageRefused            a validator refused the message
    │   └── InvalidPayload            a request that a chat platform does not send
    │       └── PayloadTooLarge
    ├── QueueError                    a call that the queue understood and refused
    │   ├── MessageIdConflict
    │   ├── ThreadFull
    │   ├── ThreadBusy
    │   ├── ThreadTakenOver           another person answers the thread
    │   ├── MessageNotFound           (also a LookupError)
    │   ├── MessageCancelled
    │   ├── BatchNotFound             (also a LookupError)
    │   ├── ApprovalNotFound          (also a LookupError)
    │   └── BatchFailed
    ├── AccessDenied                  raised by an `authorize` function
    │   ├── NotAuthenticated          the client is not known
    │   └── NotAllowed                the client may not do this
    ├── StoreError                    Redis
    │   ├── NotPermitted              Redis' ACL
    │   ├── NotEncodable              half of a surrogate pair in the name of a key
    │   └── StoreUnavailable          no answer, or a refusal that passes (also a ConnectionError)
    │       └── NotReplicated         accepted by Redis, not confirmed by a replica
    ├── BackendError                  the model's provider
    │   ├── RequestRefused            provably not accepted
    │   │   ├── UnknownThread
    │   │   ├── NotConfigured         this worker has no provider, only a fallback_reply
    │   │   └── ConversationBusy      locked by a run of another program
    │   ├── NotSupported              a call that this backend lacks
    │   ├── OutcomeUnknown            it may have been accepted
    │   ├── StreamCut                 accepted, then the connection was lost
    │   ├── RunVanished               accepted, but no longer known to the provider
    │   └── RunFailed                 accepted, then failed
    │       ├── RunExpired
    │       ├── TooManyToolRounds
    │       └── StateTooLarge         the state of a function's open calls
    ├── CallbackError                 the user's own function
    │   └── InvalidToolResult
    ├── DeliveryError                 raised by `on_reply` or a channel: a reply was not delivered
    │   ├── RetryLater
    │   ├── Undeliverable
    │   └── DeliveryUnknown
    ├── AuditUnavailable              the audit's database (also a ConnectionError)
    └── LeaseLost                     another worker holds the thread

`retryable` says whether the same call can succeed later unchanged. For a provider's refusal, the
fate of its kind decides (`assistant_queue.trouble`); a batch fails at once if it is False.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import datetime

from assistant_queue.trouble import Fate, Kind, Trouble, bounded_wait


class AssistantQueueError(Exception):
    """Base class of all errors that this package raises on purpose.

    Attributes:
        code: A stable word for programs, the same in `ErrorInfo.code` and in HTTP answers.
        retryable: Whether the same call can succeed later unchanged.
    """

    retryable = False
    code = "error"


class ConfigurationError(AssistantQueueError, ValueError):
    """An option, an environment variable or an application path is wrong.

    Nothing was started or queued.
    """

    code = "configuration"


class UnknownOption(ConfigurationError, TypeError):
    """An option that does not exist was passed to the constructor. Nothing was started."""

    code = "unknown_option"


class WrongQueueClass(ConfigurationError, TypeError):
    """`with` on the asyncio class, or `async with` on the blocking one.

    Nothing was done; the message names both alternatives.
    """

    code = "wrong_queue_class"


class MissingExtra(ConfigurationError, ImportError):
    """A package that this part of the library needs is not installed.

    The message names the extra that installs it.
    """

    code = "missing_extra"


class ConfigurationMismatch(ConfigurationError):
    """This worker differs from its queue's producers in backend, assistant or model."""

    code = "configuration_mismatch"


class FormatTooNew(ConfigurationError):
    """The keys under this prefix were written by a newer version of the package.

    Nothing was read or changed.
    """

    code = "format_too_new"


class InvalidArgument(AssistantQueueError, ValueError):
    """An argument is of the wrong type or outside its limits. Nothing was queued or changed."""

    code = "invalid_argument"


class MessageRefused(InvalidArgument):
    """A validator refused the message. Nothing was queued or changed.

    A validator may raise it with the reason alone; the caller that adds the message gets it with
    the ids.

    Attributes:
        reason: The validator's reason, to be shown to the message's author.
        message_id: The message's id, None while it is not known.
        thread_id: The thread it was meant for; None for an edit, which has only the message's id.
    """

    code = "message_refused"

    def __init__(
        self, reason: str, *, message_id: str | None = None, thread_id: str | None = None
    ) -> None:
        where = "" if thread_id is None else f" for thread {thread_id!r}"
        super().__init__(
            f"message {message_id!r}{where} is refused: {reason}; nothing was queued"
            if message_id
            else reason
        )
        self.reason = reason
        self.message_id = message_id
        self.thread_id = thread_id


class InvalidPayload(InvalidArgument):
    """The body of a request to a channel is not what its platform sends. Nothing was queued."""

    code = "invalid_payload"


class PayloadTooLarge(InvalidPayload):
    """The body of a request to a channel is longer than the channel reads. Nothing was queued."""

    code = "payload_too_large"


class QueueError(AssistantQueueError):
    """The queue understood the call and refused it. Nothing was changed."""


class MessageIdConflict(QueueError):
    """The message id belongs to a message with another content or of another thread.

    Nothing was queued.
    """

    code = "message_id_conflict"


class ThreadFull(QueueError):
    """The thread already has `max_pending` waiting messages. Nothing was queued."""

    retryable = True
    code = "thread_full"


class ThreadBusy(QueueError):
    """A worker holds the thread, or its batch is not over: the call changed nothing."""

    retryable = True
    code = "thread_busy"


class ThreadTakenOver(QueueError):
    """Another person answers the thread: the call changed nothing.

    Attributes:
        by: The person that answers it.
        since: Since when; aware, UTC.
    """

    code = "thread_taken_over"

    def __init__(self, message: str, *, by: str, since: datetime) -> None:
        super().__init__(message)
        self.by = by
        self.since = since


class MessageNotFound(QueueError, LookupError):
    """No message has this id: it was never added, or its record has expired (`result_ttl`)."""

    code = "message_not_found"


class MessageCancelled(QueueError):
    """The message was cancelled, or its answer was stopped; it has no reply."""

    code = "message_cancelled"


class ApprovalNotFound(QueueError, LookupError):
    """No open tool call has this id: it was never asked for, or its batch is over."""

    code = "approval_not_found"


class BatchNotFound(QueueError, LookupError):
    """No failed batch has this id: it never failed, or was already retried or discarded.

    Or, as `before` of `get_timeline`: the thread's journal has no batch of this id.
    """

    code = "batch_not_found"


class BatchFailed(QueueError):
    """The message's batch is in the failed list.

    Attributes:
        batch_id: The batch's id, for `retry_failed` and `discard_failed`.
    """

    code = "batch_failed"

    def __init__(self, message: str, *, batch_id: str) -> None:
        super().__init__(message)
        self.batch_id = batch_id


class AccessDenied(AssistantQueueError):
    """A client of the HTTP service was refused.

    Nothing was done. Raised by `authorize` functions, answered by the HTTP service.
    """

    code = "access_denied"


class NotAuthenticated(AccessDenied):
    """The client sent no credentials, or credentials that are not valid (any more).

    Nothing was done.
    """

    code = "not_authenticated"


class NotAllowed(AccessDenied):
    """The client is known and may not do this. Nothing was done."""

    code = "not_allowed"


class StoreError(AssistantQueueError):
    """Redis refused a command. Nothing was changed by it."""

    code = "store"


class NotPermitted(StoreError):
    """Redis does not know this user or password, or its ACL does not allow the command or the key.

    Nothing was changed.
    """

    code = "not_permitted"


class NotEncodable(StoreError):
    """A command could not be encoded: one of its words is not UTF-8, or not text.

    It was not sent; other commands of the same round trip were.
    """

    code = "not_encodable"


class StoreUnavailable(StoreError, ConnectionError):
    """Redis did not answer, or refuses for now: it is full, read-only or loading.

    Repeat an add that raised this with the same `message_id`.

    Attributes:
        refusal: Redis' own word if it refused (`OOM`, `READONLY` ...): nothing was queued. "" if it
            did not answer: the message may have been queued.
    """

    retryable = True
    code = "store_unavailable"

    def __init__(self, message: str, *, refusal: str = "") -> None:
        super().__init__(message)
        self.refusal = refusal


class NotReplicated(StoreUnavailable):
    """With `durability="replicated"`: Redis accepted it, but no replica has confirmed it.

    It may survive a failover or not.

    Attributes:
        message_ids: The ids of an add, given or generated: adding the same messages again with
            them is safe.
    """

    code = "not_replicated"

    def __init__(self, message: str, *, message_ids: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.message_ids = message_ids


class BackendError(AssistantQueueError):
    """A failure of the model's provider, with the details that decide about a retry.

    Attributes:
        status_code: The HTTP status, None if there was no answer.
        provider_code: The provider's own error code (``rate_limit_exceeded``), None if the body has
            none.
        retry_after_s: Seconds the provider asked to wait, a day at most; None if it named none.
        counts: Whether the failure uses up one of `max_attempts`.
        retryable: Whether the same request can succeed later unchanged; a batch fails at once if it
            cannot.
        outgrown: Whether the conversation's length is, or may be, the reason: a shorter one may be
            accepted.
        trouble: The provider's error, None if it sent none.
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
            counts: As the attribute; None to derive it from the trouble's fate, True without one.
            trouble: As the attribute.
        """
        super().__init__(message)
        self.trouble = trouble
        fate = Fate.COUNT if trouble is None else trouble.kind.fate
        self.status_code = (
            status_code if status_code is not None or trouble is None else trouble.status
        )
        self.provider_code = (
            provider_code if provider_code is not None or trouble is None else trouble.code
        )
        self.retry_after_s = bounded_wait(
            retry_after_s if retry_after_s is not None or trouble is None else trouble.retry_after_s
        )
        self.counts = fate is not Fate.WAIT if counts is None else counts
        self.outgrown = trouble is not None and trouble.kind is Kind.CONTEXT_OVERFLOW
        # A remedy that was left to try would have been tried before this was raised.
        if fate in {Fate.FINAL, Fate.REMEDY}:
            self.retryable = False


class RequestRefused(BackendError):
    """The provider provably did not accept the request: a refused connection or a 4xx.

    Nothing was started there.
    """

    code = "request_refused"


class UnknownThread(RequestRefused):
    """The provider does not know this thread or conversation.

    Not retried: it will not know it later.
    """

    retryable = False
    code = "unknown_thread"


class NotConfigured(RequestRefused):
    """This worker has no provider, only a `fallback_reply`.

    Nothing was sent; retry the failed batch when there is one.
    """

    retryable = False
    code = "not_configured"


class ConversationBusy(RequestRefused):
    """The conversation is locked by another run. Nothing was started; a later try can succeed."""

    code = "conversation_busy"


class NotSupported(BackendError):
    """This backend lacks the direct call, or cannot write a reply of `say`.

    Nothing was sent. Messages are still answered through the queue.
    """

    retryable = False
    code = "not_supported"


class OutcomeUnknown(BackendError):
    """A time-out, a 5xx or a lost connection: the provider may have accepted the request.

    Ask it before sending again.
    """

    code = "outcome_unknown"


class StreamCut(BackendError):
    """The stream of an accepted run ended early.

    The run continues at the provider; follow it by its id.
    """

    code = "stream_cut"


class RunVanished(BackendError):
    """The provider accepted this run and no longer knows it."""

    code = "run_vanished"


class RunFailed(BackendError):
    """The provider accepted the run and ended it as failed, cancelled or expired."""

    code = "run_failed"


class RunExpired(RunFailed):
    """The run did not end within `run_timeout`. It was cancelled if the provider supports that."""

    code = "run_expired"


class TooManyToolRounds(RunFailed):
    """The model asked for tools more than `max_tool_rounds` times in one batch.

    The run was cancelled.
    """

    code = "too_many_tool_rounds"


class StateTooLarge(RunFailed):
    """A function left calls open with a state that is too large (`OpenCalls.state`).

    Not retried: the batch goes to the failed list.
    """

    retryable = False
    code = "state_too_large"


class CallbackError(AssistantQueueError):
    """A function of the application raised, took too long or returned something unusable."""

    code = "callback"


class InvalidToolResult(CallbackError):
    """`handle_requires_action` returned something other than a list of tool outputs.

    The run was cancelled.
    """

    retryable = True
    code = "invalid_tool_result"


class DeliveryError(AssistantQueueError):
    """A reply was not delivered, for a reason that `on_reply` or a channel knows."""

    code = "delivery"


class RetryLater(DeliveryError):
    """The platform takes nothing now: deliver again later, without counting an attempt.

    Raised by `on_reply` or by a channel; only this thread's deliveries wait.

    Attributes:
        after_s: Seconds until the next attempt, as the platform asked; None for `delivery_backoff`.
    """

    retryable = True
    code = "retry_later"

    def __init__(self, after: float | None = None) -> None:
        """Wait `after` seconds, or the back-off.

        Raises:
            ValueError: `after` is not a number of seconds of at least 0.
        """
        if after is not None and not (
            isinstance(after, int | float)
            and not isinstance(after, bool)
            and math.isfinite(after)
            and after >= 0
        ):
            raise ValueError(f"Invalid after {after!r}: expected seconds of at least 0, or None")
        super().__init__(
            "the platform takes nothing now; trying again "
            + ("after the back-off" if after is None else f"in {after:g} s")
        )
        self.after_s = None if after is None else float(after)


class Undeliverable(DeliveryError):
    """The reply can never be delivered, such as to a chat that has blocked the bot.

    Raised by `on_reply` or by a channel; the reply goes to the failed list at once.

    Attributes:
        reason: The cause, for operators.
    """

    code = "undelivered"

    def __init__(self, reason: str = "the platform refuses it for good") -> None:
        super().__init__(str(reason))
        self.reason = str(reason)


class DeliveryUnknown(DeliveryError):
    """The platform may have taken the reply, and cannot be asked.

    Raised by `on_reply` or by a channel; `on_unknown_delivery` decides what follows.

    Attributes:
        reason: The cause, for operators.
    """

    code = "delivery_unknown"

    def __init__(self, reason: str = "the platform may have taken it") -> None:
        super().__init__(str(reason))
        self.reason = str(reason)


class AuditUnavailable(AssistantQueueError, ConnectionError):
    """The audit's database is away, refuses, or has no tables of this version.

    Nothing was written there; what is to be written stays in Redis.
    """

    retryable = True
    code = "audit_unavailable"


class LeaseLost(AssistantQueueError):
    """Another worker holds this thread's lease.

    Nothing was written; the holder continues with the batch.
    """

    code = "lease_lost"


def error_of(code: str, message: str, *, batch_id: str) -> AssistantQueueError:
    """Return the typed error of a stored failure, which keeps only its code and its message.

    Args:
        code: `ErrorInfo.code`.
        message: `ErrorInfo.message`.
        batch_id: The batch that failed.

    Returns:
        An instance of the `BackendError`, `CallbackError` or `LeaseLost` with this code;
        BatchFailed for other codes (`parked`, `corrupt`, a provider's own).
    """
    cls = _BY_CODE.get(code)
    return BatchFailed(message, batch_id=batch_id) if cls is None else cls(message)


def _tree(*roots: type[AssistantQueueError]) -> Iterator[type[AssistantQueueError]]:
    for root in roots:
        yield root
        yield from _tree(*root.__subclasses__())


_BY_CODE = {cls.code: cls for cls in _tree(BackendError, CallbackError, LeaseLost)}
