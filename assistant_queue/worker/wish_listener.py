"""Notification of wishes: another process wants a batch that this one has to end or to change."""

from __future__ import annotations

import contextlib
import logging
import threading
from typing import Any

from redis import exceptions

from assistant_queue.errors import StoreError
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops.steering import wake_listeners
from assistant_queue.store.transport.channels import ChannelListener
from assistant_queue.store.transport.refusals import translate
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.lease import LeaseKeeper
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

LISTEN_AFTER_S = 0.1
"""Seconds after which a batch has its worker listen. Chosen: a batch that is over sooner costs
neither a thread nor a connection, and no wish for it comes in time."""

_WAIT_S = 30.0
"""Seconds between two looks whether the listener is closed. Chosen: `close` wakes it."""

_AWAY_S = 0.5
"""Seconds until the next try while Redis is away. Chosen: a wish is obeyed within a second."""


class WishListener:
    """Notifies the holders of this process' leases of wishes for their batches.

    1. begins with the first batch that takes a while, on its own thread with its own connection
    2. renews the lease of a thread that is named on the channel: the reply has the wish
    3. renews all leases when a subscription begins, for the wishes that came before it

    Without it, a wish is found by the next write or renewal.
    """

    def __init__(
        self, namespace: Namespace, client: Any, keeper: LeaseKeeper, outage: Outage
    ) -> None:
        """Connect to nothing yet; `client` is the listener's own."""
        self._namespace = namespace
        self._client = client
        self._store = SyncStore(client, has_served=True)
        self._keeper = keeper
        self._outage = outage
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def has_begun(self) -> bool:
        """It listens, or tries to."""
        return self._thread is not None

    def begin(self) -> None:
        """Listen from now on."""
        if self._thread is None:
            self._thread = threading.Thread(
                target=self._run, name="assistant-queue-wishes", daemon=True
            )
            self._thread.start()

    def close(self) -> None:
        """Stop the thread and close the connection."""
        self._closed.set()
        if self._thread is not None:
            with contextlib.suppress(StoreError):  # else it ends with the process
                self._store.run(wake_listeners(self._namespace))
            self._thread.join(timeout=2)
        self._store.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                with ChannelListener(self._client) as news:
                    self._listen(news)
            except (exceptions.RedisError, OSError, *PASSES) as error:
                # Also without the right to listen: a password may be being rotated. Of the
                # connection that listens, an error is redis-py's.
                self._wait_out(translate(error, has_served=True))
            except Exception:  # noqa: BLE001 - a batch could not be stopped
                _log.exception("the listener of wishes failed; it continues")
                self._closed.wait(_AWAY_S)

    def _listen(self, news: ChannelListener) -> None:
        news.listen(self._namespace.keys.wishes)
        news.read(_AWAY_S)  # the subscription is confirmed
        self._keeper.renew_held(self._store)
        self._outage.passed("wishes")
        while not self._closed.is_set():
            thread_id = news.read(_WAIT_S)
            if thread_id:
                self._keeper.renew_held(self._store, thread_id)

    def _wait_out(self, error: Exception) -> None:
        if self._closed.is_set():
            return
        self._outage.failed("wishes", error)
        self._closed.wait(pause_s(error, _AWAY_S))
