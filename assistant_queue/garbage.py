"""Garbage collection of processes that serve many at once."""

from __future__ import annotations

import gc

THRESHOLD = (10_000, 20, 50)
"""Objects before a collection, and collections before one of an older generation. Chosen: a
thousand streams are opened, or a hundred batches answered, in between."""


def keep_pauses_short() -> None:
    """Exclude the objects that exist after startup from garbage collection.

    A full collection of them takes fifty milliseconds or more, during which nothing is answered.
    For processes of this package alone: it concerns the whole process.
    """
    gc.freeze()
    gc.set_threshold(*THRESHOLD)
