"""The collector and the text of a scrape, from values that are made here."""

from __future__ import annotations

import asyncio
import importlib
import re
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as read_openmetrics
from prometheus_client.parser import text_string_to_metric_families as read_text

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.errors import (
    ConfigurationError,
    InvalidArgument,
    MissingExtra,
    StoreUnavailable,
)
from assistant_queue.integrations.prometheus import collector
from assistant_queue.integrations.prometheus.collecting import metrics_of
from assistant_queue.integrations.prometheus.families import FAMILIES
from assistant_queue.integrations.prometheus.scraping import Scrapes, text_of
from assistant_queue.metrics import (
    Histogram,
    Metrics,
    TokenMetrics,
    ToolMetrics,
    WorkerMetrics,
)
from assistant_queue.models import QueueStatus
from tests.conftest import PATIENCE_S, free_port

HISTOGRAM = Histogram(bounds=(0.5, 1, 30), counts=(1, 0, 2, 4), sum_s=93.5)
NAMES = ("window_wait", "queue_wait", "first_token", "run", "delivery", "end_to_end")
METRICS = Metrics(
    at=datetime.now(UTC),
    status=QueueStatus(active_count=3, failed_count=2, undelivered_count=1, paused=True),
    thread_count=5,
    oldest_due_s=12.5,
    messages={"queued": 120, "answered": 100},
    batches={"completed": 40},
    runs=44,
    runs_saved=60,
    errors={"request_refused": 4, 'a "code"\nof two lines': 1},
    takeovers=2,
    durations=dict.fromkeys(NAMES, HISTOGRAM),
    tools={"order_status": ToolMetrics(calls=9, errors=2, seconds=4.5)},
    tokens=(TokenMetrics(model="m", tenant="", input_tokens=70, cached_input_tokens=40),),
    deliveries={"telegram": {"delivered": 30, "retried": 3}},
    abandoned_calls=7,
    workers=(
        WorkerMetrics(name="a", concurrency=5, running=2, abandoned_calls=1),
        WorkerMetrics(name="b", concurrency=3, running=4),  # between two reports
    ),
    cut=("tenants",),
)


def samples(text: str) -> dict[str, float]:
    """The samples of a text, by name and labels without `queue`."""
    found = {}
    for family in read_text(text):
        for one in family.samples:
            labels = {name: value for name, value in one.labels.items() if name != "queue"}
            shown = ",".join(f"{name}={value}" for name, value in sorted(labels.items()))
            found[f"{one.name.removeprefix('assistant_queue_')}{{{shown}}}"] = one.value
    return found


@pytest.fixture
def queue() -> Iterator[AssistantMessageQueue]:
    with AssistantMessageQueue(model="any", queue_prefix="shop") as made:
        yield made


def test_each_value_is_where_the_table_says() -> None:
    _, text = text_of({"shop": METRICS}, "")
    found = samples(text.decode())
    expected = {
        "up{}": 1,
        "messages_total{outcome=queued}": 120,
        "messages_total{outcome=deduplicated}": 0,
        "messages_in_state{state=active}": 3,
        "messages_in_state{state=failed}": 2,
        "replies_in_state{state=undelivered}": 1,
        "threads{}": 5,
        "oldest_due_seconds{}": 12.5,
        "paused{}": 1,
        "batches_total{outcome=completed}": 40,
        "batches_total{outcome=failed}": 0,
        "runs_total{}": 44,
        "runs_saved_total{}": 60,
        "attempt_errors_total{code=request_refused}": 4,
        'attempt_errors_total{code=a "code"\nof two lines}': 1,
        "takeovers_total{}": 2,
        "run_seconds_bucket{le=0.5}": 1,
        "run_seconds_bucket{le=1.0}": 1,
        "run_seconds_bucket{le=30.0}": 3,
        "run_seconds_bucket{le=+Inf}": 7,
        "end_to_end_seconds_sum{}": 93.5,
        "end_to_end_seconds_count{}": 7,
        "tool_calls_total{outcome=ok,tool=order_status}": 7,
        "tool_calls_total{outcome=error,tool=order_status}": 2,
        "tool_seconds_total{tool=order_status}": 4.5,
        "tokens_total{kind=input,model=m,tenant=}": 70,
        "tokens_total{kind=cached_input,model=m,tenant=}": 40,
        "deliveries_total{channel=telegram,outcome=retried}": 3,
        "deliveries_total{channel=telegram,outcome=unknown}": 0,
        "workers{}": 2,
        "worker_slots{}": 8,
        "worker_room{}": 3,
        "abandoned_calls_total{}": 7,
        "hanging_calls{}": 1,
        "labels_cut{label=tenant}": 1,
    }
    assert {name: found.get(name) for name in expected} == expected
    labels = re.findall(r'queue="([^"]*)"', text.decode())
    assert set(labels) == {"shop"}


