"""The search of the audit, on a real SQLite and a real PostgreSQL."""

from __future__ import annotations

from datetime import timedelta

from assistant_queue.auditing import AuditMessage
from assistant_queue.integrations.audit import SqlAudit
from tests.audit.test_sink import NOW, record, write


def test_everything_that_ended_is_found_by_ids_authors_and_texts(audit: SqlAudit) -> None:
    assert audit.search("q", "lamp", 10) == []
    audit.take_over("q", "w1")
    older = record("b1", "t1", run_id="resp_1")
    newer = record(
        "b2",
        "t2",
        messages=(
            AuditMessage(message_id="m2", text="100 % wool_carpet", author="Zoe Quist"),
            AuditMessage(message_id="m3", text="and a LAMP"),
        ),
        reply=None,
        ended_at=NOW + timedelta(minutes=1),
    )
    foreign = record("b9", "t1", queue="other")
    said = record("b3", "t3", reply="We are open", answered_by="Ida Holm", messages=())
    write(audit, older, newer, said)
    audit.take_over("other", "w1")
    audit.write("other", "w1", [foreign], 0)

    def found(needle: str, limit: int = 10) -> list[tuple[str, str, str | None]]:
        hits = audit.search("q", needle, limit)
        return [(one.kind, one.batch_id, one.message_id) for one in hits]

    assert found("b1") == [("batch", "b1", None)]
    assert found("resp_1") == [("run", "b1", None)]
    assert found("t2") == [("thread", "b2", None)]
    assert found("m3") == [("message", "b2", "m3")]
    assert found("zoe") == [("author", "b2", "m2")]
    assert found("which") == [("reply", "b1", None)]
    assert found("lamp") == [("text", "b2", "m3"), ("text", "b1", "m-b1"), ("reply", "b1", None)]
    assert found("ida") == found("we are open") == [("reply", "b3", None)]
    assert found("lamp", 1) == [("text", "b2", "m3")]
    assert found("l_carpet") == [("text", "b2", "m2")]
    assert found("0 %") == [("text", "b2", "m2")]
    assert found("_a") == [], "what stands for any character elsewhere stands for itself"
    (hit,) = audit.search("q", "b1", 10)
    assert (hit.thread_id, hit.run_id, hit.ended_at) == (
        "t1",
        "resp_1",
        NOW.replace(microsecond=hit.ended_at.microsecond),
    )
