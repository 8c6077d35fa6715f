"""CPU time that the audit takes of a worker, for each batch: `python -m tests.benchmarks.audit_cost`.

Two messages, one attempt, a reply of 200 characters; CPU time of this process alone, not of the
database's.
"""

from __future__ import annotations

import gc
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeVar

from assistant_queue.accounting import AttemptInfo, Timeline, Usage
from assistant_queue.auditing import AuditRecord
from assistant_queue.core.account import answering
from assistant_queue.integrations.audit import SqlAudit
from assistant_queue.models import Batch, Message, RunResult
from assistant_queue.store import audit_codec
from assistant_queue.store.calls import AuditRules
from assistant_queue.store.reply_codec import pack_reply
from tests.audit.conftest import POSTGRES, PostgresServer

T = TypeVar("T")

BATCHES = 5000
PAGE = 250
NOW = datetime.now(UTC)


def result_of(number: int) -> RunResult:
    """Return a usual result."""
    messages = tuple(
        Message(id=f"m{number}-{part}", content="My lamp is broken", author="Ann", queued_at=NOW)
        for part in range(2)
    )
    attempt = AttemptInfo(
        number=1,
        started_at=NOW,
        ended_at=NOW,
        worker="host:123",
        run_id=f"resp_{number}",
        error=None,
    )
    reply = "Which lamp do you mean? " * 8
    result = RunResult(
        thread_id=f"t{number % 100}",
        run_id=f"resp_{number}",
        batch_id=f"{number:024x}",
        message_ids=tuple(one.id for one in messages),
        messages_processed=2,
        status="completed",
        incomplete_reason=None,
        reply=reply,
        replies=(reply,),
        usage=Usage(
            input_tokens=10, output_tokens=20, total_tokens=30, rounds=1, model="gpt-5-mini"
        ),
        attempts=1,
        started_at=NOW,
        ended_at=NOW,
        model="gpt-5-mini",
        timeline=Timeline(queued_at=NOW, due_at=NOW, sent_at=NOW, attempts=(attempt,)),
    )
    batch = Batch(id=result.batch_id, thread_id=result.thread_id, messages=messages)
    return answering(result, batch)


def measured(what: str, act: Callable[[], object]) -> None:
    """Print the CPU time for each batch."""
    gc.freeze()  # what this process holds is not on a worker's heap
    began = time.process_time()
    act()
    each_us = (time.process_time() - began) / BATCHES * 1e6
    sys.stdout.write(f"{what:<40}{each_us:>7.1f} us\n")


def pages_of(found: Sequence[T]) -> Iterator[Sequence[T]]:
    """Return what the writer takes at a time."""
    return (found[start : start + PAGE] for start in range(0, BATCHES, PAGE))


def read(entries: Sequence[str]) -> list[AuditRecord]:
    """Return entries as records."""
    found = [audit_codec.unpack_entry("q", entry) for entry in entries]
    return [one for one in found if isinstance(one, AuditRecord)]


def write(url: str, records: list[AuditRecord]) -> None:
    """Write all records, some at a time."""
    sink = SqlAudit(url)
    sink.upgrade()
    sink.take_over("q", "w")
    measured(
        f"written to {url.partition(':')[0]}",
        lambda: [sink.write("q", "w", one, 0) for one in pages_of(records)],
    )
    sink.close()


def main() -> None:
    """Print the table."""
    rules = AuditRules(most=BATCHES)
    results = [result_of(number) for number in range(BATCHES)]
    packed = [pack_reply(one) for one in results]
    measured(
        "spooled with the reply to deliver",
        lambda: [
            audit_codec.pack_batch(rules, one, (), packed=text)
            for one, text in zip(results, packed, strict=True)
        ],
    )
    measured(
        "spooled without one",
        lambda: [audit_codec.pack_batch(rules, one, ()) for one in results],
    )
    entries = [
        f'{one.batch_id} 1 {len(one.thread_id)} {one.thread_id}{text[:-1]},"z":{{"o":"completed"}}}}'
        for one, text in zip(results, packed, strict=True)
    ]
    measured("read from the spool", lambda: [len(read(page)) for page in pages_of(entries)])
    records = read(entries)
    with tempfile.TemporaryDirectory(prefix="audit-postgres-") as directory:
        write(f"sqlite:///{directory}/audit.db", records)
        if POSTGRES is not None:
            server = PostgresServer(Path(directory))
            server.create()
            server.start()
            write(server.url, records)
            server.kill()


if __name__ == "__main__":
    main()
