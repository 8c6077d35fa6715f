"""Tokens of a run, from the provider's answers to `RunResult.usage`, on every protocol."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from assistant_queue import AssistantMessageQueue, Batch, RunContext, RunResult, Usage
from assistant_queue.backends.openai.token_usage import usage_of
from assistant_queue.errors import RunFailed
from assistant_queue.testing.provider import Reply, RunFailure, Tokens, ToolCalls, say_in_order
from assistant_queue.testing.rehearsal import Rehearsal

Begin = Callable[..., Rehearsal]
TOOL_ROUND = ToolCalls([("weather", {})], tokens=Tokens(cached=10, cache_write=20, reasoning=30))
ANSWER = Reply("It rains.", tokens=Tokens(cached=100, cache_write=200, reasoning=300))
OPTIONS: dict[str, dict[str, Any]] = {
    "responses": {"model": "m-1"},
    "assistants": {"assistant_id": "asst_1"},
    "chat_completions": {"model": "m-1", "protocol": "chat_completions"},
}


@pytest.fixture
def results() -> list[RunResult]:
    return []


@pytest.fixture
def begin(results: list[RunResult]) -> Iterator[Begin]:
    with ExitStack() as stack:

        def start(says: Any = None, **options: Any) -> Rehearsal:
            queue = AssistantMessageQueue(on_reply=results.append, message_delay=0, **options)
            stack.callback(queue.close)

            @queue.tool
            def weather() -> str:
                return "rain"

            return stack.enter_context(Rehearsal(queue, **({"model": says} if says else {})))

        yield start


@pytest.mark.parametrize("protocol", ["responses", "chat_completions"])
def test_the_tokens_of_all_rounds_are_added_up_with_their_parts(
    begin: Begin, results: list[RunResult], protocol: str
) -> None:
    options = OPTIONS[protocol] | {"run_options": {"service_tier": "flex"}}
    play = begin(say_in_order(TOOL_ROUND, ANSWER), **options)
    play.ask("ann", "rain?")
    (result,) = results
    usage = result.usage
    assert usage is not None
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (
        110,
        220,
        330,
    )
    assert (usage.rounds, usage.model, usage.service_tier) == (2, "m-1", "flex")
    assert usage.input_tokens > 110 + 220
    assert usage.output_tokens > 330
    assert usage.total_tokens == usage.input_tokens + usage.output_tokens


def test_a_run_of_assistants_counts_its_rounds_together_and_has_no_parts(
    begin: Begin, results: list[RunResult]
) -> None:
    begin(say_in_order(TOOL_ROUND, ANSWER), **OPTIONS["assistants"]).ask("ann", "rain?")
    (result,) = results
    usage = result.usage
    assert usage is not None
    assert usage.input_tokens > 110 + 220
    assert usage.output_tokens > 330
    assert (usage.rounds, usage.service_tier) == (2, None)
    assert usage.model is not None
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == (
        0,
        0,
        0,
    )


@pytest.mark.parametrize("protocol", list(OPTIONS))
def test_an_attempt_that_failed_leaves_no_tokens(
    begin: Begin, results: list[RunResult], protocol: str
) -> None:
    model = say_in_order(RunFailure(), TOOL_ROUND, RunFailure(), ANSWER)
    begin(model, **OPTIONS[protocol]).ask("ann", "rain?")
    (result,) = results
    assert result.usage is not None
    # Only a round that is stored here keeps its tokens: the others end with their run, or are found
    # again by their items, which have none.
    is_stored = protocol == "chat_completions"
    assert result.usage.rounds == (2 if is_stored else 1)
    if protocol != "assistants":
        assert result.usage.cached_input_tokens == (110 if is_stored else 100)


def test_a_function_reports_the_tokens_of_the_calls_it_makes(
    begin: Begin, results: list[RunResult]
) -> None:
    calls: list[int] = []

    def answer(batch: Batch, context: RunContext) -> str:
        calls.append(1)
        assert context.usage is None
        context.add_usage(Usage(input_tokens=5, reasoning_tokens=1, total_tokens=7, model="m-1"))
        if len(calls) == 1:
            raise RunFailed("not now")
        context.add_usage(Usage(input_tokens=50, output_tokens=2, total_tokens=52, rounds=3))
        return "done"

    play = begin(backend=answer)
    assert play.ask("ann", "hello") == "done"
    (result,) = results
    assert result.usage == Usage(
        input_tokens=55,
        output_tokens=2,
        reasoning_tokens=1,
        total_tokens=59,
        rounds=4,
        model="m-1",
    )


def test_a_function_that_reports_nothing_has_no_usage(
    begin: Begin, results: list[RunResult]
) -> None:
    begin(backend=lambda batch: "done").ask("ann", "hello")
    assert results[0].usage is None


@pytest.mark.parametrize(
    ("given", "parts"),
    [
        ({"prompt_tokens_details": {"cached_tokens": 3, "cache_write_tokens": 4}}, (3, 4, 0)),
        ({"input_tokens_details": {"cached_tokens": 3}}, (3, 0, 0)),
        ({"output_tokens_details": {"reasoning_tokens": 5}}, (0, 0, 5)),
        ({"completion_tokens_details": {"reasoning_tokens": "5"}}, (0, 0, 5)),
        ({"prompt_cache_hit_tokens": 3, "prompt_cache_miss_tokens": 9}, (3, 0, 0)),
        ({"cache_read_input_tokens": 3, "cache_creation_input_tokens": 4}, (3, 4, 0)),
        ({"cached_tokens": 3, "reasoning_tokens": 5}, (3, 0, 5)),
        ({"prompt_tokens_details": None, "completion_tokens_details": [1]}, (0, 0, 0)),
        ({"prompt_tokens_details": {"cached_tokens": None}}, (0, 0, 0)),
        ({"prompt_tokens_details": {"cached_tokens": -3}}, (0, 0, 0)),
    ],
)
def test_the_parts_are_found_in_every_spelling(
    given: dict[str, Any], parts: tuple[int, int, int]
) -> None:
    usage = usage_of({"prompt_tokens": 10, "completion_tokens": 10, **given})
    assert usage is not None
    assert (usage.cached_input_tokens, usage.cache_write_tokens, usage.reasoning_tokens) == parts
    assert (usage.input_tokens, usage.output_tokens, usage.total_tokens) == (10, 10, 20)


@pytest.mark.parametrize("name", [None, "", 7, [], "x" * 201])
def test_a_name_that_cannot_be_kept_is_left_out(name: object) -> None:
    usage = usage_of({"total_tokens": 1}, model=name, service_tier=name)
    assert usage is not None
    assert (usage.model, usage.service_tier) == (None, None)
