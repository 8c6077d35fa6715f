"""The two ways to Redis: one loop that blocks and one that awaits. Everything else is shared."""

from __future__ import annotations

from typing import Any, TypeVar

from redis import exceptions

from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.store.calls import Call, Operation
from assistant_queue.store.connect import disconnect
from assistant_queue.store.quarantine import mending

T = TypeVar("T")


def translate(error: Exception) -> Exception:
    """Redis' errors as ours, most specific first; anything else as it is."""
    if isinstance(error, exceptions.AuthenticationError | exceptions.NoPermissionError):
        return NotPermitted(f"Redis refused the command: {error}; check the user, the password and the ACL")
    if isinstance(error, exceptions.ReadOnlyError):
        return StoreError("Redis is a read-only replica; point redis_url at the primary, or use Sentinel")
    if isinstance(error, exceptions.ConnectionError | exceptions.TimeoutError | OSError):
        return StoreUnavailable(f"Redis did not answer: {error}; check that it runs and that redis_url is right")
    if isinstance(error, exceptions.RedisError):
        return StoreError(f"Redis refused a command: {error}")
    return error


class SyncStore:
    """Runs operations on a blocking redis client; `client` is that client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._scripts: dict[str, Any] = {}

    def run(self, operation: Operation[T]) -> T:
        """Carry an operation out.

        Raises:
            StoreUnavailable: Redis did not answer; the last call may or may not have happened. Every script can be repeated.
            StoreError: Redis refused; nothing happened.
        """
        operation = mending(operation)
        try:
            step = next(operation)
            while True:
                try:
                    reply = self._send(step) if isinstance(step, Call) else self._send_many(step)
                except exceptions.ResponseError as error:
                    step = operation.throw(translate(error))  # it may know a way without
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error) from error

    def _send(self, call: Call, client: Any = None) -> Any:
        target = self.client if client is None else client
        if call.script is None:
            return target.execute_command(*call.words)
        script = self._scripts.get(call.script.name)
        if script is None:
            script = self._scripts[call.script.name] = self.client.register_script(call.script.text)
        if client is not None:
            return script(keys=call.keys, args=call.words, client=client)
        try:  # as `script()` does, but without its detours: they are a twentieth of an add
            return self.client.execute_command("EVALSHA", script.sha, len(call.keys), *call.keys, *call.words)
        except exceptions.NoScriptError:
            return script(keys=call.keys, args=call.words)

    def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                self._send(call, pipeline)
            return list(pipeline.execute())

    def close(self) -> None:
        """Give the connections back."""
        self.client.close()


class AsyncStore:
    """Runs operations on an asyncio redis client; `client` is that client."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self._scripts: dict[str, Any] = {}

    async def run(self, operation: Operation[T]) -> T:
        """Carry an operation out; raises as `SyncStore.run` does."""
        operation = mending(operation)
        try:
            step = next(operation)
            while True:
                try:
                    reply = await self._send(step) if isinstance(step, Call) else await self._send_many(step)
                except exceptions.ResponseError as error:
                    step = operation.throw(translate(error))
                else:
                    step = operation.send(reply)
        except StopIteration as stop:
            return stop.value  # type: ignore[no-any-return]  # the operation's own type
        except StoreError:  # an operation's own verdict
            raise
        except (exceptions.RedisError, OSError) as error:
            raise translate(error) from error

    def _script(self, call: Call) -> Any:
        name = call.script.name if call.script else ""
        script = self._scripts.get(name)
        if script is None and call.script is not None:
            script = self._scripts[name] = self.client.register_script(call.script.text)
        return script

    async def _send(self, call: Call) -> Any:
        if call.script is None:
            return await self.client.execute_command(*call.words)
        return await self._script(call)(keys=call.keys, args=call.words)

    async def _send_many(self, calls: list[Call]) -> list[Any]:
        if not calls:
            return []
        async with self.client.pipeline(transaction=False) as pipeline:
            for call in calls:
                if call.script is None:
                    pipeline.execute_command(*call.words)
                else:
                    await self._script(call)(keys=call.keys, args=call.words, client=pipeline)
            return list(await pipeline.execute())

    async def close(self) -> None:
        """Give the connections back."""
        await disconnect(self.client)
