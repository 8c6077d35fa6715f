"""Store operations for webhooks of the provider."""

from __future__ import annotations

import secrets

from assistant_queue.store.calls import Namespace, Operation, text

_EARLY_MS = 600_000
"""Life of the note that a run has ended, if no batch waits for it. Chosen: a worker parks a batch
within seconds after it has learned the run's id, another worker after the lease."""
_HEARD_MS = 300_000
"""Time for which webhooks are taken to work after one that woke a batch. Chosen: the longest time
between two polls of a run."""
_KNOWN_MS = 3_600_000
"""Time for which a webhook is recognised. Source: a signature is valid for five minutes; a webhook
that is signed anew later finds no batch that waits for its run."""


def run_ended(namespace: Namespace, run_id: str, webhook_id: str) -> Operation[bool]:
    """Make the batch due that waits for a run; return whether one did.

    A run that no batch waits for yet is remembered for the worker that is about to park it.
    """
    own = {"early": namespace.keys.early(run_id), "webhook": namespace.keys.webhook(webhook_id)}
    while True:
        word, *found = yield namespace.call("hear", keys=own, run_id=run_id, early_ms=_EARLY_MS)
        if text(word) != "waits":
            return False
        (word,) = yield namespace.call(
            "land",
            text(found[0]),
            keys=own,
            run_id=run_id,
            nonce=secrets.token_hex(8),
            known_ms=_KNOWN_MS,
            heard_ms=_HEARD_MS,
        )
        if text(word) != "gone":
            return text(word) == "woken"
