"""Memory of a batch, on its way through Redis."""

from __future__ import annotations

import json
from dataclasses import fields
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.function.deferral import StoredRound
from assistant_queue.core.progress import Progress, dump_result, load_result, moment
from assistant_queue.core.runs import ActionRequired
from assistant_queue.core.stored_rows import (
    MOST_ROWS,
    AttemptRow,
    SettledRow,
    ToolRow,
    WaitRow,
    bounded,
    shortened,
)
from assistant_queue.models import ErrorInfo, FunctionCall, RunResult, ToolCall, Usage

texts = st.text(max_size=20)
moments = st.integers(0, 4 * 10**12).map(moment)
usages = st.builds(
    Usage,
    input_tokens=st.integers(0, 9),
    cached_input_tokens=st.integers(0, 9),
    cache_write_tokens=st.integers(0, 9),
    output_tokens=st.integers(0, 9),
    reasoning_tokens=st.integers(0, 9),
    total_tokens=st.integers(0, 9),
    rounds=st.integers(0, 9),
    model=st.none() | texts,
    service_tier=st.none() | texts,
)
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
    shown=st.lists(texts, max_size=3).map(tuple),
    usage=st.none() | usages,
    already_in_thread=st.booleans(),
    waiting_since_ms=st.integers(0, 10**13),
    refusals=st.integers(0, 9),
    undecided_since_ms=st.integers(0, 10**13),
    shortened=st.integers(0, 9),
    origin=st.none() | texts,
    error=st.none() | st.builds(ErrorInfo, code=texts, message=texts),
    tries=st.lists(
        st.builds(
            AttemptRow,
            number=st.integers(0, 9),
            started_ms=st.integers(0, 10**13),
            ended_ms=st.integers(0, 10**13),
            worker=texts,
            run_id=texts,
            error=st.none() | st.builds(ErrorInfo, code=st.text(min_size=1), message=texts),
        ),
        max_size=3,
    ).map(tuple),
    tools=st.lists(
        st.builds(
            ToolRow,
            name=texts,
            ms=st.integers(0, 10**9),
            error=texts,
            call_id=texts,
            started_ms=st.integers(0, 10**13),
            verdict=texts,
            by=texts,
            settled_ms=st.integers(0, 10**13),
        ),
        max_size=3,
    ).map(tuple),
    run_sent_ms=st.integers(0, 10**13),
    first_text_ms=st.integers(0, 10**13),
    result=st.none() | results,
    in_user_code=st.booleans(),
    crashes_in_user_code=st.integers(0, 9),
    waits_for_exclusive=st.booleans(),
    called=st.none() | texts,
    called_ms=st.integers(0, 10**13),
    asked=st.none()
    | st.builds(
        ActionRequired,
        run_id=texts,
        calls=st.lists(calls, max_size=3).map(tuple),
        replies=st.lists(texts, max_size=3).map(tuple),
        usage=st.none() | usages,
        transcript=st.none() | texts,
        whole=st.booleans(),
        anchor=st.none() | texts,
        shown=st.lists(texts, max_size=3).map(tuple),
        steered=st.integers(0, 9),
        first_text_ms=st.integers(0, 10**13),
        expires_ms=st.integers(0, 10**13),
    ),
    transcript=st.none() | texts,
    burying=st.none() | texts,
    stop_stage=st.none() | texts,
    said=st.lists(texts, max_size=3).map(tuple),
    unsaid=st.lists(texts, max_size=3).map(tuple),
    interrupts=st.integers(0, 9),
    cut=st.lists(texts, max_size=3).map(tuple),
    stored=st.integers(0, 9),
    begun=st.integers(0, 9),
    begun_before=st.booleans(),
    given=st.integers(0, 9),
    adding=st.integers(0, 9),
    waits=st.lists(
        st.builds(
            WaitRow,
            call_id=texts,
            id=texts,
            kind=st.sampled_from(["approval", "answer"]),
            until_ms=st.integers(0, 10**13),
            question=texts,
            is_listed=st.booleans(),
            is_guests=st.booleans(),
        ),
        max_size=3,
    ).map(tuple),
    settled=st.lists(
        st.builds(SettledRow, call_id=texts, kind=texts, by=texts, at_ms=st.integers(0, 10**13)),
        max_size=3,
    ).map(tuple),
    parked_ms=st.integers(0, 10**13),
    detached=st.booleans(),
    gave_away=st.booleans(),
    carried=st.none() | texts,
)