def test_workers_that_cannot_be_read_are_not_0() -> None:
    """0 would say that none is alive, and raise an alert."""
    _, text = text_of({"shop": replace(METRICS, workers=(), sees_workers=False)}, "")
    assert not [name for name in samples(text.decode()) if name.startswith(("worker", "hanging"))]


def test_the_text_is_openmetrics_if_that_is_asked_for() -> None:
    """Its parser refuses names that clash, such as a gauge `x` beside a counter `x_total`."""
    content_type, text = text_of(
        {"shop": METRICS, "support": METRICS}, "application/openmetrics-text;version=1.0.0;q=0.8"
    )
    assert content_type.startswith("application/openmetrics-text; version=1.0.0")
    found = list(read_openmetrics(text.decode()))
    assert {one.name for one in found} == {
        family.name.removesuffix("_total") for family in FAMILIES
    }


def test_names_labels_and_helps_follow_the_conventions() -> None:
    assert len({family.name for family in FAMILIES}) == len(FAMILIES)
    for family in FAMILIES:
        assert re.fullmatch(r"assistant_queue_[a-z_]+", family.name)
        assert family.name.endswith("_total") == (family.kind == "counter")
        assert family.help[0].isupper() or family.help[0].isdigit()
        assert not family.help.endswith(".")
        assert family.known.keys() <= set(family.labels)
        for values, _ in family.read(METRICS):
            assert len(values) == len(family.labels)
            for label, value in zip(family.labels, values, strict=True):
                assert label not in family.known or value in family.known[label]


