"""Log lines of batches: one when a batch ends, one for each failure, with fields for programs."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, logs
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase
from assistant_queue.store.ops.leases import Lease
from assistant_queue.testing.provider import Reply, RunFailure
from assistant_queue.testing.rehearsal import Rehearsal
from assistant_queue.worker import batch_log
from assistant_queue.worker.rq_wake_ups import PlainSerializer, WakeUpJob
from tests.conftest import RedisServer
from tests.docs import bot_under_test as bot

Rehearse = Callable[..., Rehearsal]
TEXT = "a text that is not for logs"


def lines_of(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    return [record for record in list(caplog.records) if record.name == "assistant_queue.batches"]


def fields(record: logging.LogRecord) -> dict[str, Any]:
    return vars(record)


def test_a_batch_leaves_one_line_with_its_times_and_tokens(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    play = rehearse(bot.queue)
    play.say("ann", TEXT)
    play.say("ann", TEXT)
    play.run_until_idle()
    ended, delivered = lines_of(caplog)
    found = fields(ended)
    assert (found["thread_id"], found["messages"], found["outcome"]) == ("ann", 2, "completed")
    assert found["wait_ms"] >= bot.queue.config.message_delay * 1000
    assert found["run_ms"] >= 0
    assert (found["attempts"], found["tokens"] > 0) == (1, True)
    assert ended.getMessage() == (
        f"thread=ann batch={found['batch_id']} run={found['run_id']} messages=2 "
        f"wait_ms={found['wait_ms']} run_ms={found['run_ms']} attempts=1 "
        f"tokens={found['tokens']} outcome=completed"
    )
    assert fields(delivered)["outcome"] == "delivered"
    assert fields(delivered)["batch_id"] == found["batch_id"]
    assert fields(delivered)["delivery_ms"] >= 0
    assert TEXT not in caplog.text


def test_each_failure_says_what_happens_next(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    play = rehearse(bot.queue)
    answers = iter([RunFailure(), Reply("at last")])
    play.provider.model = lambda _: next(answers)
    play.ask("ann", TEXT)
    play.provider.model = lambda _: RunFailure("server_error", "no")
    play.say("bob", TEXT)
    play.run_until_idle()
    of_ann = [one for one in lines_of(caplog) if fields(one)["thread_id"] == "ann"]
    waits, ended, _ = of_ann
    assert (waits.levelname, fields(waits)["outcome"]) == ("INFO", "retrying")
    assert fields(waits)["next_in_ms"] == 5000
    assert fields(waits)["error_code"] == "server_error"
    assert waits.getMessage().endswith("is looked at again in 5.0 s, after 1 attempt(s)")
    assert (fields(ended)["attempts"], fields(ended)["outcome"]) == (2, "completed")
    of_bob = [one for one in lines_of(caplog) if fields(one)["thread_id"] == "bob"]
    failed = next(one for one in of_bob if one.levelname == "ERROR")
    batch_id = fields(failed)["batch_id"]
    assert (fields(failed)["reason"], fields(failed)["outcome"]) == ("attempts", "failed")
    assert failed.getMessage().endswith(
        f"; the thread continues without it: assistant-queue failed retry {batch_id}, or discard"
    )
    assert [one.levelname for one in of_bob].count("ERROR") == 1
    assert TEXT not in caplog.text


def test_an_id_with_a_line_break_is_one_word_of_the_line(
    rehearse: Rehearse, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    rehearse(bot.queue).ask("ann\noutcome=failed", TEXT)
    ended, delivered = (one.getMessage() for one in lines_of(caplog))
    assert ended.startswith('thread="ann\\noutcome=failed" batch=')
    assert "\n" not in ended + delivered


def test_a_batch_whose_worker_is_over_is_announced_by_the_next(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "assistant_queue")
    batch = Batch(id="b1", thread_id="ann", messages=())
    claimed = Claimed(
        batch=batch,
        phase=Phase.RUNNING,
        progress=Progress(),
        deaths=1,
        claimed_ms=0,
        conversation_id=None,
        anchor=None,
    )
    lease = Lease(thread_id="ann", token="t", now_ms=0, until_ms=0, guard_id="g", claimed=claimed)
    batch_log.log_takeover(lease)
    (line,) = lines_of(caplog)
    assert line.levelname == "WARNING"
    assert line.getMessage() == (
        "thread 'ann': a worker that had batch b1 is over or lost its lease (1 in this phase); "
        "it continues here from phase running"
    )
    batch_log.log_takeover(replace(lease, claimed=replace(claimed, deaths=0)))
    assert len(lines_of(caplog)) == 1


def test_a_line_of_json_has_the_bound_fields_and_a_function_of_yours_logs_with_them() -> None:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.setFormatter(logs.JsonFormatter())
    handler.addFilter(logs.FieldsFilter())
    own = logging.getLogger("tests.own")
    own.addHandler(handler)
    try:
        with logs.bound(thread_id="ann", batch_id="b1"):
            own.warning("looked up %d orders\n", 3, extra={"batch_id": "mine", "orders": [1, 2]})
        try:
            1 / 0  # noqa: B018 - raises
        except ZeroDivisionError:
            own.exception("failed")
    finally:
        own.removeHandler(handler)
    first, second = (json.loads(line) for line in stream.getvalue().splitlines())
    assert {name: first[name] for name in first if name != "time"} == {
        "level": "warning",
        "logger": "tests.own",
        "message": "looked up 3 orders\n",
        "thread_id": "ann",
        "batch_id": "mine",
        "orders": [1, 2],
    }
    assert first["time"].endswith("Z")
    assert "thread_id" not in second
    assert "ZeroDivisionError" in second["exception"]


def test_rqs_lines_name_the_thread(one_redis: RedisServer, prefix: str) -> None:
    options: dict[str, Any] = {"redis_url": one_redis.url, "queue_prefix": prefix}
    with AssistantMessageQueue(**options) as queue:
        job_id = queue.add_message_to_thread("ann", TEXT).job_id
        assert job_id is not None
        job = WakeUpJob.fetch(
            job_id, connection=queue.get_queue().connection, serializer=PlainSerializer
        )
        assert job.description == "wake-up of thread 'ann'"