STORED = {
    "adding",
    "anchor",
    "asked",
    "attempts",
    "begun",
    "begun_before",
    "burying",
    "calling",
    "calls",
    "carried",
    "cut",
    "deadline_ms",
    "detached",
    "gave_away",
    "error",
    "failures",
    "first_text_ms",
    "fn",
    "fn_at",
    "given",
    "given_up",
    "guilt",
    "held",
    "interrupts",
    "located",
    "origin",
    "outputs",
    "outside",
    "parked_ms",
    "passing",
    "refusals",
    "replies",
    "result",
    "rounds",
    "run_id",
    "run_sent_ms",
    "said",
    "sent_ms",
    "settled",
    "shortened",
    "shown",
    "stop_stage",
    "stored",
    "submitted",
    "tools",
    "transcript",
    "tries",
    "undecided_since_ms",
    "unsaid",
    "usage",
    "waiting_since_ms",
    "waits",
}
"""Names in Redis: versions before and after this one read them."""


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
        shown=("msg_1",),
        usage=Usage(
            input_tokens=1,
            cached_input_tokens=2,
            cache_write_tokens=3,
            output_tokens=4,
            reasoning_tokens=5,
            total_tokens=6,
            rounds=7,
            model="m",
            service_tier="flex",
        ),
        asked=ActionRequired(run_id="r", calls=()),
        transcript="[]",
        burying="attempts",
        stop_stage="over",
        said=("so", "far"),
        unsaid=("far",),
        interrupts=1,
        cut=("r",),
        stored=2,
        begun=3,
        begun_before=True,
        given=4,
        adding=5,
        waits=(
            WaitRow(call_id="c", id="p", kind="answer", until_ms=1, question="?", is_listed=True),
        ),
        settled=(SettledRow(call_id="c", kind="denied", by="eve", at_ms=2),),
        parked_ms=3,
        detached=True,
        gave_away=True,
        carried="words",
        already_in_thread=True,
        waiting_since_ms=6,
        refusals=7,
        passing=True,
        given_up="r",
        undecided_since_ms=8,
        shortened=10,
        origin="conv_1",
        error=ErrorInfo(code="x", message="y"),
        tries=(
            AttemptRow(
                number=1,
                started_ms=2,
                ended_ms=3,
                worker="host:1",
                run_id="r",
                error=ErrorInfo(code="x", message="y"),
            ),
        ),
        tools=(ToolRow(name="refund", ms=120), ToolRow(name="refund", ms=9, error="timeout")),
        run_sent_ms=12,
        first_text_ms=13,
        result=_result(),
        in_user_code=True,
        crashes_in_user_code=1,
        waits_for_exclusive=True,
        called="refund",
        called_ms=14,
    )
    assert set(json.loads(full.dump())) == STORED
    assert len(STORED) == len(fields(Progress))
    assert Progress.load(full.dump()) == full


def test_an_attribute_is_read_by_its_stored_name_alone() -> None:
    stored = '{"held":true,"calling":true,"guilt":2,"waits":true}'
    renamed = Progress(
        already_in_thread=True, in_user_code=True, crashes_in_user_code=2, waits_for_exclusive=True
    )
    assert Progress.load(stored) == renamed
    assert json.loads(renamed.dump()) == json.loads(stored)
    assert Progress.load('{"already_in_thread":true,"in_user_code":true}') == Progress()


