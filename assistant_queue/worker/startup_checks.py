"""Checks of a worker before it takes anything: the queue's fingerprint, and the Redis itself."""

from __future__ import annotations

import logging
from contextlib import suppress

from assistant_queue.backends.factory import check_backend
from assistant_queue.config import Config
from assistant_queue.errors import NotPermitted
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.layout import read_nestings, settle
from assistant_queue.store.ops import control
from assistant_queue.store.ops.server_info import (
    judge,
    judge_nesting,
    read_server,
    refuse_cluster,
    refuse_eviction,
)
from assistant_queue.worker.callbacks import check_callbacks

_log = logging.getLogger(__name__)
_LEVELS = {"ok": logging.DEBUG, "note": logging.INFO, "warn": logging.INFO, "bad": logging.ERROR}
"""A Redis without a file is usual in development: `assistant-queue worker` prints it, a script that
starts a worker need not."""


def check_options(config: Config) -> None:
    """Check a worker's options before it connects: its callbacks, and its backend.

    Raises:
        ConfigurationError: No backend is configured, its key is missing, or a callback does not
            take its arguments. Nothing was started.
    """
    check_callbacks(config)
    check_backend(config)


def check_in(namespace: Namespace, config: Config, *, quietly: bool = False) -> Operation[None]:
    """Check before anything is taken; log what a crash of this Redis could lose, unless `quietly`.

    Raises:
        FormatTooNew: A newer version has written under the prefix. Nothing was changed.
        ConfigurationMismatch: This worker is configured otherwise than its producers.
            Nothing was changed.
        ConfigurationError: Redis is a cluster, or may throw messages away (`allow_eviction` is not
            set).
    """
    yield from settle(namespace)
    yield from control.check_in(namespace, None if config.allow_mismatch else config.fingerprint)
    server = yield from read_server()
    refuse_cluster(server)
    if not config.allow_eviction:
        refuse_eviction(server)
    if not quietly:
        for finding in judge(server, durability=config.durability):
            _log.log(
                _LEVELS[finding.level],
                "%s%s",
                finding.what,
                f"; {finding.advice}" if finding.advice else "",
            )
        yield from _log_nestings(namespace)


def _log_nestings(namespace: Namespace) -> Operation[None]:
    with suppress(NotPermitted):  # this Redis user may have no rights on other queues
        for finding in map(judge_nesting, (yield from read_nestings(namespace))):
            _log.warning("%s; %s", finding.what, finding.advice)