def test_a_registry_takes_the_collector_without_reading(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[int] = []
    monkeypatch.setattr(
        AssistantMessageQueue, "get_metrics", lambda _: reads.append(1) or METRICS, raising=False
    )
    registry = CollectorRegistry()
    with AssistantMessageQueue(model="any", queue_prefix="support") as other:
        registry.register(collector(queue, other))
        with pytest.raises(ValueError, match="Duplicated"):
            registry.register(collector(queue))
        assert reads == []
        text = generate_latest(registry).decode()
        assert len(reads) == 2
        assert set(re.findall(r'queue="([^"]*)"', text)) == {"shop", "support"}
        assert len(list(read_openmetrics(generate_openmetrics(registry).decode()))) == len(FAMILIES)
    assert registry.get_sample_value("assistant_queue_threads", {"queue": "shop"}) == 5


def test_a_queue_that_cannot_be_read_is_down_and_logged_once(
    queue: AssistantMessageQueue,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    answers: list[Any] = [StoreUnavailable("no Redis at h"), KeyError("a bug"), METRICS, METRICS]

    def get_metrics(_: Any) -> Metrics:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(AssistantMessageQueue, "get_metrics", get_metrics, raising=False)
    registry = CollectorRegistry()
    registry.register(collector(queue))
    down = samples(generate_latest(registry).decode())
    assert down == {"up{}": 0}
    assert samples(generate_latest(registry).decode()) == {"up{}": 0}
    assert samples(generate_latest(registry).decode())["up{}"] == 1
    generate_latest(registry)
    assert [record.message for record in caplog.records] == [
        "the metrics of queue 'shop' cannot be read: no Redis at h",
        "the metrics of queue 'shop' can be read again",
    ]


def test_a_redis_that_hangs_delays_a_scrape_by_the_timeout_and_is_read_once(
    queue: AssistantMessageQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    released = threading.Event()
    reads: list[int] = []

    def get_metrics(_: Any) -> Metrics:
        reads.append(1)
        assert released.wait(PATIENCE_S)
        return METRICS

    monkeypatch.setattr(AssistantMessageQueue, "get_metrics", get_metrics, raising=False)
    registry = CollectorRegistry()
    registry.register(collector(queue, timeout=0.01))
    for _ in range(3):
        assert samples(generate_latest(registry).decode()) == {"up{}": 0}
    assert reads == [1]
    released.set()


def test_of_an_asyncio_queue_the_options_are_used(monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[Any] = []
    closed: list[Any] = []
    monkeypatch.setattr(
        AssistantMessageQueue, "get_metrics", lambda it: used.append(it) or METRICS, raising=False
    )
    monkeypatch.setattr(AssistantMessageQueue, "close", lambda it: closed.append(it) or None)
    given = AsyncAssistantMessageQueue(model="any", queue_prefix="shop")
    made = collector(given)
    for _ in range(2):
        assert next(iter(made.collect())).samples[0].value == 1
    made.close()
    made.close()
    assert closed == used[:1] == used[1:]
    assert used[0].config is given.config


def test_what_is_no_queue_or_timeout_is_refused(queue: AssistantMessageQueue) -> None:
    with pytest.raises(ConfigurationError, match="not str"):
        collector("redis://localhost")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="another queue_prefix for each, not shop, shop"):
        collector(queue, queue)
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds"):
        collector(queue, timeout=float("nan"))


def without_package(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "assistant_queue.integrations.prometheus"
    for module in [one for one in sys.modules if one == name or one.startswith(f"{name}.")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "prometheus_client", None)


def test_without_the_package_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    without_package(monkeypatch)
    with pytest.raises(MissingExtra, match=r"prometheus_client.*assistant-queue\[prometheus\]"):
        importlib.import_module("assistant_queue.integrations.prometheus")
    words = ["worker", "--metrics-port", str(free_port())]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 2
    assert "pip install 'assistant-queue[prometheus]'" in done.output


class Metered:
    """A queue that answers with its metrics when `release` is set."""

    def __init__(self, prefix: str, answer: Any = METRICS) -> None:
        self.config = AsyncAssistantMessageQueue(model="any", queue_prefix=prefix).config
        self.release = asyncio.Event()
        self.reads = 0
        self._answer = answer

    async def get_metrics(self) -> Metrics:
        self.reads += 1
        await self.release.wait()
        if isinstance(self._answer, Exception):
            raise self._answer
        return self._answer  # type: ignore[no-any-return]


async def test_scrapes_at_the_same_time_share_a_read() -> None:
    queue = Metered("shop")
    scrapes = Scrapes([queue])  # type: ignore[list-item]
    first, second = (asyncio.create_task(scrapes.answer("")) for _ in range(2))
    third = asyncio.create_task(scrapes.answer(""))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    third.cancel()  # a client that is gone does not end the read of the others
    queue.release.set()
    assert (await first)[1] == (await second)[1]
    assert queue.reads == 1
    await scrapes.answer("")
    assert queue.reads == 2


async def test_one_queue_that_cannot_be_read_leaves_the_others(
    caplog: pytest.LogCaptureFixture,
) -> None:
    queues = [
        Metered("shop"),
        Metered("lost", StoreUnavailable("no Redis at h")),
        Metered("hangs"),
    ]
    for queue in queues[:2]:
        queue.release.set()
    _, text = await Scrapes(queues, timeout_s=0.01).answer("")  # type: ignore[arg-type]
    found = {
        one.labels["queue"]: one.value
        for family in read_text(text.decode())
        for one in family.samples
        if one.name == "assistant_queue_up"
    }
    assert found == {"shop": 1, "lost": 0, "hangs": 0}
    assert sorted(record.message for record in caplog.records) == [
        "the metrics of queue 'hangs' cannot be read: Redis did not answer in time",
        "the metrics of queue 'lost' cannot be read: no Redis at h",
    ]


def test_without_a_histogram_its_family_is_empty() -> None:
    empty = Metrics(at=datetime.now(UTC), status=QueueStatus())
    shown = {one.name: one.samples for one in metrics_of({"shop": empty})}
    assert shown["assistant_queue_run_seconds"] == []
    assert len(shown["assistant_queue_messages"]) == 5
