"""Writes the audit's spool to its database, beside the batches of a worker."""

from __future__ import annotations

import logging
import random
import secrets
import threading
from typing import Any

from assistant_queue.auditing import AuditSink
from assistant_queue.errors import AuditUnavailable, StoreError
from assistant_queue.store import audit_codec
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import audit_spool
from assistant_queue.store.transport.connect import fresh
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.worker.outage import PASSES, Outage, pause_s

_log = logging.getLogger(__name__)

LEASE_S = 10.0
"""Lease of the worker that writes. Chosen: as long as others wait for one that was killed; a
transaction that lasts longer writes nothing (the sink's `holder`)."""
_LOOK_S = 0.5
"""Seconds between two transactions that are not full. Chosen: an auditor does not notice, and a busy
worker writes some hundred batches at once."""
_FOLLOW_S = 2.0
"""Seconds between two looks whether the writer is gone. Chosen: a part of its lease."""
_AWAY_S = 1.0
_MOST_AWAY_S = 15.0
"""Seconds until a database that is away is asked again, at first and at most."""
_PATIENCE_S = 5.0
"""Seconds that a process that ends waits for a transaction. Chosen: RQ gives a job minutes."""


class AuditDrain:
    """Takes entries of the spool and gives them to the sink, as the only writer of its queue.

    1. one worker of a queue is the writer: it holds the lease of the spool, and the sink knows it
    2. entries are removed from Redis after the sink has stored them; those of a writer that died in
       between are stored again, which changes nothing
    3. a sink that is away, or hangs, holds up nothing but this thread
    """

    def __init__(
        self, namespace: Namespace, sink: AuditSink, client: Any, outage: Outage | None = None
    ) -> None:
        """Start nothing yet; `client` is copied."""
        self._namespace = namespace
        self._sink = sink
        self._outage = outage or Outage()
        self._store = SyncStore(fresh(client), has_served=True)
        self._token = secrets.token_hex(8)
        self._is_writer = False
        self._written = 0
        self._lost: int | None = None
        self._away_s = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="assistant-queue-audit", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Write what is there, if the database answers; stop the thread, give the lease back."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=_PATIENCE_S)

    def pass_once(self) -> None:
        """Write what is there, in a process that ends after it."""
        self._stop.set()
        self._thread.start()
        self._thread.join(timeout=_PATIENCE_S)

    def _run(self) -> None:
        while True:
            is_last = self._stop.is_set()
            wait_s = self._guarded_step()
            if wait_s == 0.0:
                continue
            if is_last:
                break
            self._stop.wait(wait_s)
        self._give_back()

    def _guarded_step(self) -> float:
        try:
            return self.step()
        except PASSES as error:
            self._outage.failed("audit", error)
            return pause_s(error, _AWAY_S)
        except StoreError as error:
            _log.warning("audit: %s", error)
            return _AWAY_S
        except Exception:  # noqa: BLE001 - the next step may pass
            _log.exception("the audit failed; it continues")
            return _MOST_AWAY_S

    def step(self) -> float:
        """Write one page; return the seconds until the next one."""
        page = self._store.run(
            audit_spool.drain(self._namespace, self._token, written=self._written, lease_s=LEASE_S)
        )
        self._outage.passed("audit")
        if page is None:
            self._is_writer = False
            return _FOLLOW_S * random.uniform(0.7, 1.0)  # noqa: S311 - not for secrets
        self._report_losses(page.lost)
        if not page.entries:
            self._written = page.first
            return _LOOK_S
        try:
            if not self._is_writer:
                self._sink.take_over(self._namespace.prefix, self._token)
                self._is_writer = True
            is_ours = self._write(page)
        except AuditUnavailable as error:
            return self._wait_out(error)
        self._away_s = 0.0
        if not is_ours:
            self._is_writer = False
            return 0.0
        self._written = page.first + len(page.entries)
        return 0.0 if len(page.entries) == audit_spool.PAGE else _LOOK_S

    def _write(self, page: audit_spool.SpoolPage) -> bool:
        found = (audit_codec.unpack_entry(self._namespace.prefix, one) for one in page.entries)
        entries = [one for one in found if one is not None]
        unread = sum(bool(one) for one in page.entries) - len(entries)
        if unread:
            _log.error("audit: %d entries were not written by this queue; left out", unread)
        is_ours = self._sink.write(self._namespace.prefix, self._token, entries, page.lost)
        if is_ours and self._away_s:
            _log.warning("audit: the database takes records again")
        return is_ours

    def _report_losses(self, lost: int) -> None:
        if self._lost is not None and lost > self._lost:
            _log.error(
                "audit: %d batches are lost to it: the database is away, and the spool is full",
                lost - self._lost,
            )
        self._lost = lost

    def _wait_out(self, error: AuditUnavailable) -> float:
        if not self._away_s:
            _log.warning("audit: %s", error)
        self._is_writer = False
        self._away_s = min(max(2 * self._away_s, _AWAY_S), _MOST_AWAY_S)
        return self._away_s

    def _give_back(self) -> None:
        try:
            self._store.run(
                audit_spool.drain(
                    self._namespace, self._token, written=self._written, lease_s=0, limit=1
                )
            )
        except (StoreError, OSError):
            _log.debug("audit: the lease of the spool runs out")
        self._store.close()
        self._sink.close()
