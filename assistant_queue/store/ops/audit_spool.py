"""Operations on the audit's spool: rules, taking, and what waits there."""

from __future__ import annotations

from collections.abc import Sequence

from assistant_queue.config import Config, to_ms
from assistant_queue.store.calls import (
    AuditRules,
    Namespace,
    Operation,
    plain,
    text,
    texts,
    whole_number,
)
from assistant_queue.values import valueclass

PAGE = 500
"""Entries that are taken at once. Chosen: a transaction of a tenth of a second."""
PAGE_CHARS = 4_000_000
"""Characters of these entries; one that is longer comes alone. Chosen: bounds the memory."""


def audit_rules(config: Config) -> AuditRules:
    """Return what the option `audit` keeps."""
    if config.audit is None:
        return AuditRules()
    return AuditRules(most=config.audit.spool, max_chars=config.audit.max_chars)


@valueclass(frozen=True, slots=True, kw_only=True)
class SpoolPage:
    """The oldest entries of the spool.

    Attributes:
        first: The number of the first one.
        lost: Entries for which there was no room, ever.
        entries: The entries, as they are stored.
    """

    first: int
    lost: int
    entries: Sequence[str]


def drain(
    namespace: Namespace, token: str, *, written: int, lease_s: float, limit: int = PAGE
) -> Operation[SpoolPage | None]:
    """Take the oldest entries, and the lease with them; None if another worker holds it.

    `written` is the number of the first entry that is not in the database; those before it are
    removed. With a lease of 0 seconds it is given back.
    """
    reply = yield namespace.call(
        "drain_audit",
        token=token,
        written=written,
        limit=limit,
        chars=PAGE_CHARS,
        lease_ms=to_ms(lease_s),
    )
    word, *rest = reply
    if text(word) == "held":
        return None
    first, lost, *entries = texts(rest)
    return SpoolPage(first=whole_number(first), lost=whole_number(lost), entries=entries)


@valueclass(frozen=True, slots=True, kw_only=True)
class SpoolStatus:
    """Number of batches that wait for the audit's database, and of those that were lost, ever."""

    waiting: int
    lost: int


def read_spool(namespace: Namespace) -> Operation[SpoolStatus]:
    """Return the state of the spool."""
    waiting, lost = yield [
        plain("LLEN", namespace.keys.audit),
        plain("HGET", namespace.keys.auditing, "lost"),
    ]
    return SpoolStatus(
        waiting=whole_number(text(waiting)), lost=whole_number("" if lost is None else text(lost))
    )
