"""The two ways to Redis: one loop that blocks and one that awaits. Everything else is shared."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from redis import exceptions

from assistant_queue.config import NO_CLUSTER
from assistant_queue.errors import ConfigurationError, NotEncodable, NotPermitted, StoreError, StoreUnavailable
from assistant_queue.store.ahead import AheadSender
from assistant_queue.store.calls import Ahead, Call, Operation
from assistant_queue.store.connect import disconnect, is_in_memory
from assistant_queue.store.gathering import Gathering
from assistant_queue.store.quarantine import mending
from assistant_queue.store.sendable import REFUSED

T = TypeVar("T")

_CLUSTERS = (exceptions.AskError, exceptions.ClusterDownError, exceptions.ClusterCrossSlotError, exceptions.TryAgainError)
"""What only a Redis in cluster mode says: MOVED and ASK, CLUSTERDOWN, CROSSSLOT, TRYAGAIN."""
_NO_SELECT = "SELECT is not allowed in cluster mode"
"""Source: Redis, src/db.c. It is said where the URL names a database."""


def translate(error: Exception) -> Exception:
    """Redis' errors as ours, most specific first; anything else as it is."""
    if isinstance(error, _CLUSTERS) or (isinstance(error, exceptions.ResponseError) and _NO_SELECT in str(error)):
        return ConfigurationError(NO_CLUSTER)
    if isinstance(error, UnicodeEncodeError):
        half = error.object[error.start : error.end]
        return NotEncodable(
            f"a key or a word holds {half!a}, half of a surrogate pair, which is not UTF-8; nothing was sent - repair the text"
        )
    if isinstance(error, exceptions.DataError):
        return NotEncodable(f"a command holds what cannot be sent: {error}; nothing was sent")
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return NotPermitted(f"Redis refused the command: {error}; check the user, the password and the ACL")
    if isinstance(error, exceptions.ReadOnlyError):
        return StoreError("Redis is a read-only replica; point redis_url at the primary, or use Sentinel")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return StoreUnavailable(f"Redis did not answer: {error}; check that it runs and that redis_url is right")
    if isinstance(error, exceptions.RedisError):
        return StoreError(f"Redis refused a command: {error}")
    return error


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


class SyncStore:
    """Runs operations on a blocking redis client; `client` is that client."""

    def __init__(self, client: Any, *, execute: Callable[..., Any] | None = None) -> None:
        """`execute` sends one command; None for the client's own way."""
        self.client = client
        self._execute = execute or client.execute_command

    def run(self, operation: Operation[T]) -> T:
        """Carry an operation out.

        Raises:
            StoreUnavailable: Redis did not answer; the last call may or may not have happened. Every script can be repeated.
            StoreError: Redis refused; nothing happened.
        """
        operation = mending(operation)
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
                    step = operation.throw(translate(error))  # it may know a way without
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error) from error
        finally:
            if sender is not None:
                sender.close()

    def _send(self, call: Call) -> Any:
        script = call.script
        if script is None:
            return self._execute(*call.words)
        try:
            return self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        except exceptions.NoScriptError:
            self._execute("SCRIPT LOAD", script.text)
            return self._execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)

    def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        commands, loads = _commands(calls)
        with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            return list(pipeline.execute())[loads:]

    def close(self) -> None:
        """Give the connections back."""
        self.client.close()


class AsyncStore:
    """Runs operations on an asyncio redis client; `client` is that client."""

    def __init__(self, client: Any, *, keeps: bool = True) -> None:
        """`keeps`: connections of the client may be kept; not of one that is somebody else's, too, and may have none to spare."""
        self.client = client
        self._gathering = Gathering(client, keeps=keeps)
        self._loop: asyncio.AbstractEventLoop | None = None

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
        operation = mending(operation)
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
                    step = operation.throw(translate(error))
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error) from error

    async def _send(self, call: Call) -> Any:
        script = call.script
        if call.blocks:
            return await self.client.execute_command(*call.words)
        if script is None:
            return await self._gathering.execute(*call.words)
        try:
            return await self._gathering.execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        except exceptions.NoScriptError:
            await self._gathering.execute("SCRIPT LOAD", script.text)
            return await self._gathering.execute("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)

    async def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        commands, loads = _commands(calls)
        async with self.client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            return list(await pipeline.execute())[loads:]

    async def close(self, *others: Any) -> None:
        """Give the connections back, of other clients of the same loop, too; those of a loop that is closed went with it."""
        for client in (*others, self.client):
            try:
                await disconnect(client)
            except RuntimeError:
                if self._loop is None or not self._loop.is_closed():
                    raise
