"""Rows about the operations page: what its views take of a service with very many open threads."""

from __future__ import annotations

import http.client
import statistics
import time
from collections.abc import Iterator
from urllib.parse import quote

import psutil

from assistant_queue.core.progress import Progress
from assistant_queue.models import ErrorInfo
from assistant_queue.store.calls import Namespace
from assistant_queue.store.ops import outcomes
from assistant_queue.store.ops.control import pause_thread
from assistant_queue.store.ops.failures import list_failed
from tests.benchmarks.bench import TEXT, Bench
from tests.benchmarks.depth import Filled
from tests.benchmarks.table import Row
from tests.benchmarks.web import served

GROUP = "ops"
OVERVIEW_MS = 100.0
SEARCH_MS = 200.0
FAILED = 1000
"""Batches in the failed list, at most a hundredth of the threads."""
PAUSED = 5
ABSENT = "zebra crossing"


def rows(bench: Bench) -> Iterator[Row]:
    """All of them."""
    threads = bench.sizes.deep
    prefix = bench.fresh_prefix()
    with bench.queue() as queue, served(bench, queue_prefix=prefix) as (port, process):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        _get(connection, "overview")  # from now on events are kept
        namespace = Namespace(prefix, queue.core.clock)
        filled = Filled(queue.core.store, namespace, threads, per_thread=1)
        for number in range(min(FAILED, threads // 100 + 1)):
            _fail(filled, f"failed {number}")
        for number in range(PAUSED):
            queue.core.store.run(pause_thread(namespace, f"waiting {number}"))
        (failed, *_) = queue.core.store.run(list_failed(namespace, 1, None))
        connection.close()  # the service has closed it meanwhile
        views = {
            "overview": ("overview", OVERVIEW_MS),
            "history of an hour": ("history?minutes=60", OVERVIEW_MS),
            "first page of threads": ("threads", None),
            "a state without threads, 1,000 read": ("threads?state=active", None),
            "5 paused ones": ("threads?state=paused", None),
            "5 paused ones, by `GET /threads`": ("../threads?state=paused", None),
            "parked ones, by `GET /threads`, 1,000 read": ("../threads?state=parked", None),
            "one thread": (f"threads/{quote('waiting 7')}", None),
            "failed list, with counts": ("failed", None),
            "search, a message id": ("search?q=m7", SEARCH_MS),
            "search, a thread id": (f"search?q={quote('waiting 77')}", SEARCH_MS),
            "search, a batch id": (f"search?q={failed.batch_id}", SEARCH_MS),
            "search, a text of every message": (f"search?q={quote(TEXT[:12])}", SEARCH_MS),
            "search, a text of none": (f"search?q={quote(ABSENT)}", SEARCH_MS),
        }
        for what, (path, most_ms) in views.items():
            named = f"{what}, {threads:,} threads"
            yield _row(bench, connection, process, what=named, path=path, most_ms=most_ms)
        connection.close()


def _fail(filled: Filled, thread_id: str) -> None:
    filled.fill_thread(thread_id, 1)
    lease = filled._claim(thread_id, 1)
    filled.store.run(
        outcomes.bury(
            filled.namespace,
            lease,
            lease.guard_id,
            reason="attempts",
            error=ErrorInfo(code="server_error", message="The server had an error."),
            progress=Progress(attempts=3, run_id="resp_1"),
            message_ids=[one.id for one in lease.claimed.batch.messages],
            open_calls=(),
            pause=False,
            ended_ms=round(time.time() * 1000),
        )
    )


def _row(
    bench: Bench,
    connection: http.client.HTTPConnection,
    process: psutil.Process,
    *,
    what: str,
    path: str,
    most_ms: float | None,
) -> Row:
    calls = max(bench.sizes.calls // 4, 5)
    _get(connection, path)
    cpu_s = sum(process.cpu_times()[:2])
    redis_s = _redis_s(bench)
    took_ms = []
    for _ in range(calls):
        start = time.perf_counter()
        _get(connection, path)
        took_ms.append((time.perf_counter() - start) * 1000)
    cpu_ms = (sum(process.cpu_times()[:2]) - cpu_s) / calls * 1000
    redis_ms = (_redis_s(bench) - redis_s) / calls * 1000
    p95 = statistics.quantiles(took_ms, n=20)[-1]
    return Row(
        group=GROUP,
        what=what,
        here=f"p50 {statistics.median(took_ms):.0f} ms, p95 {p95:.0f} ms",
        beside=f"CPU: service {cpu_ms:.1f} ms, Redis {redis_ms:.1f} ms",
        target="" if most_ms is None else f"<= {most_ms:g} ms",
        met=None if most_ms is None else p95 <= most_ms,
    )


def _redis_s(bench: Bench) -> float:
    used = bench.client.info("cpu")
    return float(used["used_cpu_user"] + used["used_cpu_sys"])


def _get(connection: http.client.HTTPConnection, path: str) -> bytes:
    connection.request("GET", f"/api/ops/{path}".replace("/ops/../", "/"))
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status == 200, text
    return text
