"""Importing this takes one safeguard out of the build; `WITHOUT` in the environment says which."""

from __future__ import annotations

import os
from typing import Any

from assistant_queue.backends.responses.backend import ResponsesBackend
from assistant_queue.channels import Telegram
from assistant_queue.config import Config
from assistant_queue.core.runs import NotFound, RunRequest
from assistant_queue.store import scripts
from assistant_queue.worker.asyncio_worker import AsyncioWorker
from assistant_queue.worker.leased_batch import LeasedBatch

_HOLDS = "return t.token ~= nil and t.token == arg.token"
_CLAIMS_AGAIN = "if holds(t) then return claimed("
_FREEZES = "\nif not t.batch then\n"
_FORGETS = """
if t.batch then
  while redis.call('LLEN', key.frozen) > 0 do redis.call('RPOPLPUSH', key.frozen, key.pending) end
  t.head, t.n, t.batch = t.head - t.bn, t.n + t.bn, nil
end
"""


def _rewrite(changes: dict[str, tuple[str, str]]) -> None:
    source = scripts._source

    def changed(name: str) -> str:
        text = source(name)
        if name in changes:
            old, new = changes[name]
            assert text.count(old) == 1, f"{name}.lua has changed: {old!r} is not there"
            text = text.replace(old, new)
        return text

    scripts._source = changed  # type: ignore[assignment]
    scripts.load.cache_clear()


async def _always_sure(_self: Any) -> None:
    """The lease is never renewed before a call."""


def _exit_at_once(_self: Any) -> None:
    """Leave runs in the air when the worker has had its jobs."""
    os._exit(0)


async def _not_found(_self: Any, request: RunRequest, *_: Any) -> NotFound:
    return NotFound(anchor=request.anchor)


def _break(without: str) -> None:
    if without == "lease":
        LeasedBatch.ensure_lease = _always_sure  # type: ignore[method-assign]
        _rewrite(
            {
                "_common": (_HOLDS, "return true"),
                "claim": (_CLAIMS_AGAIN, "if t.token == arg.token then return claimed("),
            }
        )
    elif without == "freeze":
        _rewrite({"claim": (_FREEZES, _FORGETS + _FREEZES)})
    elif without == "drain":
        AsyncioWorker.stop = _exit_at_once  # type: ignore[method-assign]
        _break("freeze")
    elif without == "grace":
        Config.grace = property(lambda _self: 0.0)  # type: ignore[assignment,method-assign]
    elif without == "doubt":  # a part without an answer is sent again
        Telegram.deduplicates = True
    elif without == "outbox":
        _rewrite({"finish": ("queue_reply(t, t.batch, 'reply')\n", "")})
    elif without == "asking":  # the provider has nothing, whatever it is asked about
        ResponsesBackend.find = _not_found  # type: ignore[assignment,method-assign]
    else:
        assert without == "", without


_break(os.environ.get("WITHOUT", ""))
