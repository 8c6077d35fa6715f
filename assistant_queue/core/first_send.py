"""The first sending of a batch, as its claim stores it.

A batch is marked as sent before its request leaves. If no step comes between its claim and that
mark, the claim stores it: a round trip less. A worker that dies in between leaves a batch that may
have been sent, as one that dies after it does. If it was not, that does not count as an attempt.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields

from assistant_queue.core.flow.context import AuthorRule, Rules
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, FoundBy
from assistant_queue.core.stored_rows import AttemptRow
from assistant_queue.core.thread_ids import ThreadIds, providers_id

_NOW_MS = 1_111_111_111_111
_DEADLINE_MS = 2_222_222_222_222
_ANCHOR = "the anchor"

_OF_THE_CLAIM = frozenset({"sent_ms", "run_sent_ms", "deadline_ms", "tries"})
"""Times, which differ by the time since the claim."""


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
        """Return what is read of the thread's conversation; "" if there is none.

        `i`: it must be known, `a`: its end must be known, `o`: that may be known.
        """
        if self.stateless:
            return ""
        is_mapped = self.conversations and providers_id(thread_id, self.thread_ids) is None
        return ("i" if is_mapped else "") + ("a" if self.anchored else "o")

    def is_of(self, progress: Progress, anchor: str | None) -> bool:
        """Return whether the claim has stored this progress, apart from its times.

        And apart from the note that it does not count.
        """
        expected = _sending(stateless=self.stateless, anchor=anchor)
        return all(getattr(progress, name) == getattr(expected, name) for name in _COMPARED)


def first_send_of(capabilities: Capabilities, rules: Rules, worker: str) -> FirstSend | None:
    """Return what claims store; None if other steps come before a first sending."""
    if (
        rules.background
        or rules.instructions is True
        or rules.max_batch_chars is not None
        or rules.authors is not AuthorRule.SHARE
    ):
        return None
    progress = _sending(stateless=capabilities.stateless, anchor=_ANCHOR)
    progress.sent_ms = progress.run_sent_ms = _NOW_MS
    progress.deadline_ms = _DEADLINE_MS
    progress.passing = True
    progress.waiting_since_ms = _NOW_MS
    progress.tries = (AttemptRow(number=1, started_ms=_NOW_MS, worker=worker),)
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
        conversations=capabilities.conversations,
        anchored=capabilities.found_by is FoundBy.ANCHOR,
    )


def _sending(*, stateless: bool, anchor: str | None) -> Progress:
    if stateless:
        return Progress(attempts=1)
    return Progress(attempts=1, located=True, anchor=anchor)


_COMPARED = tuple(one.name for one in fields(Progress) if one.name not in _OF_THE_CLAIM)
