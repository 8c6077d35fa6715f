"""The two stores: one loop that blocks and one that awaits. All other store code is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis import exceptions

from assistant_queue.errors import ConfigurationError, StoreError, StoreUnavailable
from assistant_queue.store.calls import Call, Each, Namespace, Operation, Pipelined
from assistant_queue.store.layout import after_settling
from assistant_queue.store.quarantine import repairing
from assistant_queue.store.sendable import REFUSED
from assistant_queue.store.transport.auto_pipeline import AutoPipeline
from assistant_queue.store.transport.connect import disconnect, is_in_memory
from assistant_queue.store.transport.pipelined import PipelinedSender
from assistant_queue.store.transport.refusals import (
    hang_up_idle,
    hang_up_idle_async,
    leads_astray,
    translate,
)

T = TypeVar("T")


def _commands(calls: Sequence[Call]) -> tuple[list[tuple[Any, ...]], int]:
    """Return the commands of calls after those that load their scripts, and the latter's number.

    The same pipeline loads them. Otherwise a Redis that lost them might refuse the first calls and
    accept the later ones, because another client loaded them meanwhile: the messages of a thread
    would change places when the refused ones are sent again.
    """
    scripts = {call.script.sha: call.script.text for call in calls if call.script is not None}
    commands: list[tuple[Any, ...]] = [("SCRIPT LOAD", text) for text in scripts.values()]
    for call in calls:
        if call.script is None:
            commands.append(tuple(call.words))
        else:
            commands.append(("EVALSHA", call.script.sha, len(call.keys), *call.keys, *call.words))
    return commands, len(scripts)


def _settled(step: list[Call], replies: list[Any], *, has_served: bool) -> list[Any]:
    """Return the replies, with redis-py's errors among them translated.

    Raises:
        redis.ResponseError: Redis temporarily refused one call, and possibly others.
    """
    if isinstance(step, Each):
        for number, reply in enumerate(replies):
            if isinstance(reply, exceptions.ResponseError):
                replies[number] = error = translate(reply, has_served=has_served)
                if not isinstance(error, StoreError) or isinstance(error, StoreUnavailable):
                    raise reply
    return replies


def _prepared(
    operation: Operation[T], namespaces: Sequence[Namespace]
) -> tuple[Operation[T], Sequence[Namespace]]:
    """Return an operation that settles these namespaces first, and those that are not settled."""
    if not namespaces:
        return repairing(operation), namespaces
    return repairing(after_settling(namespaces, operation)), [
        namespace for namespace in namespaces if not namespace.is_settled
    ]


class SyncStore:
    """Run operations on a blocking redis client; `client` is that client."""

    def __init__(
        self,
        client: Any,
        *,
        execute: Callable[..., Any] | None = None,
        has_served: bool = False,
        namespaces: Sequence[Namespace] = (),
    ) -> None:
        """Connect to nothing yet.

        Args:
            client: That client.
            execute: Sends one command; None for the client's own method.
            has_served: The same Redis has run a script before: a later refusal means that it is
                down, not that it is a cluster.
            namespaces: Queues to detect the key layout of, before the first operation.
        """
        self.client = client
        self._namespaces = namespaces
        self._execute = execute or client.execute_command
        self._has_served = has_served

    def run(self, operation: Operation[T]) -> T:
        """Run an operation.

        Raises:
            StoreUnavailable: Redis did not answer; the last call may or may not have taken effect.
                Every script can be repeated. Or Redis refuses temporarily (`refusal` has the
                reason); the last call had no effect.
            StoreError: Redis refused; nothing was changed.
        """
        operation, self._namespaces = _prepared(operation, self._namespaces)
        sender: PipelinedSender | None = None
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Pipelined):
                        sender = sender or PipelinedSender(self.client)
                        reply: Any = sender.swap(*_commands(step.calls))
                    else:
                        if sender is not None:
                            sender.settle()
                        reply = (
                            self._send(step) if isinstance(step, Call) else self._send_many(step)
                        )
                except (exceptions.ResponseError, *REFUSED) as error:
                    step = operation.throw(self._refusal(error))  # it may have a fallback
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # raised by the operation itself
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error, has_served=self._has_served) from error
        finally:
            if sender is not None:
                sender.close()

    def _refusal(self, error: Exception) -> Exception:
        """Return a translated refusal; raise a temporary one: no operation can handle it."""
        if leads_astray(error):
            hang_up_idle(self.client)
        refusal = translate(error, has_served=self._has_served)
        if isinstance(refusal, StoreUnavailable):
            raise refusal from error
        return refusal

    def _send(self, call: Call) -> Any:
        script = call.script
        if script is None:
            return self._execute(*call.words)
        try:
            reply = self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        except exceptions.NoScriptError:
            self._execute("SCRIPT LOAD", script.text)
            reply = self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        self._has_served = True
        return reply

    def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        commands, loads = _commands(calls)
        with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies = list(pipeline.execute(raise_on_error=not isinstance(calls, Each)))[loads:]
        replies = _settled(calls, replies, has_served=self._has_served)
        self._has_served = self._has_served or loads > 0
        return replies

    def close(self) -> None:
        """Close the connections."""
        self.client.close()


class AsyncStore:
    """Run operations on an asyncio redis client; `client` is that client."""

    def __init__(
        self, client: Any, *, keeps: bool = True, namespaces: Sequence[Namespace] = ()
    ) -> None:
        """Connect to nothing yet.

        Args:
            client: That client.
            keeps: Connections of the client may be pinned; not those of a caller's client, which
                may have none to spare.
            namespaces: Queues to detect the key layout of, before the first operation.
        """
        self.client = client
        self._namespaces = namespaces
        self._pipeline = AutoPipeline(client, keeps=keeps)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_served = False

    def serve(self, namespace: Namespace) -> None:
        """Detect the key layout of another queue before the next operation."""
        self._namespaces = [*self._namespaces, namespace]

    async def run(self, operation: Operation[T]) -> T:
        """Run an operation; raises as `SyncStore.run` does.

        Raises:
            ConfigurationError: The connections belong to another event loop. Nothing was sent.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Checked in advance: the command would be sent, only its reply could not be awaited.
            if self._loop is not None and not is_in_memory(self.client):
                raise ConfigurationError(
                    "This queue object belongs to the event loop of its first call, and the "
                    "current loop is another one: create one object per loop, inside the function "
                    "that is passed to asyncio.run(); nothing was done"
                )
            self._loop = loop
        operation, self._namespaces = _prepared(operation, self._namespaces)
        before: list[Any] = []
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Pipelined):
                        # One coroutine cannot prepare the next round trip while it awaits this one.
                        reply, before = before, await self._send_many(step.calls)
                    else:
                        reply = (
                            await self._send(step)
                            if isinstance(step, Call)
                            else await self._send_many(step)
                        )
                except (exceptions.ResponseError, *REFUSED) as error:
                    step = operation.throw(await self._refusal(error))
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # raised by the operation itself
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error, has_served=self._has_served) from error

    async def _refusal(self, error: Exception) -> Exception:
        if leads_astray(error):
            self._pipeline.reconnect()
            await hang_up_idle_async(self.client)
        refusal = translate(error, has_served=self._has_served)
        if isinstance(refusal, StoreUnavailable):
            raise refusal from error
        return refusal

    async def _send(self, call: Call) -> Any:
        script = call.script
        if call.blocks:
            return await self.client.execute_command(*call.words)
        if script is None:
            return await self._pipeline.execute(*call.words)
        words = ("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        try:
            reply = await self._pipeline.execute(*words, thread_id=call.thread_id)
        except exceptions.NoScriptError:
            await self._pipeline.execute("SCRIPT LOAD", script.text)
            reply = await self._pipeline.execute(*words, thread_id=call.thread_id)
        self._has_served = True
        return reply

    async def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        commands, loads = _commands(calls)
        async with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies = list(await pipeline.execute(raise_on_error=not isinstance(calls, Each)))[
                loads:
            ]
        replies = _settled(calls, replies, has_served=self._has_served)
        self._has_served = self._has_served or loads > 0
        return replies

    async def close(self, *others: Any) -> None:
        """Close the connections of these clients; those of a closed loop are gone already."""
        for client in (*others, self.client):
            try:
                await disconnect(client)
            except RuntimeError:
                if self._loop is None or not self._loop.is_closed():
                    raise
