"""The two ways to Redis: one loop that blocks and one that awaits. Everything else is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis import exceptions

from assistant_queue.errors import ConfigurationError, StoreError, StoreUnavailable
from assistant_queue.store.ahead import AheadSender
from assistant_queue.store.calls import Ahead, Call, Each, Operation, Space
from assistant_queue.store.connect import disconnect, is_in_memory
from assistant_queue.store.gathering import Gathering
from assistant_queue.store.layout import laid_out
from assistant_queue.store.quarantine import mending
from assistant_queue.store.refusals import hang_up_idle, hang_up_idle_async, leads_astray, translate
from assistant_queue.store.sendable import REFUSED

T = TypeVar("T")


def _commands(calls: Sequence[Call]) -> tuple[list[tuple[Any, ...]], int]:
    """The commands of calls, behind the scripts that they need; the number of those.

    Loaded by the same pipeline, or a Redis that forgot them might refuse the first of these calls and take the later ones, because another
    client loaded them meanwhile: the messages of a thread would change places when the refused ones are sent again.
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
    """The replies; errors in their place are ours.

    Raises:
        redis.ResponseError: Redis refused one for now, and so the others, as far as it did not take them.
    """
    if isinstance(step, Each):
        for number, reply in enumerate(replies):
            if isinstance(reply, exceptions.ResponseError):
                replies[number] = error = translate(reply, has_served=has_served)
                if not isinstance(error, StoreError) or isinstance(error, StoreUnavailable):
                    raise reply
    return replies


class SyncStore:
    """Runs operations on a blocking redis client; `client` is that client."""

    def __init__(
        self, client: Any, *, execute: Callable[..., Any] | None = None, has_served: bool = False, spaces: Sequence[Space] = ()
    ) -> None:
        """Connect to nothing yet.

        Args:
            client: That client.
            execute: Sends one command; None for the client's own way.
            has_served: The same Redis has run a script before: what refuses one from now on is away, and no cluster.
            spaces: Queues of which is asked, before the first operation, which keys they have.
        """
        self.client = client
        self._spaces = spaces
        self._execute = execute or client.execute_command
        self._has_served = has_served

    def run(self, operation: Operation[T]) -> T:
        """Carry an operation out.

        Raises:
            StoreUnavailable: Redis did not answer; the last call may or may not have happened. Every script can be repeated. Or it refuses
                for now (`refusal` says why); the last call did not happen.
            StoreError: Redis refused; nothing happened.
        """
        operation = mending(laid_out(self._spaces, operation) if self._spaces else operation)
        self._spaces = [space for space in self._spaces if not space.is_settled]
        sender: AheadSender | None = None
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Ahead):
                        sender = sender or AheadSender(self.client)
                        reply: Any = sender.swap(*_commands(step.calls))
                    else:
                        if sender is not None:
                            sender.settle()
                        reply = self._send(step) if isinstance(step, Call) else self._send_many(step)
                except (exceptions.ResponseError, *REFUSED) as error:
                    step = operation.throw(self._refusal(error))  # it may know a way without
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error, has_served=self._has_served) from error
        finally:
            if sender is not None:
                sender.close()

    def _refusal(self, error: Exception) -> Exception:
        """A refusal as ours; one that passes is raised: no operation knows a way around a Redis that is away."""
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
        """Give the connections back."""
        self.client.close()


class AsyncStore:
    """Runs operations on an asyncio redis client; `client` is that client."""

    def __init__(self, client: Any, *, keeps: bool = True, spaces: Sequence[Space] = ()) -> None:
        """Connect to nothing yet.

        Args:
            client: That client.
            keeps: Connections of the client may be kept; not of a caller's client, which may have none to spare.
            spaces: Queues of which is asked, before the first operation, which keys they have.
        """
        self.client = client
        self._spaces = spaces
        self._gathering = Gathering(client, keeps=keeps)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_served = False

    def serve(self, space: Space) -> None:
        """Ask before the next operation which keys this queue has, too."""
        self._spaces = [*self._spaces, space]

    async def run(self, operation: Operation[T]) -> T:
        """Carry an operation out; raises as `SyncStore.run` does.

        Raises:
            ConfigurationError: The connections belong to another event loop. Nothing was sent.
        """
        loop = asyncio.get_running_loop()
        if self._loop is not loop:
            # Checked before, not understood after: a command is sent all right, only its reply cannot be waited for.
            if self._loop is not None and not is_in_memory(self.client):
                raise ConfigurationError(
                    "this queue object belongs to the event loop of its first call, and this is another one: make one for each loop, "
                    "inside the function that asyncio.run() is given; nothing was done"
                )
            self._loop = loop
        operation = mending(laid_out(self._spaces, operation) if self._spaces else operation)
        self._spaces = [space for space in self._spaces if not space.is_settled]
        before: list[Any] = []
        try:
            step = next(operation)
            while True:
                try:
                    if isinstance(step, Ahead):  # one loop does both: there is nobody who could prepare the next meanwhile
                        reply, before = before, await self._send_many(step.calls)
                    else:
                        reply = await self._send(step) if isinstance(step, Call) else await self._send_many(step)
                except (exceptions.ResponseError, *REFUSED) as error:
                    step = operation.throw(await self._refusal(error))
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error, has_served=self._has_served) from error

    async def _refusal(self, error: Exception) -> Exception:
        if leads_astray(error):
            self._gathering.leave()
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
            return await self._gathering.execute(*call.words)
        try:
            reply = await self._gathering.execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        except exceptions.NoScriptError:
            await self._gathering.execute("SCRIPT LOAD", script.text)
            reply = await self._gathering.execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        self._has_served = True
        return reply

    async def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        commands, loads = _commands(calls)
        async with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            replies = list(await pipeline.execute(raise_on_error=not isinstance(calls, Each)))[loads:]
        replies = _settled(calls, replies, has_served=self._has_served)
        self._has_served = self._has_served or loads > 0
        return replies

    async def close(self, *others: Any) -> None:
        """Give the connections back, of other clients of the same loop, too; those of a loop that is closed went with it."""
        for client in (*others, self.client):
            try:
                await disconnect(client)
            except RuntimeError:
                if self._loop is None or not self._loop.is_closed():
                    raise
