"""Whatever stands in RQ's queue: it stops no worker, fills no memory, and the healthy threads around it are answered."""

from __future__ import annotations

import pickle
import sys
import zlib
from pathlib import Path

import pytest

from assistant_queue.store import wakeups
from tests.conftest import PATIENCE_S
from tests.integration.conftest import Service, wait_until

BOMB = 100_000_000
MOST_GROWTH = 40_000_000
"""Bytes by which a worker may grow: less than any of the bombs takes."""


def zip_bomb() -> bytes:
    packer = zlib.compressobj(9)
    zeros = bytes(1_000_000)
    return b"".join([*(packer.compress(zeros) for _ in range(BOMB // len(zeros))), packer.flush()])


def wake_up(thread: str) -> bytes:
    return pickle.dumps(("assistant_queue.jobs.wake", None, (thread,), {}))


def odd_jobs(service: Service) -> list[bytes]:
    """Entries for the queue; what they name is written."""
    client = service.client
    bomb = zip_bomb()
    good = {"created_at": "2026-01-01T00:00:00Z", "origin": service.prefix, "status": "queued"}
    jobs: dict[bytes, dict[str, bytes | str]] = {
        b"bomb": {**good, "data": bomb},
        b"small-bomb": {**good, "data": zlib.compress(bytes(8_000_000))},
        b"bomb-beside": {
            **good,
            "data": wake_up("beside"),
            "exc_info": bomb,
            "result": bomb,
            "meta": bomb,
        },
        b"memo": {**good, "data": b"\x80\x04Nr\xff\xff\xff\x07."},
        b"large": {**good, "data": bytes(BOMB * 2 // 3)},
        b"large-beside": {**good, "data": wake_up("beside"), "description": bytes(BOMB * 2 // 3)},
        b"many-fields": {
            **good,
            "data": wake_up("beside"),
            **{f"field{number}": "x" for number in range(5000)},
        },
        b"status": {**good, "data": wake_up("beside"), "status": "\x00"},
        b"times": {
            **good,
            "data": wake_up("beside"),
            "created_at": b"\xff",
            "timeout": "soon",
            "result_ttl": "never",
        },
        b"name": {
            **good,
            "data": wake_up("beside"),
            "worker_name": b"\xff",
            b"\xff\xfe".decode("latin-1"): "x",
        },
        b"no-data": {"origin": "x"},
        b"a:b": {**good, "data": wake_up("beside")},
        b"\xff\xfe": {**good, "data": wake_up("beside")},
        b"": {**good, "data": wake_up("beside")},
        b"a b\r\n": {**good, "data": wake_up("beside")},
        b"x" * 1_000_000: {**good, "data": wake_up("beside")},
    }
    beginning = wakeups.job_key("").encode()
    for job_id, fields in jobs.items():
        client.hset(beginning + job_id, mapping=fields)
    client.set(beginning + b"string", "x")
    client.rpush(beginning + b"list", "x")
    return [*jobs, b"string", b"list", b"\x00", b"not-there"]


def peak_of(pid: int) -> int:
    """Bytes of memory that a process has ever had."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
@pytest.mark.parametrize("service", ["forking", "asyncio", "concurrent"], indirect=True)
def test_odd_jobs_between_healthy_ones(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    intermediate = f"{wakeups.queue_key(service.prefix)}:intermediate"
    if service.kind == "forking":  # a stock worker ended at these, and would again
        service.client.rpush(intermediate, b"\xff\xfe", b"a:b")
    queue = service.start(message_delay=0)
    assert queue.ask("first", "hello", timeout=PATIENCE_S) == "You said: hello"
    pids = [process.pid for process in service.processes]
    peaks = {pid: peak_of(pid) for pid in pids}
    entries = odd_jobs(service)
    service.client.lpush(wakeups.queue_key(service.prefix), *entries)
    receipts = [queue.add_message_to_thread(f"t{number}", f"hello {number}") for number in range(4)]
    replies = [queue.wait_for_reply(receipt.message_id, PATIENCE_S) for receipt in receipts]
    assert replies == [f"You said: hello {number}" for number in range(4)]
    wait_until(
        lambda: not service.client.llen(wakeups.queue_key(service.prefix)), "the queue is empty"
    )
    service.client.lpush(wakeups.queue_key(service.prefix), *entries)
    assert queue.ask("last", "still here?", timeout=PATIENCE_S) == "You said: still here?"
    wait_until(lambda: not service.client.exists(intermediate), "what was dropped is nowhere")
    assert [process.poll() for process in service.processes] == [None] * len(pids)
    for pid in pids:
        assert peak_of(pid) - peaks[pid] < MOST_GROWTH
    log = service.log.read_text(errors="replace") if service.log.exists() else caplog.text
    assert "Traceback" not in log
    assert log.count("job bomb is not our wake-up") == 2
    assert log.count("which is no job's id; it was dropped") == 2 * 6 + 2 * (
        service.kind == "forking"
    )
    failed = service.client.zrange(wakeups.failed_key(service.prefix), 0, -1)
    assert {b"bomb", b"small-bomb", b"memo", b"large"} <= set(failed)
