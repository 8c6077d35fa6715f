"""Threads that a person answers: what is said there answers what waits, and the model waits."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.errors import ThreadTakenOver
from assistant_queue.models import Message, MessageStatus
from assistant_queue.store.message_codec import pack, unpack
from assistant_queue.store.ops import control, event_log, explaining, thread_lists
from assistant_queue.store.ops.leases import MAX_BATCH, Lease
from tests.contract.store_rig import Rig


def say(store: Rig, message_id: str, words: str = "Jo here.") -> None:
    store.say(words=words, message_id=message_id, kind="reply")


def take(store: Rig) -> list[str]:
    """Take one batch and return its message ids; [] if there is nothing to take."""
    lease = store.try_claim()
    if not isinstance(lease, Lease):
        return []
    store.finish(lease)
    store.check()
    return [message.id for message in lease.claimed.batch.messages]


def status_of(store: Rig, message_id: str) -> MessageStatus:
    status = store.message(message_id)
    assert status is not None
    return status


def why(store: Rig, name: str = "thread") -> str:
    return str(store.run(explaining.explain(store.namespace, name)))


def listed(store: Rig, state: str) -> list[str]:
    rows = store.run(thread_lists.list_threads(store.namespace, state, 10, None, "oldest_due"))
    return [row.thread_id for row in rows]


def test_the_model_waits_and_the_person_answers_what_came_before(store: Rig) -> None:
    assert store.take_over("Jo")
    store.check()
    status = store.thread()
    assert (status.taken_over_by, status.paused) == ("Jo", False)
    assert status.taken_over_since is not None
    store.add(message_id="a", delay_s=0)
    store.add(message_id="b", delay_s=2)
    store.check()
    assert (store.refused(), store.wake(), store.queued()) == ("paused", 0, [])
    assert "a person, Jo, answers this thread since" in why(store, "a")
    say(store, "s")
    store.check()
    assert store.pop() == "thread"
    lease = store.claim()
    first, second, said = lease.claimed.batch.messages
    assert [first.id, second.id, said.id] == ["a", "b", "s"]
    assert [one.answered_by for one in (first, second, said)] == ["Jo", "Jo", None]
    assert not any(one.wants_reply for one in lease.claimed.batch.messages)
    store.finish(lease)
    store.check()
    assert (store.state(), store.thread().taken_over_by) == (ThreadState.IDLE, "Jo")
    store.lose_replies()
    assert "a person, Jo, answers this thread" in why(store)
    store.add(message_id="c", delay_s=0)
    store.check()
    assert take(store) == []
    assert store.hand_back()
    store.check()
    assert take(store) == ["c"]
    assert store.thread_hash() == {}


def test_each_of_several_answers_is_a_batch_in_order(store: Rig) -> None:
    store.take_over()
    for number in range(3):
        store.add(message_id=f"m{number}", delay_s=1)
        say(store, f"s{number}")
    store.add(message_id="late")
    store.check()
    assert [take(store) for _ in range(4)] == [["m0", "s0"], ["m1", "s1"], ["m2", "s2"], []]


def test_each_answer_is_of_the_person_that_gave_it_not_of_a_later_one(store: Rig) -> None:
    store.take_over("Jo")
    for number, (person, author) in enumerate((("Jo", None), ("Kim", "Lou"), ("Kim", None))):
        store.take_over(person, instead_of="Jo")
        store.add(message_id=f"m{number}")
        store.say(message_id=f"s{number}", kind="reply", author=author)
    store.check()
    found = []
    while isinstance(lease := store.try_claim(), Lease):
        found += [(one.id, one.answered_by) for one in lease.claimed.batch.messages[:1]]
        store.finish(lease)
        store.check()
    assert found == [("m0", "Jo"), ("m1", "Lou"), ("m2", "Kim")]


def test_what_was_answered_stays_so_when_it_is_handed_back_before_it_is_written(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    say(store, "s")
    store.add(message_id="b")
    store.hand_back()
    store.check()
    lease = store.claim()
    assert [(one.id, one.answered_by) for one in lease.claimed.batch.messages] == [
        ("a", "Jo"),
        ("s", None),
    ]
    store.finish(lease)
    lease = store.claim()
    assert [(one.id, one.wants_reply) for one in lease.claimed.batch.messages] == [("b", True)]


def test_an_edit_of_a_message_that_was_answered_does_not_ask_the_model(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    say(store, "s")
    assert store.run(control.edit(store.namespace, Message(id="a", content="another")))
    lease = store.claim()
    assert [(one.text, one.wants_reply) for one in lease.claimed.batch.messages] == [
        ("another", False),
        ("Jo here.", False),
    ]


def test_a_message_may_be_cancelled_before_what_answers_it(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    assert store.run(control.cancel(store.namespace, "a", 3600))
    store.check()
    assert store.thread().taken_over_by == "Jo"
    store.add(message_id="b")
    say(store, "s")
    assert store.run(control.cancel(store.namespace, "b", 3600))
    store.check()
    assert take(store) == ["s"]


def test_a_notice_answers_nothing(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a", delay_s=0)
    store.say(message_id="n", kind="notice")
    store.check()
    assert take(store) == []


def test_what_was_said_before_the_takeover_answers_nothing_by_itself(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    say(store, "before")
    store.take_over()
    store.check()
    assert take(store) == []
    say(store, "s")
    assert [take(store), take(store)] == [["a", "before"], ["s"]]


def test_a_batch_that_a_person_answers_keeps_its_marks_through_a_crash(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    say(store, "s")
    lease = store.claim()
    store.save(lease, mark=["a", "s"])
    store.add(message_id="b")
    store.clock.advance(60)
    store.check()
    assert store.wake() == 1, "a takeover keeps no batch from its end"
    again = store.claim()
    assert again.claimed.batch.messages == lease.claimed.batch.messages
    store.finish(again)
    assert take(store) == []


def test_a_retry_waits_its_time_and_is_taken(store: Rig) -> None:
    store.take_over()
    say(store, "s")
    store.postpone(store.claim(), wait_s=5)
    store.check()
    assert store.refused() == "early"
    store.clock.advance(5)
    assert take(store) == ["s"]


def test_a_reply_that_failed_is_written_again_in_a_thread_that_is_taken_over(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    say(store, "s")
    lease = store.claim()
    store.bury(lease)
    store.check()
    store.retry_failed(lease.claimed.batch.id)
    store.check()
    again = store.claim()
    assert again.claimed.batch.messages == lease.claimed.batch.messages


def test_a_batch_that_the_model_failed_waits_for_the_person(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    lease = store.claim()
    store.bury(lease)
    store.take_over()
    store.retry_failed(lease.claimed.batch.id)
    store.check()
    assert take(store) == []
    say(store, "s")
    assert take(store) == ["a", "s"]


def test_a_failed_batch_does_not_take_the_place_of_what_was_said(store: Rig) -> None:
    for number in range(3):
        store.add(message_id=f"failed-{number}", delay_s=0)
    failed = store.claim()
    store.take_over(stops=False)
    say(store, "s")
    store.add(message_id="later", delay_s=0)
    store.bury(failed)
    assert take(store) == ["s"]
    store.hand_back()
    store.retry_failed(failed.claimed.batch.id)
    store.check()
    lease = store.claim()
    messages = lease.claimed.batch.messages
    assert [one.id for one in messages] == ["failed-0", "failed-1", "failed-2", "later"]
    assert all(one.wants_reply for one in messages), "no person answered them"


def test_the_tail_of_what_does_not_fit_stays_answered(store: Rig) -> None:
    store.take_over()
    for number in range(4):
        store.add(message_id=f"m{number}")
    say(store, "s")
    lease = store.claim(max_take=1)
    assert len(lease.claimed.batch.messages) == 5, "no run answers them: their number is no limit"
    store.trim(lease, 3)
    store.check()
    kept = replace(store.result(lease), message_ids=("m0", "m1", "m2"), messages_processed=3)
    store.finish(lease, result=kept)
    store.check()
    assert take(store) == ["m3", "s"]


def test_more_messages_than_a_batch_has_are_answered(store: Rig) -> None:
    store.take_over()
    for number in range(MAX_BATCH + 1):
        store.add(message_id=f"{number}")
    store.say(message_id="s", kind="reply", author=None)
    store.take_over("Kim", instead_of="Jo")
    store.say(kind="reply", author="Kim")
    lease = store.claim()
    assert {one.answered_by for one in lease.claimed.batch.messages} == {"Jo"}
    store.finish(lease)
    assert take(store) == [f"{MAX_BATCH}", "s"]


@pytest.mark.parametrize("stops", [True, False])
def test_a_run_is_stopped_or_ends_first(store: Rig, stops: bool) -> None:
    store.add(message_id="a", delay_s=0)
    lease = store.claim()
    store.take_over(stops=stops)
    store.check()
    assert store.wish() == (f"stop {lease.claimed.batch.id}" if stops else "")
    store.add(message_id="b", mid_run="interrupt")
    assert store.wish().startswith("stop") is stops
    _, _ = store.join(lease)
    assert store.frozen() == ["a"], "what waits is the person's"
    (store.stopped if stops else store.finish)(lease)
    store.check()
    assert take(store) == []
    say(store, "s")
    assert take(store) == ["b", "s"]


@pytest.mark.parametrize("stops", [True, False])
@pytest.mark.parametrize("paused", [True, False])
def test_a_batch_in_its_back_off_is_stopped_or_ends_first(
    store: Rig, stops: bool, paused: bool
) -> None:
    store.add(message_id="a", delay_s=0)
    store.postpone(store.claim(), wait_s=50)
    if paused:
        store.run(control.pause_thread(store.namespace, "thread"))
    store.take_over(stops=stops)
    store.check()
    if stops:
        store.stopped(store.claim())
    else:
        assert store.refused() == "early"
        store.clock.advance(50)
        assert take(store) == ["a"]
    store.check()
    assert store.thread().paused is paused
    assert take(store) == []


def test_a_reply_that_is_being_written_is_not_stopped(store: Rig) -> None:
    say(store, "s")
    lease = store.claim()
    store.take_over()
    assert not store.wish()
    store.finish(lease)
    store.check()


def test_another_person_is_refused(store: Rig) -> None:
    store.take_over("Jo")
    since = store.thread().taken_over_since
    store.clock.advance(5)
    assert not store.take_over("Jo"), "it is that person's already"
    before = store.snapshot()
    with pytest.raises(ThreadTakenOver) as caught:
        store.take_over("Ann")
    assert (caught.value.by, caught.value.since) == ("Jo", since)
    with pytest.raises(ThreadTakenOver):
        store.take_over("Ann", instead_of="Kim")
    assert store.snapshot() == before
    assert store.take_over("Ann", instead_of="Jo")
    assert store.thread().taken_over_by == "Ann"
    assert store.thread().taken_over_since != since


@pytest.mark.parametrize("first", ["pause", "take_over"])
def test_a_pause_and_a_takeover_end_each_by_itself(store: Rig, first: str) -> None:
    def pause() -> None:
        store.run(control.pause_thread(store.namespace, "thread"))

    store.add(message_id="a", delay_s=0)
    for step in (pause, store.take_over) if first == "pause" else (store.take_over, pause):
        step()
        store.check()
    status = store.thread()
    assert (status.paused, status.taken_over_by) == (True, "Jo")
    assert (listed(store, "paused"), listed(store, "taken_over")) == (["thread"], ["thread"])
    store.say(message_id="n", kind="notice")
    delivery = store.claim_delivery()
    assert delivery is not None, "a person's words are delivered in spite of a pause"
    store.delivered(delivery)
    store.hand_back()
    store.check()
    assert (store.refused(), store.thread().paused) == ("paused", True)
    assert listed(store, "taken_over") == []
    store.take_over()
    store.run(control.resume_thread(store.namespace, "thread"))
    store.check()
    status = store.thread()
    assert (status.paused, status.taken_over_by) == (False, "Jo"), "a resume hands nothing back"
    assert store.refused() == "paused"
    store.run(control.resume_thread(store.namespace, "thread"))
    assert store.thread().taken_over_by == "Jo"
    store.hand_back()
    assert take(store) == ["a"]


def test_replies_that_a_pause_kept_are_delivered_when_a_person_takes_over(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    lease = store.claim()
    store.run(control.pause_thread(store.namespace, "thread"))
    assert store.reply(lease) is None
    assert store.claim_delivery() is None
    store.take_over()
    store.check()
    assert store.claim_delivery() is not None


def test_handing_back_a_thread_of_the_model_changes_nothing(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    before = store.snapshot()
    assert not store.hand_back()
    assert store.snapshot() == before


def test_a_window_that_is_open_at_the_end_of_a_takeover_is_kept(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a", delay_s=3)
    store.hand_back()
    store.check()
    assert store.refused() == "early"
    store.clock.advance(3)
    assert take(store) == ["a"]


def test_an_answer_after_a_wake_up_that_found_nothing_is_woken_at_once(store: Rig) -> None:
    store.add(message_id="a", delay_s=0)
    store.take_over()
    assert store.pop() == "thread"
    assert store.refused() == "paused"
    store.clock.advance(60)
    say(store, "s")
    assert store.pop() == "thread"
    assert take(store) == ["a", "s"]


def test_a_direct_call_hands_what_was_said_to_a_worker(store: Rig) -> None:
    store.take_over()
    store.run(control.lock(store.namespace, "thread", token="call", lease_s=5))
    store.add(message_id="a")
    say(store, "s")
    assert store.refused() == "refused"
    store.run(control.unlock(store.namespace, "thread", token="call"))
    store.check()
    assert take(store) == ["a", "s"]


def test_late_copies_change_nothing(store: Rig) -> None:
    store.take_over("Jo")
    taken = store.sent[-1]
    store.hand_back()
    back = store.sent[-1]
    assert store.again(taken)[0] == b"taken"
    assert store.thread().taken_over_by is None
    store.take_over("Ann")
    assert store.again(back) == [b"handed_back"]
    with pytest.raises(ThreadTakenOver):
        store.take_over("Kim")
    refused = store.sent[-1]
    store.hand_back()
    assert store.again(refused)[0] == b"other"
    assert store.thread().taken_over_by is None
    store.check()


def test_what_happens_is_published_and_noted(store: Rig) -> None:
    start = store.run(event_log.listen(store.namespace, "thread")).newest
    store.take_over("Jo")
    store.take_over("Ann", instead_of="Jo")
    store.add(message_id="a")
    say(store, "s")
    lease = store.claim()
    result = store.result(lease)
    words: dict[str, Any] = {
        "run_id": "",
        "reply": "Jo here.",
        "replies": ("Jo here.",),
        "answered_by": "Jo",
    }
    store.finish(lease, result=replace(result, **words))
    store.hand_back()
    page = store.run(event_log.read(store.namespace, "thread", start, 20))
    seen = [event for event in page.events if event.type != "window_moved"]
    assert [event.type for event in seen] == [
        "taken_over",
        "taken_over",
        "message_queued",
        "said",
        "batch_claimed",
        "reply_ready",
        "handed_back",
    ]
    assert [(seen[0].by, seen[0].instead_of), (seen[1].by, seen[1].instead_of)] == [
        ("Jo", None),
        ("Ann", "Jo"),
    ]
    assert (seen[3].author, seen[5].answered_by, seen[6].by) == ("Jo", "Jo", "Ann")
    status = status_of(store, "a")
    assert (status.status, status.reply, status.answered_by) == ("completed", "Jo here.", "Jo")
    written = next(one for one in store.journal() if one.outcome == "completed")
    assert (written.answered_by, written.run_ids) == ("Jo", ())


def test_a_message_keeps_the_person_that_answered_it(store: Rig) -> None:
    store.take_over("Jo")
    store.add(message_id="a", author="Ann", metadata={"page": "1"})
    say(store, "s")
    first = store.claim().claimed.batch.messages[0]
    assert (first.author, first.metadata, first.answered_by) == ("Ann", {"page": "1"}, "Jo")
    assert unpack(pack(first)) == first
    plain = json.loads(pack(first))
    assert (plain["w"], plain["p"]) == (0, "Jo")


def test_a_broken_thread_stays_a_persons(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    say(store, "s")
    store.client.hset(store.keys.thread("thread"), "n", "many")
    lease = store.claim()
    assert [message.id for message in lease.claimed.batch.messages] == ["a", "s"]
    assert store.client.exists(store.keys.quarantine)
    assert store.thread().taken_over_by == "Jo"
    store.finish(lease)
    store.add(message_id="b", delay_s=0)
    assert store.refused() == "paused"


def test_it_is_forgotten_with_its_thread(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a")
    store.run(control.forget(store.namespace, "thread"))
    assert store.threads() == []


def test_a_resume_of_an_older_version_ends_a_takeover(store: Rig) -> None:
    store.take_over()
    store.add(message_id="a", delay_s=0)
    store.client.hdel(store.keys.thread("thread"), "paused")
    assert store.thread().taken_over_by is None
    lease = store.claim()
    assert lease.claimed.phase is Phase.FROZEN
    store.finish(lease)
    assert store.thread_hash() == {}


@pytest.mark.parametrize("stops", [True, False])
def test_a_parked_batch_is_stopped_or_ends_once_it_is_answered(store: Rig, stops: bool) -> None:
    store.add(message_id="a", delay_s=0)
    lease = store.claim()
    store.park(lease, store.open_call("c1"), new=1)
    store.take_over(stops=stops)
    store.check()
    if stops:
        store.stopped(store.claim())
        return
    assert store.refused() == "early"
    assert store.settle("c1")
    store.check()
    store.finish(store.claim())
    assert store.refused() == "idle"
