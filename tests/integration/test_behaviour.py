"""Behaviour that callers rely on, under each kind of worker.

Real Redis, real processes, the real openai client over HTTP.
"""

from __future__ import annotations

import threading

import pytest

from assistant_queue import BatchFailed
from assistant_queue.testing.provider import Reply, RunFailure, ToolCalls
from tests.conftest import PATIENCE_S
from tests.integration.conftest import Service, wait_until


def all_texts(service: Service) -> list[str]:
    """Every user text of every completed run, by the provider's own log."""
    return [
        text
        for run in service.provider.runs
        if run.status == "completed"
        for text in run.user_texts
    ]


def test_ten_threads_of_ten_messages_are_ten_runs_in_order(service: Service) -> None:
    queue = service.start(workers=1 if service.kind == "asyncio" else 2, message_delay=1.5)
    last = [
        [
            queue.add_message_to_thread(f"thread {thread}", f"{thread}/{number}")
            for number in range(10)
        ][-1]
        for thread in range(10)
    ]
    for receipt in last:
        queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    assert len(service.provider.runs) == 10
    assert sorted(run.user_texts for run in service.provider.runs) == [
        tuple(f"{thread}/{number}" for number in range(10)) for thread in range(10)
    ]
    assert service.provider.overlaps == ()
    status = queue.get_queue_status()
    assert (
        status.completed_count,
        status.active_count,
        status.waiting_count,
        status.delayed_count,
    ) == (100, 0, 0, 0)


def test_two_hundred_messages_added_in_the_same_milliseconds_all_arrive_once(
    service: Service,
) -> None:
    queue = service.start()
    barrier = threading.Barrier(8)
    receipts: list[str] = []

    def produce(number: int) -> None:
        barrier.wait()
        receipts.extend(
            queue.add_message_to_thread("one thread", f"{number}/{i}").message_id for i in range(25)
        )

    producers = [threading.Thread(target=produce, args=(number,)) for number in range(8)]
    for producer in producers:
        producer.start()
    for producer in producers:
        producer.join()
    assert len(set(receipts)) == 200
    for message_id in receipts:
        queue.wait_for_reply(message_id, PATIENCE_S)
    texts = all_texts(service)
    assert sorted(texts) == sorted(f"{number}/{i}" for number in range(8) for i in range(25))
    for number in range(8):  # each producer's own messages stay in its order
        own = [text for text in texts if text.startswith(f"{number}/")]
        assert own == [f"{number}/{i}" for i in range(25)]
    assert service.provider.overlaps == ()


def test_messages_sent_during_a_run_are_answered_by_the_next_one_at_once(service: Service) -> None:
    queue = service.start(message_delay=0.2)
    gate = service.provider.hold()
    first = queue.add_message_to_thread("t", "first")
    gate.wait_reached(timeout=PATIENCE_S)
    late = [queue.add_message_to_thread("t", f"late {number}") for number in range(3)]
    assert {receipt.job_id for receipt in late} == {None}
    assert queue.get_thread_status("t").pending_count == 3
    gate.release()
    assert queue.wait_for_reply(first.message_id, PATIENCE_S) == "You said: first"
    assert (
        queue.wait_for_reply(late[0].message_id, PATIENCE_S) == "You said: late 0 | late 1 | late 2"
    )
    assert [run.user_texts for run in service.provider.runs] == [
        ("first",),
        ("late 0", "late 1", "late 2"),
    ]
    assert service.provider.overlaps == ()


def test_the_same_message_id_twice_is_one_message(service: Service) -> None:
    queue = service.start()
    first = queue.add_message_to_thread("t", "hello", message_id="webhook-1")
    again = queue.add_message_to_thread("t", "hello", message_id="webhook-1")
    assert (first.duplicate, again.duplicate) == (False, True)
    assert queue.wait_for_reply("webhook-1", PATIENCE_S) == "You said: hello"
    assert queue.add_message_to_thread("t", "hello", message_id="webhook-1").duplicate
    assert queue.get_queue_status().completed_count == 1
    assert all_texts(service) == ["hello"]


