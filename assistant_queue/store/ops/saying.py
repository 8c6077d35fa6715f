"""The operation that says a text in a thread, without a run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from assistant_queue.config import to_ms
from assistant_queue.core.compact_json import to_json
from assistant_queue.core.journal_entries import dump_said
from assistant_queue.core.progress import dump_result, moment
from assistant_queue.errors import NotReplicated
from assistant_queue.models import Message, Receipt, RunResult, SayKind
from assistant_queue.store.calls import Namespace, Operation, texts
from assistant_queue.store.message_codec import pack, pack_labels
from assistant_queue.store.ops.replication import REPLICA_WAIT_S, replicated
from assistant_queue.store.reply_codec import pack_reply

_TIMES = ("started_at", "ended_at")
_START = "b"
"""Names of the times in a stored result, and in a reply in the outbox. Source: lua/say.lua, which
writes them."""


def say(
    namespace: Namespace,
    thread_id: str,
    message: Message,
    *,
    batch_id: str,
    kind: SayKind,
    result_ttl_s: float,
    is_replicated: bool = False,
) -> Operation[Receipt]:
    """Put a text into a thread's outbox and its events: one round trip.

    A reply waits for its place in the provider's conversation, too.

    The ids of `message` and `batch_id` must be fresh, and never used again.

    Raises:
        NotReplicated: It had to reach a replica (`is_replicated`), and did not in time. It was
            said, and may be kept or not.
    """
    result = RunResult(
        thread_id=thread_id,
        run_id="",
        batch_id=batch_id,
        message_ids=(message.id,),
        messages_processed=0,
        status="completed",
        incomplete_reason=None,
        reply=message.text,
        replies=(message.text,),
        usage=None,
        attempts=0,
        started_at=moment(0),
        ended_at=moment(0),
    )
    call = namespace.call(
        "say",
        thread_id,
        keys={
            "message": namespace.keys.message(message.id),
            "record": namespace.keys.record(batch_id),
        },
        message_id=message.id,
        batch_id=batch_id,
        author=message.author or "",
        text=message.text,
        kind=kind,
        labels=pack_labels(message),
        entry=pack(message) if kind == "reply" else "",
        result=_untimed(dump_result(result)),
        # Its own message is none that it answers.
        reply=_untimed(json.loads(pack_reply(replace(result, messages=())))),
        result_ttl_ms=max(to_ms(result_ttl_s), 1),
        journal=(dump_said(batch_id, message.id, message.tenant) if namespace.journal.most else ""),
    )
    if is_replicated:
        (raw,), is_kept = yield from replicated(namespace, [call])
    else:
        raw = yield call
        is_kept = True
    reply = texts(raw)
    if not is_kept:
        raise NotReplicated(
            f"Redis accepted the text for thread {thread_id!r}, but no replica confirmed it within "
            f"{REPLICA_WAIT_S:g} s: it is shown, and may be lost in a failover; saying it again "
            "shows it twice",
            message_ids=(message.id,),
        )
    return Receipt(
        message_id=message.id,
        thread_id=thread_id,
        job_id=reply[2] or None,
        due_at=moment(int(reply[1])),
        duplicate=False,
    )


def _untimed(plain: dict[str, Any]) -> str:
    """Return a result as JSON without the times, which the script adds."""
    kept = {name: value for name, value in plain.items() if name not in {*_TIMES, _START}}
    return to_json(kept)
