"""What an earlier version wrote is read, finished and answered by this one; what a later one wrote is left alone.

`format_1.json` holds every key of a queue as format 1 wrote it. When the format changes, it stays, and a new file joins it. To write the
file for the format of today: `python -m tests.contract.test_format`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import redis

from assistant_queue import AssistantMessageQueue
from assistant_queue.core.flow import Claimed
from assistant_queue.core.progress import Progress
from assistant_queue.core.thread_state import Phase, ThreadState
from assistant_queue.models import ErrorInfo
from assistant_queue.store import ending, holding
from assistant_queue.store.keys import FORMAT_VERSION
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.clock import FakeClock
from assistant_queue.testing.harness import InstantWorker
from tests.conftest import RedisServer

HERE = Path(__file__).parent
OLD_FORMATS = sorted(HERE.glob("format_*.json"))
PREFIX = "format"


def open_queue(url: str, provider: StandInProvider, clock: FakeClock) -> AssistantMessageQueue:
    queue = AssistantMessageQueue(
        redis_url=url, queue_prefix=PREFIX, openai_api_key=provider.api_key, openai_base_url=provider.base_url, model="stand-in-model"
    )
    queue._clock = clock
    queue._open()
    return queue


def dump(client: redis.Redis) -> dict[str, Any]:
    """Every key of the prefix and of RQ, with what it holds and how long it lives."""
    read = {
        b"string": lambda key: client.get(key).decode("latin-1"),
        b"list": lambda key: [value.decode("latin-1") for value in client.lrange(key, 0, -1)],
        b"set": lambda key: sorted(value.decode("latin-1") for value in client.smembers(key)),
        b"zset": lambda key: [[member.decode("latin-1"), score] for member, score in client.zrange(key, 0, -1, withscores=True)],
        b"hash": lambda key: {name.decode("latin-1"): value.decode("latin-1") for name, value in client.hgetall(key).items()},
    }
    keys = sorted(client.scan_iter("*"))
    return {key.decode("latin-1"): [client.type(key).decode(), read[client.type(key)](key)] for key in keys}


def restore(client: redis.Redis, rows: dict[str, Any]) -> None:
    for name, (kind, value) in rows.items():
        key = name.encode("latin-1")
        if kind == "string":
            client.set(key, value.encode("latin-1"))
        elif kind == "list":
            client.rpush(key, *(one.encode("latin-1") for one in value))
        elif kind == "set":
            client.sadd(key, *(one.encode("latin-1") for one in value))
        elif kind == "zset":
            client.zadd(key, {member.encode("latin-1"): score for member, score in value})
        else:
            client.hset(key, mapping={field.encode("latin-1"): one.encode("latin-1") for field, one in value.items()})


def clear(client: redis.Redis) -> None:
    for pattern in (f"{PREFIX}:*", f"rq:*{PREFIX}*", "rq:job:*"):
        for key in client.scan_iter(pattern):
            client.delete(key)


@pytest.mark.parametrize("path", OLD_FORMATS, ids=[path.stem for path in OLD_FORMATS])
def test_a_queue_of_an_earlier_version_is_finished_by_this_one(path: Path, redis_server: RedisServer) -> None:
    told = json.loads(path.read_text(encoding="utf-8"))
    clock = FakeClock(told["now_ms"])
    with redis.Redis.from_url(redis_server.url) as client, StandInProvider(latency=0) as provider:
        restore(client, told["keys"])
        with open_queue(redis_server.url, provider, clock) as queue:
            before = {name: queue.get_message(name).status for name in told["messages"]}
            assert before == told["messages"]
            assert queue.get_message("answered").reply == "You said: hello"
            assert queue.add_message_to_thread("done", "hello", message_id="answered").duplicate
            (failed,) = queue.list_failed()
            queue.retry_failed(failed.batch_id)
            queue.resume("paused")
            InstantWorker(queue.config, clock).run_until_idle()
            assert {queue.get_message(name).status for name in told["messages"]} == {"completed"}
            status = queue.get_queue_status()
            assert (status.completed_count, status.failed_count, status.active_count) == (len(told["messages"]), 0, 0)
        assert client.get(f"{PREFIX}:format") == str(FORMAT_VERSION).encode()
        assert sorted(text for run in provider.runs for text in run.user_texts) == sorted(told["texts"])
        clear(client)


def test_the_format_of_today_has_its_file() -> None:
    assert HERE / f"format_{FORMAT_VERSION}.json" in OLD_FORMATS


def write(url: str) -> None:
    """One thread in each state, as this version writes it."""
    clock = FakeClock()
    with redis.Redis.from_url(url) as client, StandInProvider(latency=0) as provider, open_queue(url, provider, clock) as queue:
        store, space = queue._store, queue._door.space

        def claim(thread_id: str) -> tuple[holding.Lease, Claimed]:
            lease = store.run(holding.claim(space, thread_id, token=f"token-{thread_id}", batch_id=f"batch-{thread_id}", lease_s=30))
            assert isinstance(lease, holding.Lease)
            return lease, lease.claimed

        queue.add_message_to_thread("done", "hello", message_id="answered")
        InstantWorker(queue.config, clock).run_until_idle()
        for number, thread_id in enumerate(("dead", "retrying", "active")):
            queue.add_message_to_thread(thread_id, f"text {number}", message_id=thread_id, author="Ann", metadata={"k": "v"})
        clock.advance(10)
        lease, _ = claim("dead")
        error = ErrorInfo(code="run_failed", message="it failed")
        store.run(
            ending.bury(
                space, lease, lease.guard_id, reason="attempts", error=error, progress=Progress(attempts=3, failures=3, error=error),
                message_ids=["dead"], open_calls=[], pause=False,
            )
        )  # fmt: skip
        lease, _ = claim("retrying")
        progress = Progress(attempts=1, failures=1, error=error)
        store.run(holding.postpone(space, lease, state=ThreadState.RETRYING, wait_s=5, phase=Phase.FROZEN, progress=progress))
        claim("active")  # its worker died before it sent anything
        queue.add_message_to_thread("active", "behind", message_id="behind")
        queue.add_message_to_thread("waiting", "wait", message_id="waiting", instructions="Be brief.")
        queue.pause("paused")
        queue.add_message_to_thread("paused", "hold on", message_id="paused")
        names = ["answered", "dead", "retrying", "active", "behind", "waiting", "paused"]
        told = {
            "now_ms": clock.ms,
            "messages": {name: queue.get_message(name).status for name in names},
            "texts": ["Ann: text 0", "Ann: text 1", "Ann: text 2", "behind", "wait", "hold on"],
            "keys": dump(client),
        }
    text = json.dumps(told, indent=1, ensure_ascii=True, sort_keys=True)
    (HERE / f"format_{FORMAT_VERSION}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    import tempfile

    from tests.conftest import SERVERS

    server = RedisServer(next(iter(SERVERS.values())), Path(tempfile.mkdtemp()))
    server.start()
    write(server.url)
    server.stop()
