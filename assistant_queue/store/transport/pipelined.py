"""Pipelined round trips: the next one is prepared while Redis works on the previous one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import exceptions

from assistant_queue.store.transport.packing import pack_all
from assistant_queue.store.transport.pinned import fits
from assistant_queue.store.transport.refusals import leads_astray

Commands = Sequence[Sequence[Any]]


class PipelinedSender:
    """Send one round trip before the replies to the previous one are read.

    A client that waits for each reply and Redis take turns: while one works the other waits. With
    this sender both work.

    1. reserves one connection while a round trip is in progress; commands stay in order
    2. has at most two round trips in progress, and keeps only their commands
    3. after a lost connection, repeats the commands without a reply, in order, as often as redis-py
       is configured to; only for commands that can be repeated
    4. sends each round trip by the general path of a client that cannot be pinned, and waits for it
    """

    def __init__(self, client: Any) -> None:
        """Take no connection yet."""
        self._client = client
        self._connection: Any = None
        self._unread: Commands = ()  # sent, or to be sent again
        self._replies: list[Any] = []  # of the last round trip, if they have been read already
        self._leading = 0
        self._is_sent = False  # the connection carries the unread ones, and nothing else

    def swap(self, commands: Commands, leading: int = 0) -> list[Any]:
        """Send commands; return the replies to the previous ones.

        Args:
            commands: Sent now.
            leading: The number of commands that only prepare the others: their replies are omitted.

        Raises:
            redis.ResponseError: Redis refused one of the previous commands. The others, and these,
                may have taken effect.
            UnicodeEncodeError, redis.DataError: One of these commands cannot be packed. None of
                them was sent; the previous ones are not affected.
            redis.RedisError: Redis did not answer. The commands may or may not have taken effect.
        """
        replies = self._swapped(commands)
        skipped, self._leading = self._leading, leading
        for reply in replies:
            if isinstance(reply, exceptions.ResponseError):
                # A server that is no primary answers nothing useful: the connection is closed with
                # all replies that are due.
                self._is_sent = self._is_sent and not leads_astray(reply)
                raise reply
        return replies[skipped:]

    def _swapped(self, commands: Commands) -> list[Any]:
        if not fits(self._client):
            replies, self._replies = self._replies, self._general(commands)
            return replies
        if self._connection is None:
            self._connection = self._client.connection_pool.get_connection()
        packed = pack_all(self._connection, commands)
        before = self._unread
        read = self._repeated(lambda: self._send_and_read(packed, before))
        replies, self._replies, self._unread = [*self._replies, *read], [], commands
        return replies

    def settle(self) -> None:
        """Wait for outstanding replies, for the next `swap`, and release the connection."""
        if self._unread:
            before = self._unread
            self._replies = self._repeated(lambda: self._send_and_read([], before))
            self._unread = ()
        self._release()

    def close(self) -> None:
        """Wait for outstanding replies, unless an error left them there."""
        if self._is_sent:
            with suppress(exceptions.RedisError, OSError):
                self.settle()
        self._release()

    def _release(self) -> None:
        if self._connection is None:
            return
        if self._unread or not self._is_sent:
            self._connection.disconnect()  # a late reply must not answer the next command
        self._client.connection_pool.release(self._connection)
        self._connection = None
        self._is_sent = False

    def _repeated(self, send_and_read: Callable[[], list[Any]]) -> list[Any]:
        replies: list[Any] = self._connection.retry.call_with_retry(
            send_and_read, lambda _: self._connection.disconnect()
        )
        return replies

    def _send_and_read(self, packed: list[Any], before: Commands) -> list[Any]:
        connection, was_sent, self._is_sent = self._connection, self._is_sent, False
        if before and not was_sent:
            connection.send_packed_command(pack_all(connection, before))
        if packed:  # a health check would read one of the replies as its own
            connection.send_packed_command(packed, check_health=not before)
        replies = [_reply(connection) for _ in before]
        self._is_sent = True
        return replies

    def _general(self, commands: Commands) -> list[Any]:
        if not commands:
            return []
        with self._client.pipeline(transaction=False) as pipeline:
            for words in commands:
                pipeline.execute_command(*words)
            return list(pipeline.execute(raise_on_error=False))


def _reply(connection: Any) -> Any:
    try:
        return connection.read_response()
    except exceptions.ResponseError as error:
        return error
