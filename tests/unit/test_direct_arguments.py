"""The arguments of direct calls, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest

from assistant_queue.client import arguments, provider_call_arguments
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import ToolOutput

HALF = "\ud83d"


def test_outputs_become_one_string_for_each_call_in_the_order_given() -> None:
    made = provider_call_arguments.make_outputs(
        [
            {"tool_call_id": "b", "output": "as it is"},
            ToolOutput("a", {"größe": [1, 2]}),
            {"tool_call_id": "c", "output": None},
            ToolOutput("d", ""),
        ]
    )
    assert list(made.items()) == [
        ("b", "as it is"),
        ("a", '{"größe":[1,2]}'),
        ("c", "null"),
        ("d", ""),
    ]


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ("text", "must be a list"),
        ({"tool_call_id": "a", "output": "x"}, "must be a list"),
        (None, "must be a list"),
        ([], "is empty"),
        (["x"], "output 0 must be a dict"),
        ([ToolOutput("a", "x"), {"tool_call_id": "b"}], "output 1 must be a dict"),
        ([{"tool_call_id": "a", "output": "x", "error": "y"}], "output 0 must be a dict"),
        ([{"tool_call_id": 7, "output": "x"}], "tool_call_id of output 0 must be a string"),
        ([ToolOutput("", "x")], "tool_call_id of output 0 must have 1 to 512"),
        ([ToolOutput("a", "x"), ToolOutput("a", "y")], "two outputs for call 'a'"),
        ([ToolOutput("a", object())], "call 'a' cannot be written as JSON"),
        ([ToolOutput("a", HALF)], "half of a surrogate pair"),
    ],
)
def test_outputs_that_cannot_be_sent_are_refused(outputs: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        provider_call_arguments.make_outputs(outputs)


@pytest.mark.parametrize("run_id", ["run_1", "resp_68a-b_c", "run:1.2"])
def test_a_run_id_is_taken_as_it_is(run_id: str) -> None:
    assert provider_call_arguments.check_run_id(run_id) == run_id


@pytest.mark.parametrize(
    "run_id",
    [
        "",
        None,
        7,
        "a/b",
        "../x",
        "a?b",
        "a#b",
        "a%2Fb",
        "a\\b",
        "a b",
        "a\nb",
        "a\x00",
        "x" * 513,
        HALF,
    ],
)
def test_a_run_id_that_would_lead_elsewhere_is_refused(run_id: Any) -> None:
    with pytest.raises(InvalidArgument, match="run_id"):
        provider_call_arguments.check_run_id(run_id)


def test_the_order_of_a_page_is_one_of_two() -> None:
    assert [provider_call_arguments.check_order(order) for order in ("asc", "desc")] == [
        "asc",
        "desc",
    ]
    for order in ("ASC", "", None, 1, ["asc"]):
        with pytest.raises(InvalidArgument, match=r"order must be 'asc' .* or 'desc'"):
            provider_call_arguments.check_order(order)


def test_a_cursor_is_an_id_or_none() -> None:
    assert provider_call_arguments.check_cursor(None, "after") is None
    assert provider_call_arguments.check_cursor("msg_1", "after") == "msg_1"
    for cursor in ("", 7, HALF):
        with pytest.raises(InvalidArgument, match="before"):
            provider_call_arguments.check_cursor(cursor, "before")


def test_tools_are_a_list_of_definitions() -> None:
    tool = {"type": "function", "name": "order"}
    assert provider_call_arguments.check_tools(None) is None
    assert provider_call_arguments.check_tools([]) == []
    taken = provider_call_arguments.check_tools((tool,))
    assert taken == [tool]
    assert taken is not None
    assert taken[0] is not tool


@pytest.mark.parametrize(
    ("tools", "words"),
    [
        ("order", "must be a list"),
        ({"type": "function"}, "must be a list"),
        ([{"type": "function"}, "order"], "tool 1 must be a dict with a 'type'"),
        ([{"name": "order"}], "tool 0 must be a dict with a 'type'"),
        ([{"type": "function", "parameters": object()}], "cannot be written as JSON"),
        ([{"type": "function"}] * 129, "the limit is 128"),
    ],
)
def test_tools_that_cannot_be_sent_are_refused(tools: Any, words: str) -> None:
    with pytest.raises(InvalidArgument, match=words):
        provider_call_arguments.check_tools(tools)


def test_content_metadata_and_instructions_are_as_for_messages() -> None:
    assert arguments.check_content("hello") == "hello"
    assert arguments.check_metadata(None) == {}
    assert arguments.check_metadata({"a": "b"}) == {"a": "b"}
    assert arguments.check_instructions(None) is None
    assert arguments.check_instructions("Be brief.") == "Be brief."
    for check, value in (
        (arguments.check_content, " "),
        (arguments.check_content, []),
        (arguments.check_metadata, {"a": 1}),
        (arguments.check_metadata, {str(number): "" for number in range(15)}),
        (arguments.check_instructions, ""),
    ):
        with pytest.raises(InvalidArgument):
            check(value)