@pytest.mark.parametrize("protocol", ["responses", "assistants", "chat_completions"])
def test_tool_calls_are_answered_by_the_users_function(service: Service, protocol: str) -> None:
    service.protocol = protocol
    service.tools = True

    def model(turn: object) -> object:
        if turn.round == 0:
            return ToolCalls([("order", {"id": 7}), ("weather", {})])
        if turn.round == 1:
            return ToolCalls([("order", {"id": 8})])
        return Reply(" / ".join(output.output for output in turn.tool_outputs))

    service.provider.model = model
    tools = [
        {"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}}
        for name in ("order", "weather")
    ]
    queue = service.start(**({} if protocol == "assistants" else {"tools": tools}))
    reply = queue.ask("t", "where is my order?", timeout=PATIENCE_S)
    assert reply == 'order {"id": 7} / weather {} / order {"id": 8}'
    assert len(service.noted("calls")) == len(set(service.noted("calls"))) == 3


def test_a_run_that_fails_is_tried_again_with_the_same_messages(service: Service) -> None:
    answers = iter([RunFailure("server_error", "oops")])
    service.provider.model = lambda turn: (
        next(answers, None) or Reply("You said: " + " | ".join(turn.user_texts))
    )
    queue = service.start()
    ids = [
        row.message_id
        for row in queue.add_messages(
            {"thread_id": "t", "message": text} for text in ("one", "two")
        )
    ]
    assert queue.wait_for_reply(ids[0], PATIENCE_S) == "You said: one | two"
    assert queue.get_message(ids[1]).attempts == 2
    assert [run.status for run in service.provider.runs] == ["failed", "completed"]


def test_a_batch_that_keeps_failing_ends_in_the_failed_list_and_can_be_retried(
    service: Service,
) -> None:
    service.provider.model = lambda _: RunFailure("server_error", "always")
    queue = service.start(max_attempts=2)
    receipt = queue.add_message_to_thread("t", "poison")
    with pytest.raises(BatchFailed, match="always") as caught:
        queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    (failed,) = queue.list_failed()
    assert failed.batch_id == caught.value.batch_id
    assert (failed.reason, failed.attempts, failed.message_ids) == (
        "attempts",
        2,
        (receipt.message_id,),
    )
    assert queue.get_queue_status().failed_count == 1

    service.provider.model = lambda turn: Reply(f"at last: {turn.user_texts[0]}")
    queue.retry_failed(failed.batch_id)
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "at last: poison"
    assert queue.list_failed() == []


def test_every_reply_is_delivered_to_on_reply(service: Service) -> None:
    service.on_reply = True
    queue = service.start()
    receipts = [queue.add_message_to_thread(f"t{number}", "hello") for number in range(3)]
    for receipt in receipts:
        queue.wait_for_reply(receipt.message_id, PATIENCE_S)
    batches = {queue.get_message(receipt.message_id).batch_id for receipt in receipts}
    wait_until(lambda: set(service.noted("replies")) == batches, "each batch is delivered")
    wait_until(
        lambda: queue.get_thread_status("t0").state == "idle",
        "the thread is given back after the delivery",
    )


# A worker on a thread of this process cannot be killed; test_crash.py kills the process around one.
@pytest.mark.parametrize("service", ["stock", "forking", "concurrent"], indirect=True)
def test_a_killed_workers_batch_is_taken_over_and_its_run_resumed(service: Service) -> None:
    queue = service.start(workers=2, lock_duration=2.0)
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("t", "do not lose me")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    service.kill_a_run()
    gate.release()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: do not lose me"
    assert len(service.provider.runs) == 1
    assert queue.get_message(receipt.message_id).attempts == 1


# The other two protocols resume the run in progress; the text of a completion is lost with the
# worker that read it.
@pytest.mark.parametrize("service", ["stock", "forking"], indirect=True)
def test_a_killed_workers_batch_is_asked_again_where_the_provider_keeps_nothing(
    service: Service,
) -> None:
    service.protocol = "chat_completions"
    queue = service.start(workers=2, lock_duration=2.0)
    assert queue.ask("t", "hello", timeout=PATIENCE_S) == "You said: hello"
    gate = service.provider.hold()
    receipt = queue.add_message_to_thread("t", "do not lose me")
    gate.wait_reached(timeout=PATIENCE_S)
    wait_until(lambda: queue.get_thread_status("t").run_id, "the run's id is stored")
    service.kill_a_run()
    gate.release()
    assert queue.wait_for_reply(receipt.message_id, PATIENCE_S) == "You said: do not lose me"
    assert queue.get_message(receipt.message_id).attempts == 2
    said = [message.text for message in queue.list_messages("t", order="asc")]
    assert said == ["hello", "You said: hello", "do not lose me", "You said: do not lose me"]
