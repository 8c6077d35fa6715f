"""The first sending of a batch, as its claim stores it.

A batch is marked as sent before its request leaves. If no step comes between its claim and that
mark, the claim stores it: a round trip less. A worker that dies in between leaves a batch that may
have been sent, as one that dies after it does. If it was not, that does not count as an attempt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from operator import attrgetter
from typing import Any

from assistant_queue.core.flow.context import AuthorRule, Rules
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, FoundBy
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.core.thread_ids import ThreadIds, providers_id

_NOW_MS = 1_111_111_111_111
_DEADLINE_MS = 2_222_222_222_222
_ANCHOR = "the anchor"

_TIMES = frozenset({"sent_ms", "run_sent_ms", "deadline_ms", "tries"})
"""They differ by the time since the claim."""
_CHANGED = ("attempts", "located", "anchor")
_of_others = attrgetter(
    *(one.name for one in fields(Progress) if one.name not in _TIMES.union(_CHANGED))
)
_OTHERS = _of_others(Progress())


@dataclass(frozen=True, slots=True, kw_only=True)
class FirstSend:
    """Progress of a batch that is about to be sent for the first time.

    Attributes:
        template: As JSON, with `@now` and `@deadline` for the times and `@anchor` for the pair of
            the conversation's end. Other at signs are escaped.
        run_ms: From `@now` to `@deadline`.
        stateless: The provider keeps no conversation.
        conversations: A mapped thread must have one, or it is created first.
        anchored: Its end must be known, or the provider is asked first.
    """

    template: str
    run_ms: int
    thread_ids: ThreadIds
    stateless: bool
    conversations: bool
    anchored: bool

    def needs_of(self, thread_id: str) -> str:
        """Return what must be known of the thread: `i` for its conversation, `a` for its end."""
        is_mapped = self.conversations and providers_id(thread_id, self.thread_ids) is None
        return ("i" if is_mapped else "") + ("a" if self.anchored else "")

    def is_of(self, progress: Progress, anchor: str | None) -> bool:
        """Return whether the claim has stored this, apart from times and that it does not count."""
        expected = _sending(stateless=self.stateless, anchor=anchor)
        is_same = all(getattr(progress, name) == expected[name] for name in expected)
        return is_same and _of_others(progress) == _OTHERS


def first_send_of(capabilities: Capabilities, rules: Rules, worker: str) -> FirstSend | None:
    """Return what claims store; None if other steps come before a first sending."""
    if (
        rules.background
        or rules.instructions is True
        or rules.max_batch_chars is not None
        or rules.authors is not AuthorRule.SHARE
    ):
        return None
    progress = Progress(
        **_sending(stateless=capabilities.stateless, anchor=_ANCHOR),
        sent_ms=_NOW_MS,
        run_sent_ms=_NOW_MS,
        deadline_ms=_DEADLINE_MS,
        passing=True,
        waiting_since_ms=_NOW_MS,
        tries=(AttemptRow(number=1, started_ms=_NOW_MS, worker=worker),),
    )
    template = (
        progress.dump()
        .replace("@", "\\u0040")
        .replace(str(_NOW_MS), "@now")
        .replace(str(_DEADLINE_MS), "@deadline")
        .replace(f'"anchor":{json.dumps(_ANCHOR)},', "@anchor")
    )
    return FirstSend(
        template=template,
        run_ms=round(rules.run_timeout_s * 1000),
        thread_ids=rules.thread_ids,
        stateless=capabilities.stateless,
        conversations=capabilities.conversations and not capabilities.stateless,
        anchored=capabilities.found_by is FoundBy.ANCHOR and not capabilities.stateless,
    )


def _sending(*, stateless: bool, anchor: str | None) -> dict[str, Any]:
    """Return the values of `_CHANGED`."""
    return {"attempts": 1, "located": not stateless, "anchor": None if stateless else anchor}