@pytest.mark.parametrize("name", ["guilt", "attempts", "outputs"])
def test_a_value_of_a_wrong_type_is_named_as_it_is_stored(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Progress.load(json.dumps({name: "x"}))


def test_nothing_known_is_next_to_nothing_stored() -> None:
    assert Progress().dump() == "{}"
    assert Progress.load("") == Progress()


def test_tokens_stored_by_version_0_1_are_read_and_it_reads_those_of_this_one() -> None:
    usage = Progress.load('{"usage":[1,2,3]}').usage
    assert usage == Usage(input_tokens=1, output_tokens=2, total_tokens=3)
    counted = Usage(input_tokens=1, output_tokens=2, total_tokens=3, reasoning_tokens=9, model="m")
    row = json.loads(Progress(usage=counted).dump())["usage"]
    assert row[:3] == [1, 2, 3]  # version 0.1 reads no more than these
    assert Progress.load(json.dumps({"usage": [*row, "from the future"]})).usage == counted


def test_the_first_and_the_latest_attempts_are_kept() -> None:
    rows = [AttemptRow(number=number, started_ms=1) for number in range(100)]
    kept = bounded(rows)
    assert len(kept) == MOST_ROWS
    assert [row.number for row in kept[:2]] == [0, 100 - MOST_ROWS + 1]
    assert kept[-1].number == 99
    assert bounded(rows[:MOST_ROWS]) == tuple(rows[:MOST_ROWS])


def test_a_long_error_is_shortened_in_an_attempt() -> None:
    short = ErrorInfo(code="x", message="y")
    assert shortened(short) is short
    assert shortened(ErrorInfo(code="x", message="y" * 999)).message == "y" * 199 + "…"


@pytest.mark.parametrize("row", [[], [1], ["x", 2], [1, 2, 3, 4], 7])
def test_attempts_of_another_shape_are_refused(row: object) -> None:
    with pytest.raises(ValueError, match="not the progress of a batch"):
        Progress.load(json.dumps({"tries": [row]}))


@pytest.mark.parametrize("row", [[], ["x"], [1, 2], ["x", "y"], ["x", 2, 3], 7])
def test_tool_calls_of_another_shape_are_refused(row: object) -> None:
    with pytest.raises(ValueError, match="not the progress of a batch"):
        Progress.load(json.dumps({"tools": [row]}))


@pytest.mark.parametrize("row", [[], [1, 2], ["x", 2, 3], {"input_tokens": 1}, 7, [1, 2, 3, "x"]])
def test_tokens_of_another_shape_are_refused(row: object) -> None:
    with pytest.raises(ValueError, match="not the progress of a batch"):
        Progress.load(json.dumps({"usage": row}))


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
    assert moment(1_700_000_000_123) == datetime(2023, 11, 14, 22, 13, 20, 123000, tzinfo=UTC)


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
    """Every time that is kept, also one added later, is a deadline or lies in the past."""
    times = [one.name for one in fields(Progress) if one.name.endswith("_ms")]
    progress = Progress(**dict.fromkeys(times, 5000))
    progress.keep_past(2000, 1.0)
    assert {name: getattr(progress, name) for name in times} == {
        **dict.fromkeys(times, 2000),
        "deadline_ms": 3000,
    }
    known = Progress(sent_ms=1000, deadline_ms=1500)
    known.keep_past(2000, 1.0)
    assert known == Progress(sent_ms=1000, deadline_ms=1500)


def test_the_form_of_a_guests_round_stays() -> None:
    stored = (
        '{"run_id":"b-1","transcript":"[1,\\"s\\",{\\"c\\":[\\"c\\",\\"approval\\"]},[\\"c\\"],[]]",'
        '"outside":[["c","c-b","approval",1,"",1,1],["d","d-b","answer",1,"",1]],"gave_away":true}'
    )
    progress = Progress.load(stored)
    assert [row.is_guests for row in progress.waits] == [True, False]
    assert json.loads(progress.dump()) == json.loads(stored)
    found = StoredRound.load(progress.transcript)
    assert (found.state, found.calls, found.taken) == ("s", {"c": ("c", "approval")}, ("c",))
    assert found.dump() == progress.transcript
