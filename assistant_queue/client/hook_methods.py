"""The method of both queue classes that registers hooks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeVar, overload

from assistant_queue.approvals import Approval
from assistant_queue.config import Config
from assistant_queue.models import (
    Batch,
    DeliveredReply,
    FailedBatch,
    PostponedBatch,
    RunResult,
)
from assistant_queue.user_code.hooks import HookName, check_hook, check_hook_name

TakesApproval = TypeVar("TakesApproval", bound=Callable[[Approval], object])
TakesBatch = TypeVar("TakesBatch", bound=Callable[[Batch], object])
TakesDelivered = TypeVar("TakesDelivered", bound=Callable[[DeliveredReply], object])
TakesFailed = TypeVar("TakesFailed", bound=Callable[[FailedBatch], object])
TakesPostponed = TypeVar("TakesPostponed", bound=Callable[[PostponedBatch], object])
TakesResult = TypeVar("TakesResult", bound=Callable[[RunResult], object])


class TakesHooks:
    """Hooks: functions that every worker process calls when something has happened."""

    config: Config

    @overload
    def on(
        self, name: Literal["started"], function: Callable[[Batch], object]
    ) -> Callable[[Batch], object]: ...
    @overload
    def on(self, name: Literal["started"]) -> Callable[[TakesBatch], TakesBatch]: ...
    @overload
    def on(
        self, name: Literal["completed", "stopped"], function: Callable[[RunResult], object]
    ) -> Callable[[RunResult], object]: ...
    @overload
    def on(self, name: Literal["completed", "stopped"]) -> Callable[[TakesResult], TakesResult]: ...
    @overload
    def on(
        self, name: Literal["failed", "undelivered"], function: Callable[[FailedBatch], object]
    ) -> Callable[[FailedBatch], object]: ...
    @overload
    def on(
        self, name: Literal["failed", "undelivered"]
    ) -> Callable[[TakesFailed], TakesFailed]: ...
    @overload
    def on(
        self, name: Literal["retrying"], function: Callable[[PostponedBatch], object]
    ) -> Callable[[PostponedBatch], object]: ...
    @overload
    def on(self, name: Literal["retrying"]) -> Callable[[TakesPostponed], TakesPostponed]: ...
    @overload
    def on(
        self, name: Literal["delivered"], function: Callable[[DeliveredReply], object]
    ) -> Callable[[DeliveredReply], object]: ...
    @overload
    def on(self, name: Literal["delivered"]) -> Callable[[TakesDelivered], TakesDelivered]: ...
    @overload
    def on(
        self, name: Literal["approval_requested"], function: Callable[[Approval], object]
    ) -> Callable[[Approval], object]: ...
    @overload
    def on(
        self, name: Literal["approval_requested"]
    ) -> Callable[[TakesApproval], TakesApproval]: ...
    def on(
        self, name: HookName, function: Callable[[Any], object] | None = None
    ) -> Callable[..., Any]:
        """Register a hook: a function that every worker process of this queue calls at an event.

        `queue.on("completed", function)`, or as a decorator `@queue.on("completed")`. Register it
        where the queue is made, so that worker processes do, too. The function gets one value:

        - `started`: a `Batch`; a worker has claimed it, for each attempt and takeover
        - `completed`: a `RunResult`; the batch is answered, and its result is stored
        - `failed`: a `FailedBatch`; it is in the failed list
        - `retrying`: a `PostponedBatch`; it will be sent again, or looked at again
        - `delivered`: a `DeliveredReply`; the platform has the whole reply
        - `undelivered`: a `FailedBatch`; the reply is in the failed list
        - `stopped`: a `RunResult` with the status `stopped`; the batch was stopped
        - `approval_requested`: an `Approval`; a batch is parked until the call is answered

        A sync function is called on a thread, an async one on the worker's event loop; several for
        one name in the order of their registration. Calls happen beside the batches, which wait for
        none of them, in order for each thread, and may take `callback_timeout`. What a function
        raises is logged, for each kind once in a process, and changes nothing. An event is seen at
        most once, by the worker that made it: it is lost if that process dies, or if its time to
        stop ends before the call.

        Args:
            name: The event.
            function: Sync or async, of one argument; None: return a decorator.

        Returns:
            The function, as it was given.

        Raises:
            InvalidArgument: There is no such event, or the function cannot be called with one
                argument. Nothing was registered.
        """
        check_hook_name(name)
        if function is None:
            return lambda given: self.on(name, given)
        self.config.hooks.add(name, check_hook(name, function))
        return function
