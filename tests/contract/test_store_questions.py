"""Questions of channels in the store: due from the park on, asked under a lease, shown as settled."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.core.settlements import SettlementKind
from assistant_queue.store.ops import control, questions
from assistant_queue.store.ops.questions import DueQuestion, HeldQuestion
from tests.contract.store_rig import Rig
from tests.contract.test_store_steering import assert_a_copy_changes_nothing, claimed

LEASE_S = 30.0


def asked_for(store: Rig, *ids: str, **fields: Any) -> None:
    assert store.park(claimed(store), *map(store.open_call, ids), new=len(ids), asks=True, **fields)


def due(store: Rig, **fields: Any) -> list[str]:
    return [one.call_id for one in store.due_questions(**fields)]


def held(store: Rig, call_id: str = "c1") -> HeldQuestion:
    found = store.claim_question(call_id)
    assert found is not None
    return found


def test_a_call_is_asked_about_from_the_script_that_parks_its_batch(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    assert due(store) == ["c1", "c2"]
    found = held(store)
    assert_a_copy_changes_nothing(store, "claim_question")
    assert (found.what, found.deaths, found.part_ids) == ("ask", 0, ())
    assert found.approval is not None
    assert (found.approval.question, found.approval.thread_id) == ("Refund 3?", "thread")
    assert found.approval.call_id == "c1"
    assert due(store) == ["c2"]
    assert store.note_asked(found, "-5/7:99")
    assert_a_copy_changes_nothing(store, "asked")
    assert due(store) == ["c2"]
    # The batch parks again: it is not asked again.
    assert store.settle("c2")
    assert due(store) == []
    assert store.park(store.claim(), store.open_call("c1"), asks=True)
    assert due(store) == []
    store.check()


def test_only_calls_that_need_an_approval_are_asked_about_and_only_on_a_channel(store: Rig) -> None:
    lease = claimed(store)
    assert store.park(lease, store.open_call("c1"))
    assert due(store) == []
    assert store.settle("c1")
    calls = [store.open_call("c1"), store.open_call("c2", kind="answer")]
    assert store.park(store.claim(), *calls, asks=True)
    assert due(store) == []


def test_what_was_settled_before_is_not_asked(store: Rig) -> None:
    asked_for(store, "c1", "c2", "c3")
    late = store.due_questions()
    assert store.settle("c1")
    assert due(store) == ["c2", "c3"]
    assert store.take_question(late[0]) is None
    # One that an earlier version settled is still in the set.
    store.client.zadd(store.keys.questions, {"c1": store.clock.ms})
    assert store.take_question(replace(late[0], at=str(store.clock.ms))) is None
    store.close_calls(store.claim(), "c1", "c2", "c3")
    assert due(store) == []
    assert store.take_question(late[1]) is None
    store.check()


def test_one_worker_at_a_time_asks_and_the_next_after_its_lease(store: Rig) -> None:
    asked_for(store, "c1")
    (found,) = store.due_questions()
    first = store.take_question(found)
    assert first is not None
    assert store.take_question(found) is None, "the check has moved on"
    store.clock.advance(LEASE_S - 1)
    assert due(store) == []
    store.clock.advance(1)
    second = held(store)
    assert (second.what, second.deaths) == ("ask", 1)
    # What the first one has sent is noted; the call is asked about by the other, too.
    assert not store.note_asked(first, "1:1")
    assert not store.release_question(first, 0)
    assert due(store) == []
    assert store.note_asked(second, "1:2")
    assert store.settle("c1", by="eve")
    shown = held(store)
    assert (shown.what, shown.part_ids) == ("show", ("1:1", "1:2"))
    assert shown.settlement is not None
    assert (shown.settlement.kind, shown.settlement.by) == (SettlementKind.APPROVED, "eve")
    assert shown.approval is not None
    assert store.release_question(shown, None)
    assert_a_copy_changes_nothing(store, "release_question")
    assert due(store) == []
    assert store.client.zcard(store.keys.questions) == 0


def test_a_question_that_was_noted_by_a_late_worker_is_not_asked_again(store: Rig) -> None:
    asked_for(store, "c1")
    first = held(store)
    store.clock.advance(LEASE_S)
    held(store)
    store.note_asked(first, "1:1")
    store.clock.advance(LEASE_S)  # the other one has died
    assert store.claim_question("c1") is None
    assert store.client.zcard(store.keys.questions) == 0
    assert store.settle("c1")
    assert held(store).part_ids == ("1:1",)


def test_a_call_that_is_settled_while_it_is_asked_about_shows_that(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    first, second = held(store), held(store, "c2")
    assert store.settle("c1", SettlementKind.DENIED, by="jo")
    assert store.settle("c2")
    assert due(store) == [], "another worker must not ask meanwhile"
    assert store.note_asked(first, "1:1")
    assert due(store) == ["c1"]
    assert held(store).what == "show"
    # One that was not sent is not asked again.
    assert store.release_question(second, 0, tries=1)
    assert due(store) == ["c2"]
    assert store.claim_question("c2") is None
    store.check()


def test_a_worker_that_is_late_shows_its_own_message_after_the_verdict(store: Rig) -> None:
    asked_for(store, "c1")
    first = held(store)
    store.clock.advance(LEASE_S)
    second = held(store)
    store.note_asked(second, "1:2")
    store.settle("c1")
    shown = held(store)
    store.note_asked(first, "1:1")  # while the verdict is shown
    assert store.release_question(shown, None)
    again = held(store)
    assert again.part_ids == ("1:2", "1:1")
    assert store.release_question(again, None)
    store.note_asked(first, "1:1")
    assert due(store) == []


def test_a_failure_puts_it_off_and_a_release_is_no_death(store: Rig) -> None:
    asked_for(store, "c1")
    store.clock.advance(3)
    found = held(store)
    assert found.waited_s == 3
    assert store.release_question(found, 7, tries=1)
    assert_a_copy_changes_nothing(store, "release_question")
    look = store.run(questions.find_due(store.namespace))
    assert (look.due, look.next_due_in_s) == ((), 7)
    store.clock.advance(7)
    again = held(store)
    assert (again.tries, again.deaths) == (1, 0)
    assert store.release_question(again, None), "it is given up"
    assert due(store) == []
    assert store.settle("c1")
    assert due(store) == []
    assert not {"tries", "asker_deaths", "sent"} & store.hash(store.keys.call("c1")).keys()


def test_the_verdict_is_shown_after_the_texts_are_removed(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    for one in ("c1", "c2"):
        store.note_asked(held(store, one), None if one == "c2" else "a b")
    assert store.settle("c1")
    assert store.pop() == "thread"
    lease = store.claim()
    store.close_calls(lease, "c1", "c2")
    assert sorted(due(store)) == ["c1", "c2"]
    first, second = held(store), held(store, "c2")
    assert (first.what, first.part_ids, first.approval, first.settlement) == (
        "show",
        ("a b",),
        None,
        None,
    )
    assert (second.what, second.part_ids) == ("show", ())
    for one in (first, second):
        assert store.release_question(one, None)
    store.finish(lease)
    store.check()
    store.check_idle()


def test_forgetting_a_thread_takes_its_questions(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    found = held(store)
    store.note_asked(held(store, "c2"), "1:2")
    store.run(control.forget(store.namespace, "thread"))
    assert not store.note_asked(found, "1:1")
    assert not store.release_question(found, 0)
    assert not store.client.exists(store.keys.questions, *map(store.keys.call, ("c1", "c2")))
    store.check()


def test_a_question_of_a_record_that_is_gone_is_dropped(store: Rig) -> None:
    asked_for(store, "c1")
    store.client.delete(store.keys.call("c1"))
    assert store.claim_question("c1") is None
    assert store.client.zcard(store.keys.questions) == 0


def test_a_wake_up_is_enqueued_for_a_question_that_no_process_asks(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    wake = lambda: store.run(questions.wake_questions(store.namespace))  # noqa: E731
    assert wake() == 0
    store.clock.advance(1)
    assert wake() == 2
    assert [store.pop(), store.pop()] == ["thread", "thread"]
    assert wake() == 0
    assert due(store) == ["c1", "c2"]
    store.clock.advance(60)
    held(store)
    assert wake() == 1
    assert_a_copy_changes_nothing(store, "wake_question")
    assert store.pop() == "thread"
    store.client.delete(store.keys.call("c2"))
    store.clock.advance(1)
    assert wake() == 0
    assert store.refused() == "early"


def test_a_clock_that_is_set_back_does_not_keep_a_question(store: Rig) -> None:
    asked_for(store, "c1", "c2")
    assert store.release_question(held(store), 7, tries=1)
    store.clock.ms -= 3_600_000
    store.run(questions.rewind_questions(store.namespace, 3_600_000))
    assert due(store) == ["c2"]
    store.clock.advance(7)
    assert due(store) == ["c2", "c1"]


def test_foreign_keys_in_place_of_questions_are_moved_aside(store: Rig) -> None:
    store.client.set(store.keys.questions, "mine")
    assert due(store) == []
    asked_for(store, "c1")
    assert due(store) == ["c1"]
    store.client.delete(store.keys.call("c1"))
    store.client.set(store.keys.call("c1"), "mine")
    assert store.take_question(DueQuestion(call_id="c1", thread_id="", at="0")) is None
    assert store.claim_question("c1") is None


@pytest.mark.parametrize(
    "junk", [{"ask": "junk"}, {"verdict": "junk", "settled": "1", "sent": "x"}]
)
def test_a_record_that_another_program_changed_has_no_texts(
    store: Rig, junk: dict[str, str]
) -> None:
    asked_for(store, "c1")
    key = store.keys.call("c1")
    store.client.hdel(key, "ask", "a1", "a2", "a3", "a4", "a5", "a6", "a7")
    store.client.hset(key, mapping=junk)
    found = held(store)
    assert (found.approval, found.settlement) == (None, None)
