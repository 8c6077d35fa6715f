"""A worker's first words with its Redis: is this my queue, and what could it lose?"""

from __future__ import annotations

import logging
from contextlib import suppress

from assistant_queue.config import Config
from assistant_queue.errors import NotPermitted
from assistant_queue.store import control
from assistant_queue.store.calls import Operation, Space
from assistant_queue.store.examining import judge, judge_nesting, read_server, refuse_cluster, refuse_eviction
from assistant_queue.store.layout import read_nestings, settle

_log = logging.getLogger(__name__)
_LEVELS = {"ok": logging.DEBUG, "note": logging.INFO, "warn": logging.INFO, "bad": logging.ERROR}
"""A Redis without a file is usual where people develop: `assistant-queue worker` tells it, a script that starts a worker need not."""


def check_in(space: Space, config: Config, *, quietly: bool = False) -> Operation[None]:
    """Look before anything is taken; say in the log what a crash of this Redis could cost, unless `quietly`.

    Raises:
        FormatTooNew: A newer version has written under the prefix. Nothing was changed.
        ConfigurationMismatch: This worker is configured for something else than its producers. Nothing was changed.
        ConfigurationError: Redis is a cluster, or may throw messages away (`allow_eviction` is not set).
    """
    yield from settle(space)
    yield from control.check_in(space, None if config.allow_mismatch else config.fingerprint)
    server = yield from read_server()
    refuse_cluster(server)
    if not config.allow_eviction:
        refuse_eviction(server)
    if not quietly:
        for finding in judge(server, durability=config.durability):
            _log.log(_LEVELS[finding.level], "%s%s", finding.what, f"; {finding.advice}" if finding.advice else "")
        yield from _say_nestings(space)


def _say_nestings(space: Space) -> Operation[None]:
    with suppress(NotPermitted):  # other queues may be out of this user's rights
        for finding in map(judge_nesting, (yield from read_nestings(space))):
            _log.warning("%s; %s", finding.what, finding.advice)
