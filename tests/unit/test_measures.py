"""Counts of a step, as they are sent to its script."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core import measures
from assistant_queue.core.measures import BOUNDS, Counts, bucket_of, label_of, stored_label
from assistant_queue.core.progress import moment
from assistant_queue.core.stored_rows import ToolRow
from tests.unit.flow_harness import claimed


@given(st.integers(0, 10**10))
def test_a_duration_is_in_the_first_bucket_with_a_bound_that_is_not_below_it(ms: int) -> None:
    place = next((at for at, bound in enumerate(BOUNDS) if ms / 1000 <= bound), len(BOUNDS))
    assert bucket_of(ms) == place


def test_buckets_reach_from_milliseconds_to_more_than_an_hour() -> None:
    assert BOUNDS[0] == 0.005
    assert BOUNDS[-1] > 3600
    assert all(after == 2 * before for before, after in itertools.pairwise(BOUNDS))


@given(st.text(max_size=60).filter(lambda name: name == name.encode("utf-8", "replace").decode()))
def test_a_label_is_read_as_it_was_stored_and_stands_in_one_word(name: str) -> None:
    stored = stored_label(name)
    assert label_of(stored) == name
    assert ":" not in stored
    assert "*" not in stored


def test_nothing_is_sent_for_nothing() -> None:
    counts = Counts()
    counts.add("saved", 0)
    assert counts.dump() == ""


def test_an_attempt_that_failed_is_one_error_and_nothing_else() -> None:
    sent = json.loads(measures.attempt_failed("rate_limit_exceeded").dump())
    assert sent == {"n": [], "l": [[["", "1"], "e:rate_limit_exceeded", "errors", 100, "e:*"]]}


def test_calls_of_a_tool_are_added_up_by_its_name() -> None:
    batch = claimed()
    rows = [("weather", 10, ""), ("refund", 0, "timeout"), ("weather", 5, "")]
    batch.progress.tools = tuple(ToolRow(name=name, ms=ms, error=error) for name, ms, error in rows)
    sent = json.loads(
        measures.batch_failed(batch, batch.progress, "x", ["m1"], delivers=False).dump()
    )
    tools = {group[1]: group[0] for group in sent["l"] if group[1].startswith("t:")}
    assert tools == {
        "t:weather": [":n", "2", ":ms", "15"],
        "t:refund": [":n", "1", ":e", "1"],
    }


@pytest.mark.parametrize("delivers", [True, False])
def test_the_way_of_a_message_ends_with_the_batch_only_if_nothing_is_delivered(
    delivers: bool,
) -> None:
    batch = claimed()
    message = replace(batch.batch.messages[0], queued_at=moment(1000))
    batch = replace(batch, batch=replace(batch.batch, messages=(message,)))
    counts: dict[str, Any] = json.loads(
        measures.batch_failed(batch, batch.progress, "x", [message.id], delivers=delivers).dump()
    )
    ends = [] if delivers else ["e", 1000]
    assert counts["s"] == ["r", batch.claimed_ms, *ends]
