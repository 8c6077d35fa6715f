"""Garbage collection of worker and service processes."""

from __future__ import annotations

import gc

from assistant_queue import garbage


def test_what_is_there_for_good_is_left_alone_by_the_collector() -> None:
    before = gc.get_threshold()
    try:
        garbage.keep_pauses_short()
        assert gc.get_freeze_count() > 0
        assert gc.get_threshold() == garbage.THRESHOLD
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)
