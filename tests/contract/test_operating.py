"""The operations page's part of Redis: samples, the record, paused threads, pages, search."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from assistant_queue.client.operation_records import recorded
from assistant_queue.core.metric_samples import Sample, load_sample, sample_of, spans_of
from assistant_queue.errors import BatchNotFound, NotPermitted, StoreError, StoreUnavailable
from assistant_queue.metrics import Metrics
from assistant_queue.models import QueueStatus
from assistant_queue.store.calls import Operation
from assistant_queue.store.ops import (
    control,
    metric_history,
    operation_log,
    paused_threads,
    takeovers,
)
from assistant_queue.store.ops.browsing import browse_failed, browse_threads, count_failed
from assistant_queue.store.ops.event_log import ALL_THREADS, listen
from assistant_queue.store.ops.operation_log import MOST, OperationRecord
from assistant_queue.store.ops.searching import search
from assistant_queue.store.ops.sweeping import sweep
from tests.contract.store_rig import ERROR, Rig, noting

NOW = datetime(2026, 3, 2, 12, 0, 5, tzinfo=UTC)


def record(thread: str | None = "thread", **fields: object) -> OperationRecord:
    return OperationRecord(
        **{"at": NOW, "by": "Ann", "operation": "pause", "thread_id": thread, **fields}
    )


def metrics(minute: int, answered: int, **more: object) -> Metrics:
    status = QueueStatus(
        active_count=1, waiting_count=2, delayed_count=3, completed_count=answered, failed_count=0
    )
    return Metrics(
        at=NOW + timedelta(minutes=minute),
        status=status,
        messages={"queued": answered + 5, "answered": answered},
        **more,
    )


def spans(store: Rig, now: Metrics, minutes: int = 60, steps: int = 60) -> list[tuple[float, int]]:
    found = store.run(
        metric_history.read_spans(
            store.namespace,
            now,
            now_ms=round(now.at.timestamp() * 1000),
            minutes=minutes,
            steps=steps,
        )
    )
    return [((one.ended_at - NOW).total_seconds() / 60, one.messages["answered"]) for one in found]


def test_a_minute_has_one_sample_whichever_process_takes_it(store: Rig) -> None:
    for minute, answered in ((0, 10), (0, 99), (1, 30), (2, 35)):
        store.run(metric_history.keep(store.namespace, metrics(minute, answered)))
    assert store.client.xlen(store.keys.history) == 3
    assert spans(store, metrics(3, 36)) == [(1, 20), (2, 5), (3, 1)]
    # A sample that is missing is part of the next span; a page that is opened late sees the rest.
    store.client.xdel(store.keys.history, store.client.xrange(store.keys.history)[1][0])
    assert spans(store, metrics(3, 36)) == [(2, 25), (3, 1)]
    assert spans(store, metrics(200, 40)) == []
    assert spans(store, metrics(12, 40), minutes=60, steps=12) == [(12, 5)]
    store.client.set(store.keys.format, 1)


def test_a_history_of_another_type_is_moved_aside(store: Rig) -> None:
    store.client.set(store.keys.history, "mine")
    assert spans(store, metrics(0, 1)) == []
    for minute in (0, 1):
        store.run(metric_history.keep(store.namespace, metrics(minute, minute)))
    (shelved,) = store.client.zrange(store.keys.quarantine, 0, -1)
    assert store.client.get(shelved) == b"mine"
    assert store.client.xlen(store.keys.history) == 1
    store.client.xadd(store.keys.history, {"m": "no sample"}, id=f"{2**42}-1")
    store.run(metric_history.keep_sample(store.namespace))
    store.client.delete(store.keys.history, store.keys.quarantine, shelved)


def test_a_sample_has_errors_tokens_and_durations_and_bounds_its_size() -> None:
    errors = {f"e{number}": 100 - number for number in range(30)}
    first = sample_of(metrics(0, 10, errors={"e0": 1, "gone": 4}))
    second = sample_of(metrics(1, 25, errors=errors, oldest_due_s=3.04))
    (span,) = spans_of([first, second])
    assert span.errors["e0"] == 99
    assert span.errors["other"] == sum(100 - number for number in range(20, 30))
    assert len(span.errors) == 21
    assert (span.messages["answered"], span.oldest_due_s, span.status["delayed"]) == (15, 3.0, 3)
    # Counts that begin anew are no negative rates; what another program wrote is left out.
    (again,) = spans_of([second, sample_of(metrics(2, 3))])
    assert again.messages["answered"] == 0
    odd = [Sample(1, {"at": 1, "m": ["x"], "e": {"a": None}, "h": 3}), second, second]
    assert len(spans_of(odd)) == 1
    assert [load_sample(text) for text in ("", "[]", "{}", '{"at":"x"}', "3")] == [None] * 5


def keep(store: Rig, one: OperationRecord) -> str:
    return store.run(operation_log.begin(store.namespace, one))


def kept(store: Rig) -> list[OperationRecord]:
    return store.run(operation_log.read(store.namespace, 10))


@pytest.mark.parametrize("count", [None, 0, 1, 2])
def test_a_record_has_the_number_of_batches(store: Rig, count: int | None) -> None:
    one = record(count=count)
    keep(store, one)
    assert [found.count for found in kept(store)] == [count]


HOSTILE = (
    "no record",
    "[1]",
    '{"at": "x", "op": 1}',
    '{"at": 1e400, "op": "x"}',
    '{"at": 1, "op": "x", "d": []}',
    '{"at": 1, "op": "x", "n": [1]}',
    "[" * 100_000,
    b"\xff\xfe{",
)
ODD = '{"at": 1, "op": {"a": 1}, "by": ["x"], "t": 7, "done": "no", "n": "3", "d": {"a": null}}'


def test_operations_are_kept_newest_first_up_to_a_bound(store: Rig) -> None:
    for number in range(3):
        one = record(f"t{number}", count=number or None, done=number != 1, detail={"reasons": "x"})
        keep(store, one)
    found = kept(store)
    assert [one.thread_id for one in found] == ["t2", "t1", "t0"]
    assert found[0] == record("t2", count=2, detail={"reasons": "x"})
    assert not found[1].done
    assert len(store.run(operation_log.read(store.namespace, 1))) == 1
    store.client.rpush(store.keys.operations, *["x"] * MOST)
    keep(store, record(None))
    assert store.client.llen(store.keys.operations) == MOST


def test_an_operation_is_recorded_as_it_begins_and_as_it_has_ended(store: Rig) -> None:
    begun = record(done=False, ended=False)
    entry = keep(store, begun)
    second = keep(store, begun)
    assert kept(store) == [begun, begun]
    for _ in range(2):  # a reply that is lost has the call repeated
        store.run(operation_log.end(store.namespace, entry, record(error="thread_locked")))
        assert kept(store) == [begun, record(error="thread_locked")]
    # The thread is forgotten while an operation on it is under way.
    store.run(operation_log.erase(store.namespace, "thread"))
    store.run(operation_log.end(store.namespace, second, record()))
    assert kept(store) == []


def test_an_operation_that_cannot_be_recorded_is_not_performed_and_one_that_dies_is_known(
    store: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    core = SimpleNamespace(store=store.store, namespace=store.namespace)

    def down(error: StoreError) -> SimpleNamespace:
        def run(operation: Operation[None]) -> None:
            operation.close()
            raise error

        return SimpleNamespace(store=SimpleNamespace(run=run), namespace=store.namespace)

    with recorded(core, "Ann" * 100, "pause", "t", {"reasons": "x" * 300}):
        (under_way,) = kept(store)
        assert (under_way.ended, under_way.done) == (False, False)
    (one,) = kept(store)
    assert (one.ended, one.done, len(one.by or ""), len(one.detail["reasons"])) == (
        *(True, True),
        *(200, 200),
    )
    with pytest.raises(BatchNotFound), recorded(core, "Ann", "retry_failed"):
        raise BatchNotFound("x")
    with pytest.raises(KeyboardInterrupt), recorded(core, "Ann", "stop", "t"):
        raise KeyboardInterrupt
    with recorded(core, "Ann", "flush", "t") as outcome:
        outcome.done = False
        outcome.count = 3
    flushed, stopped, retried, _ = kept(store)
    assert (flushed.done, flushed.count, flushed.ended) == (False, 3, True)
    assert (stopped.ended, stopped.error) == (False, None)
    assert (retried.done, retried.error, retried.ended) == (False, "batch_not_found", True)
    performed = []
    with pytest.raises(StoreUnavailable), recorded(down(StoreUnavailable("x")), "Ann", "pause"):
        performed.append("without a record")
    with recorded(down(NotPermitted("x")), "Ann", "pause"):
        performed.append("permitted")
    assert performed == ["permitted"]
    assert "operation pause was not recorded" in caplog.text
    assert len(kept(store)) == 4


def test_a_record_of_another_type_is_moved_aside_and_foreign_entries_are_left_out(
    store: Rig,
) -> None:
    store.client.set(store.keys.operations, "mine")
    assert kept(store) == []
    store.run(operation_log.erase(store.namespace, "thread"))
    keep(store, record())
    assert kept(store) == [record()]
    (shelved,) = store.client.zrange(store.keys.quarantine, 0, -1)
    assert store.client.get(shelved) == b"mine"
    store.client.lpush(store.keys.operations, *HOSTILE, ODD)
    odd, own = kept(store)
    assert own == record()
    assert (odd.by, odd.thread_id, odd.operation, odd.count) == ("['x']", "7", "{'a': 1}", 3)
    store.run(operation_log.erase(store.namespace, "thread"))
    assert len(kept(store)) == 1


def test_a_thread_that_is_forgotten_is_in_no_list(store: Rig) -> None:
    for name in ("thread", "other"):
        store.add(name, delay_s=60)
        store.run(control.pause_thread(store.namespace, name))
        keep(store, record(name))
    store.run(control.forget(store.namespace, "thread"))
    assert [one.thread_id for one in kept(store)] == ["other"]
    assert store.run(paused_threads.read(store.namespace, 0, 10)) == ["other"]


def test_paused_threads_are_listed_even_if_the_list_was_another_programs(store: Rig) -> None:
    store.client.set(store.keys.pausing, "mine")
    store.add("a", delay_s=60)
    assert store.run(browse_threads(store.namespace, "paused", 10)).threads == ()
    store.run(control.pause_thread(store.namespace, "a"))
    seen = store.run(browse_threads(store.namespace, "paused", 10))
    assert [one.thread_id for one in seen.threads] == ["a"]
    # A hint that is out of date is not believed.
    store.client.zadd(store.keys.pausing, {"never": 1})
    seen = store.run(browse_threads(store.namespace, "paused", 10))
    assert [one.thread_id for one in seen.threads] == ["a"]
    store.client.delete(store.keys.pausing, store.keys.quarantine)


def test_threads_that_a_person_answers_are_listed_beside_paused_ones(store: Rig) -> None:
    def listed(state: str) -> list[str]:
        seen = store.run(browse_threads(store.namespace, state, 10))
        return [one.thread_id for one in seen.threads]

    for name in ("a", "b"):
        store.add(name, delay_s=60)
        taken = takeovers.take_over(store.namespace, name, "Jo", instead_of=None, stops=True)
        assert store.run(taken)
    store.run(control.pause_thread(store.namespace, "b"))
    assert (listed("taken_over"), listed("paused")) == (["a", "b"], ["b"])
    store.run(takeovers.hand_back(store.namespace, "b"))
    assert (listed("taken_over"), listed("paused")) == (["a"], ["b"])
    store.run(control.resume_thread(store.namespace, "b"))
    store.run(control.pause_thread(store.namespace, "a"))
    store.run(control.resume_thread(store.namespace, "a"))
    assert (listed("taken_over"), listed("paused")) == (["a"], [])
    store.run(takeovers.hand_back(store.namespace, "a"))
    assert not store.client.exists(store.keys.pausing)


def test_pages_of_threads_are_bounded_and_together_complete(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.store.ops.browsing.BUDGET", 4)
    monkeypatch.setattr("assistant_queue.store.ops.browsing.CHUNK", 2)
    for number in range(11):
        store.add(f"t{number:02}", delay_s=10 + number)
    store.add("active", delay_s=0)
    store.claim("active")
    for state, limit in ((None, 3), ("pending", 3), ("active", 3), ("held", 2), ("pending", 1)):
        found: list[str] = []
        after: int | None = 0
        pages = 0
        while after is not None:
            seen = store.run(browse_threads(store.namespace, state, limit, after))
            assert seen.read <= 5
            found += [one.thread_id for one in seen.threads]
            after = seen.next
            pages += 1
            assert pages < 30
        names = [f"t{number:02}" for number in range(11)]
        expected = {None: [*names, "active"], "pending": names, "active": ["active"], "held": []}
        assert found == expected[state], (state, limit)
    words: set[str] = set()
    store.run(noting(browse_threads(store.namespace, "held", 5), words))
    assert "LLEN" not in words, "no more than its state is read of a thread in another one"


def test_pages_of_failed_batches_are_bounded_and_together_complete(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.store.ops.browsing.CHUNK", 2)
    expected: list[str] = []
    for number in range(7):
        store.add(f"t{number}", delay_s=0)
        store.bury(store.claim(f"t{number}"), reason="parked" if number % 3 == 0 else "refused")
        expected.insert(0, f"t{number}")
    for reasons, limit in (((), 3), (("parked",), 2), (("corrupt",), 2)):
        found: list[str] = []
        after = None
        while True:
            operation = browse_failed(store.namespace, reasons, None, limit, after, budget=4)
            seen = store.run(operation)
            found += [one.thread_id for one in seen.failed]
            after = seen.next
            if after is None:
                break
        wanted = {"parked": ["t6", "t3", "t0"], "corrupt": []}
        assert found == (wanted[reasons[0]] if reasons else expected)
    counts = store.run(count_failed(store.namespace))
    assert (counts.by_reason, counts.total) == ({"refused": 4, "parked": 3}, 7)
    with pytest.raises(BatchNotFound):
        store.run(browse_failed(store.namespace, (), None, 2, "gone"))


def test_a_search_reads_what_it_says_and_scans_nothing(store: Rig) -> None:
    store.add("kitchen", None, 'Where is the \\ "sofa"?\nHere', delay_s=60)
    store.add("garden", None, "x", delay_s=0)
    lease = store.claim("garden")
    store.bury(lease)
    words: set[str] = set()
    found = store.run(noting(search(store.namespace, '"SOFA"?\nhere', 10), words))
    assert [(hit.kind, hit.thread_id) for hit in found.hits] == [("text", "kitchen")]
    assert '\\ "sofa"? Here' in str(found.hits[0].excerpt)
    assert (found.waiting, found.failed, found.events) == (1, 1, 0)
    cut = store.run(search(store.namespace, "e", 1))
    assert len(cut.hits) == 1
    assert cut.is_cut
    assert words == {"HMGET", "HGET", "EXISTS", "ZRANGE", "read_texts", "XREVRANGE"}
    store.run(sweep(store.namespace))


def test_a_search_finds_a_text_however_it_is_written_and_stored(store: Rig) -> None:
    store.run(listen(store.namespace, ALL_THREADS))
    texts = {
        "plain": "Where is the SOFA?",
        "folded": "Die Stra\N{LATIN SMALL LETTER SHARP S}e",
        "cased": "\N{CYRILLIC CAPITAL LETTER PE}\N{CYRILLIC SMALL LETTER ER}",
        "quoted": 'say "a/b\\c"\tnow',
    }
    for name, said in texts.items():
        store.add(f"waits {name}", None, said, delay_s=60)
        store.add(f"fails {name}", None, said, delay_s=0)
        store.bury(store.claim(f"fails {name}"))
    needles = {
        "plain": ["the sofa", "Sofa?"],
        "folded": ["STRASSE", "stra\N{LATIN SMALL LETTER SHARP S}e"],
        "cased": ["\N{CYRILLIC SMALL LETTER PE}\N{CYRILLIC CAPITAL LETTER ER}"],
        "quoted": ['"A/B', "b\\C", '"\tn'],
    }
    for without_events in (False, True):
        if without_events:
            store.client.delete(store.keys.feed)
        for name, wanted in needles.items():
            for needle in wanted:
                found = store.run(search(store.namespace, needle, 50))
                assert {hit.thread_id for hit in found.hits} == {f"waits {name}", f"fails {name}"}
                assert (found.waiting, found.failed) == (4, 4)
                sources = {(hit.kind, hit.source) for hit in found.hits}
                assert sources == {("text", "waiting"), ("text", "failed")}
    found = store.run(search(store.namespace, "RUN_1", 50))
    assert not found.hits
    found = store.run(search(store.namespace, "run_1", 50))
    assert {hit.kind for hit in found.hits} == {"run"}
    found = store.run(search(store.namespace, ERROR.message, 50))
    assert {hit.kind for hit in found.hits} == {"error"}


def test_a_search_reads_a_bounded_part_of_long_messages_and_of_foreign_keys(
    store: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("assistant_queue.store.ops.text_reading._CHARS", 10_000)
    monkeypatch.setattr("assistant_queue.store.ops.text_reading._AT_ONCE", 10)
    for number in range(30):
        store.add(f"t{number:02}", None, f"needle {'x' * 4000}", delay_s=60 + number)
    found = store.run(search(store.namespace, "needle", 50))
    assert found.waiting == 9, "three of each ten"
    assert len(found.hits) == 9
    store.client.delete(store.keys.pending("t00"), store.keys.thread("t01"))
    store.client.set(store.keys.pending("t00"), "needle")
    store.client.set(store.keys.thread("t01"), "needle")
    found = store.run(search(store.namespace, "needle", 50))
    assert {"t01", "t02"} <= {hit.thread_id for hit in found.hits}
    assert store.client.get(store.keys.pending("t00")) == b"needle", "a search repairs nothing"
