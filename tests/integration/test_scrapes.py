"""A scrape and the command show what happened in a real queue with a real worker."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client import CollectorRegistry

from assistant_queue import AssistantMessageQueue, AsyncAssistantMessageQueue
from assistant_queue.cli import main
from assistant_queue.cli.show_metrics import lines_of
from assistant_queue.integrations.prometheus import collector
from assistant_queue.metrics import Histogram, Metrics
from assistant_queue.models import QueueStatus
from assistant_queue.testing import StandInProvider
from assistant_queue.testing.provider import Reply, ToolCalls, refuse
from tests.conftest import PATIENCE_S, RedisServer
from tests.integration.conftest import wait_until


def options(url: str, prefix: str, provider: StandInProvider) -> dict[str, Any]:
    return {
        "redis_url": url,
        "queue_prefix": prefix,
        "openai_api_key": provider.api_key,
        "openai_base_url": provider.base_url,
        "model": "stand-in-model",
        "message_delay": 0.1,
        "max_attempts": 1,
    }


@pytest.mark.parametrize("kind", [AssistantMessageQueue, AsyncAssistantMessageQueue])
def test_what_happened_is_in_the_scrape_and_on_the_command_line(
    one_redis: RedisServer, prefix: str, provider: StandInProvider, kind: type
) -> None:
    provider.model = lambda turn: (
        ToolCalls([("order", {})]) if turn.round == 0 else Reply("It is on its way.")
    )
    delivered: list[str] = []
    chosen = options(one_redis.url, prefix, provider)
    with AssistantMessageQueue(**chosen, on_reply=lambda it: delivered.append(it.reply)) as queue:

        @queue.tool
        def order() -> str:
            """Look for the order."""
            return "shipped"

        receipts = [
            queue.add_message_to_thread("t", text, tenant="gold")
            for text in ("Hello!", "My order?", "Please!")
        ]
        queue.start_worker()
        queue.wait_for_reply(receipts[0].message_id, PATIENCE_S)
        provider.fault("responses.create", refuse(400, "invalid_prompt"))
        queue.add_message_to_thread("u", "Hello!", tenant="gold")
        registry = CollectorRegistry()
        read_by = collector(kind(**chosen))
        registry.register(read_by)

        def value(name: str, **labels: str) -> float | None:
            full = f"assistant_queue_{name}"
            return registry.get_sample_value(full, {"queue": prefix, **labels})

        wait_until(lambda: value("messages_total", outcome="failed") == 1, "it failed")
        wait_until(lambda: value("deliveries_total", channel="on_reply", outcome="delivered"), "")
        expected = {
            ("up",): 1,
            ("messages_total", "outcome", "queued"): 4,
            ("messages_total", "outcome", "answered"): 3,
            ("messages_in_state", "state", "failed"): 1,
            ("batches_total", "outcome", "completed"): 1,
            ("batches_total", "outcome", "failed"): 1,
            ("runs_saved_total",): 2,
            ("attempt_errors_total", "code", "request_refused"): 1,
            ("tool_calls_total", "tool", "order", "outcome", "ok"): 1,
            ("delivery_seconds_count",): 1,
            ("end_to_end_seconds_count",): 2,
            ("workers",): 1,
            ("oldest_due_seconds",): 0,
        }
        found = {
            key: value(key[0], **dict(zip(key[1::2], key[2::2], strict=True))) for key in expected
        }
        assert found == expected
        tokens = {"model": "stand-in-model", "tenant": "gold", "kind": "input"}
        assert value("tokens_total", **tokens) > 0
        read_by.close()

        words = ["metrics", "--redis-url", one_redis.url, "--prefix", prefix]
        shown = CliRunner().invoke(main, words)
        assert shown.exit_code == 0, shown.output
        lines = [" ".join(line.split()) for line in shown.output.splitlines()]
        assert lines[0].startswith(f"queue {prefix} at ")
        counts = dict(pairwise(lines))
        assert counts["queued answered failed cancelled deduplicated"] == "4 3 1 0 0"
        assert counts["completed incomplete failed stopped"] == "1 0 1 0"
        as_json = json.loads(CliRunner().invoke(main, [*words, "--json"]).output)
        assert as_json["messages"]["answered"] == 3
        assert as_json["durations"]["run"]["bounds"]


def test_the_command_says_what_it_cannot_show() -> None:
    empty = Metrics(at=datetime.now(UTC), status=QueueStatus(paused=True))
    assert "  workers" in lines_of(empty)
    assert "not counted by this queue: metrics=False" not in " ".join(lines_of(empty))
    found = "\n".join(lines_of(replace(empty, is_counted=False, sees_workers=False)))
    assert "not counted by this queue: metrics=False" in found
    assert "paused yes nothing is claimed" in " ".join(found.split())
    assert "\n  workers" not in found
    assert "approvals" not in found
    asked = replace(empty, approvals={"requested": 2, "approved": 1}, persons={"taken_over": 1})
    counts = dict(pairwise(" ".join(line.split()) for line in lines_of(asked)))
    assert counts["requested approved"] == "2 1"
    assert counts["taken_over"] == "1"


def test_durations_are_shown_by_their_buckets() -> None:
    """Beyond the last bound nothing is known but that."""
    one = Histogram(bounds=(0.5, 2), counts=(9, 0, 1), sum_s=300)
    empty = Metrics(at=datetime.now(UTC), status=QueueStatus(), durations={"run": one})
    row = next(line.split() for line in lines_of(empty) if line.strip().startswith("run  "))
    assert row == ["run", "10", "30", "s", "<=", "0.5", "s", ">", "2", "s", ">", "2", "s"]


def test_without_redis_the_command_ends_with_3() -> None:
    done = CliRunner().invoke(main, ["metrics", "--redis-url", "redis://127.0.0.1:1/0"])
    assert done.exit_code == 3
    assert done.output.startswith("error: ")
    assert done.output.count("\n") == 1
