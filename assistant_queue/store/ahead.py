"""Round trips that are prepared while Redis works on the one before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

from redis import exceptions

from assistant_queue.store.lane import fits
from assistant_queue.store.refusals import leads_astray

Commands = Sequence[Sequence[Any]]


class AheadSender:
    """Sends one round trip before it reads the replies to the one before.

    A client that waits for each reply and Redis take turns: while one works the other waits. Here both work.

    1. keeps one connection for itself while something is on its way; what is sent stays in order
    2. never more than two round trips on their way: their commands are all that is kept
    3. a lost connection: what has no reply yet is sent again, in order, as often as redis-py is told to; for commands that can be repeated
    4. a client that the lane does not fit is sent each round trip by its general way, and waited for
    """

    def __init__(self, client: Any) -> None:
        """Takes no connection yet."""
        self._client = client
        self._connection: Any = None
        self._unread: Commands = ()  # sent, or to be sent again
        self._replies: list[Any] = []  # of what was sent last, if they have been read already
        self._leading = 0
        self._is_sent = False  # the unread ones are on this connection, and nothing else is

    def swap(self, commands: Commands, leading: int = 0) -> list[Any]:
        """Send these; the replies to those before.

        Args:
            commands: Sent now.
            leading: So many of them only prepare the others: their replies are left out.

        Raises:
            redis.ResponseError: Redis refused one of those before. The others, and these, may have happened.
            UnicodeEncodeError, redis.DataError: One of these cannot be packed. None of them was sent; those before stand as they did.
            redis.RedisError: Redis did not answer. What was sent may or may not have happened.
        """
        replies = self._swapped(commands)
        skipped, self._leading = self._leading, leading
        for reply in replies:
            if isinstance(reply, exceptions.ResponseError):
                # Of a server that is no primary nothing more is expected: the connection is closed with what is on its way.
                self._is_sent = self._is_sent and not leads_astray(reply)
                raise reply
        return replies[skipped:]

    def _swapped(self, commands: Commands) -> list[Any]:
        if not fits(self._client):
            replies, self._replies = self._replies, self._general(commands)
            return replies
        if self._connection is None:
            self._connection = self._client.connection_pool.get_connection()
        packed = self._connection.pack_commands(commands)
        before = self._unread
        read = self._repeated(lambda: self._send_and_read(packed, before))
        replies, self._replies, self._unread = [*self._replies, *read], [], commands
        return replies

    def settle(self) -> None:
        """Wait for the replies that have not come, which the next `swap` gives, and give the connection back until then."""
        if self._unread:
            before = self._unread
            self._replies = self._repeated(lambda: self._send_and_read([], before))
            self._unread = ()
        self._give_back()

    def close(self) -> None:
        """Wait for what is on its way, unless an error left it there."""
        if self._is_sent:
            with suppress(exceptions.RedisError, OSError):
                self.settle()
        self._give_back()

    def _give_back(self) -> None:
        if self._connection is None:
            return
        if self._unread or not self._is_sent:
            self._connection.disconnect()  # a late reply must not answer the next command
        self._client.connection_pool.release(self._connection)
        self._connection, self._is_sent = None, False

    def _repeated(self, send_and_read: Callable[[], list[Any]]) -> list[Any]:
        replies: list[Any] = self._connection.retry.call_with_retry(send_and_read, lambda _: self._connection.disconnect())
        return replies

    def _send_and_read(self, packed: list[Any], before: Commands) -> list[Any]:
        connection, was_sent, self._is_sent = self._connection, self._is_sent, False
        if before and not was_sent:
            connection.send_packed_command(connection.pack_commands(before))
        if packed:  # a health check would take one of the replies for its own
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
