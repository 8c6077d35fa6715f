"""What is known of a batch, on its way through Redis."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import datetime, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.core.progress import Progress, dump_result, load_result, moment
from assistant_queue.core.runs import ActionRequired
from assistant_queue.models import ErrorInfo, FunctionCall, RunResult, ToolCall, Usage

texts = st.text(max_size=20)
moments = st.integers(0, 4 * 10**12).map(moment)
usages = st.builds(Usage, input_tokens=st.integers(0, 9), output_tokens=st.integers(0, 9), total_tokens=st.integers(0, 9))
results = st.builds(
    RunResult,
    thread_id=texts,
    run_id=texts,
    batch_id=texts,
    message_ids=st.lists(texts).map(tuple),
    messages_processed=st.integers(0, 9),
    status=st.sampled_from(["completed", "incomplete"]),
    incomplete_reason=st.none() | texts,
    reply=st.none() | texts,
    replies=st.lists(texts).map(tuple),
    usage=st.none() | usages,
    attempts=st.integers(0, 9),
    started_at=moments,
    ended_at=moments,
    fallback=st.booleans(),
)
calls = st.builds(ToolCall, id=texts, function=st.builds(FunctionCall, name=texts, arguments=texts))
progresses = st.builds(
    Progress,
    attempts=st.integers(0, 9),
    failures=st.integers(0, 9),
    sent_ms=st.integers(0, 10**13),
    deadline_ms=st.integers(0, 10**13),
    located=st.booleans(),
    anchor=st.none() | texts,
    run_id=st.none() | texts,
    rounds=st.integers(0, 9),
    calls=st.lists(calls, max_size=3).map(tuple),
    submitted=st.lists(calls, max_size=3).map(tuple),
    outputs=st.dictionaries(texts, texts, max_size=3),
    replies=st.lists(texts, max_size=3).map(tuple),
    usage=st.none() | usages,
    held=st.booleans(),
    waiting_since_ms=st.integers(0, 10**13),
    refusals=st.integers(0, 9),
    undecided_since_ms=st.integers(0, 10**13),
    shortened=st.integers(0, 9),
    origin=st.none() | texts,
    error=st.none() | st.builds(ErrorInfo, code=texts, message=texts),
    result=st.none() | results,
    deliveries=st.integers(0, 9),
    open_since_ms=st.integers(0, 10**13),
    calling=st.booleans(),
    guilt=st.integers(0, 9),
    waits=st.booleans(),
    asked=st.none()
    | st.builds(
        ActionRequired,
        run_id=texts,
        calls=st.lists(calls, max_size=3).map(tuple),
        replies=st.lists(texts, max_size=3).map(tuple),
        usage=st.none() | usages,
        transcript=st.none() | texts,
    ),
    transcript=st.none() | texts,
    burying=st.none() | texts,
)


@given(progresses)
def test_what_is_dumped_is_loaded_again(progress: Progress) -> None:
    assert Progress.load(progress.dump()) == progress


def test_the_strategy_above_covers_every_field() -> None:
    full = Progress(
        attempts=1,
        failures=2,
        sent_ms=3,
        deadline_ms=4,
        located=True,
        anchor="a",
        run_id="r",
        rounds=5,
        calls=(ToolCall("c", FunctionCall("f", "{}")),),
        submitted=(ToolCall("d", FunctionCall("f", "{}")),),
        outputs={"c": "o"},
        replies=("hi",),
        usage=Usage(input_tokens=1, output_tokens=2, total_tokens=3),
        asked=ActionRequired(run_id="r", calls=()),
        transcript="[]",
        burying="attempts",
        held=True,
        waiting_since_ms=6,
        refusals=7,
        passing=True,
        given_up="r",
        undecided_since_ms=8,
        shortened=10,
        origin="conv_1",
        error=ErrorInfo(code="x", message="y"),
        result=_result(),
        deliveries=9,
        open_since_ms=11,
        calling=True,
        guilt=1,
        waits=True,
    )
    assert set(json.loads(full.dump())) == {one.name for one in fields(Progress)}
    assert Progress.load(full.dump()) == full


def test_nothing_known_is_next_to_nothing_stored() -> None:
    assert Progress().dump() == "{}"
    assert Progress.load("") == Progress()


def test_what_a_newer_version_added_is_ignored() -> None:
    assert Progress.load('{"attempts":2,"from_the_future":[1,2]}') == Progress(attempts=2)


def test_two_loaded_from_nothing_share_nothing() -> None:
    one, other = Progress.load(""), Progress.load("{}")
    one.outputs["call"] = "output"
    assert other.outputs == {}


@given(results)
def test_a_result_survives_json(result: RunResult) -> None:
    assert load_result(json.loads(json.dumps(dump_result(result)))) == result


def test_moments_are_aware_and_utc() -> None:
    assert moment(1_700_000_000_123) == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=timezone.utc)


@pytest.mark.parametrize("value", ["ключ", "a\nb", "🙂", "\u2028"])
def test_text_of_any_kind_survives(value: str) -> None:
    assert Progress.load(Progress(outputs={value: value}).dump()).outputs == {value: value}


def _result() -> RunResult:
    return RunResult(
        thread_id="t",
        run_id="r",
        batch_id="b",
        message_ids=("m",),
        messages_processed=1,
        status="completed",
        incomplete_reason=None,
        reply="hi",
        replies=("hi",),
        usage=None,
        attempts=1,
        started_at=moment(0),
        ended_at=moment(1),
    )


def test_what_has_happened_did_not_happen_later_than_now() -> None:
    """Every time that is kept, so that one added later is not forgotten: it is a deadline, or it lies in the past."""
    times = [one.name for one in fields(Progress) if one.name.endswith("_ms")]
    progress = Progress(**dict.fromkeys(times, 5000))
    progress.keep_past(2000, 1.0)
    assert {name: getattr(progress, name) for name in times} == {**dict.fromkeys(times, 2000), "deadline_ms": 3000}
    known = Progress(sent_ms=1000, deadline_ms=1500)
    known.keep_past(2000, 1.0)
    assert known == Progress(sent_ms=1000, deadline_ms=1500)
