"""The arguments of messages, before anything is queued."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from assistant_queue.client import arguments
from assistant_queue.errors import InvalidArgument
from assistant_queue.models import Message
from assistant_queue.store.message_codec import pack, unpack, unpack_readable
from assistant_queue.tools.outputs import UnwritableOutput, encode_output

HALF = "\ud83d"


def message(content: Any, author: Any = None) -> Message:
    return arguments.make_message(
        content, message_id=None, instructions=None, author=author, metadata=None
    )


def nested(levels: int) -> Any:
    value: Any = 1
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ({"type": "text"}, "'text' must be a string, not NoneType"),
        ({"type": "input_text", "text": 5}, "'text' must be a string, not int"),
        ({"type": "text", "text": {"value": "Hi"}}, "'text' must be a string, not dict"),
        ({"type": "text", "text": " \n"}, "hold no text"),
        ({"type": "x", "score": math.nan}, "cannot be written as JSON"),
        ({"type": "x", "score": math.inf}, "cannot be written as JSON"),
        ({"type": "x", "seen": {1, 2}}, "cannot be written as JSON"),
        ({"type": "x", 5: 1}, "a key that is not a string"),
        ({"type": "x", "inner": [{"a": {5: 1}}]}, "a key that is not a string"),
        ({"type": "x", "name": HALF}, "half of a surrogate pair"),
    ],
)
def test_a_content_part_that_no_provider_can_be_sent_is_refused(part: Any, says: str) -> None:
    with pytest.raises(InvalidArgument, match=says):
        message([part])


@pytest.mark.parametrize("levels", [arguments.MAX_DEPTH, 900, 100_000])
def test_a_content_part_that_a_worker_could_not_read_again_is_refused(levels: int) -> None:
    with pytest.raises(InvalidArgument, match="nested more than"):
        message([{"type": "x", "value": nested(levels)}])


def test_a_content_part_that_holds_itself_is_refused() -> None:
    part: dict[str, Any] = {"type": "x"}
    part["self"] = part
    with pytest.raises(InvalidArgument, match="nested more than"):
        message([part])


def test_a_content_part_of_as_many_levels_as_are_allowed_is_taken_and_read_again() -> None:
    taken = message([{"type": "x", "value": nested(arguments.MAX_DEPTH - 2)}])
    assert unpack(pack(taken)) == taken


def test_an_entry_that_is_nested_too_deep_is_foreign_and_stops_no_call() -> None:
    deep = '{"id":"a","c":' + "[" * 100_000 + "]" * 100_000 + "}"
    assert unpack_readable([deep, pack(message("Hi"))])[1] == 1


@pytest.mark.parametrize("name", ["نی\u200cکو", "👩\u200d👩\u200d👧", "O'Neil-Żółć", "李雷"])
def test_names_of_all_languages_are_names(name: str) -> None:
    assert message("Hi", author=name).author == name


@pytest.mark.parametrize(
    "name", ["", " ", "a\nb", "a\x00", "a\u202eb", "\u200d", "x" * 129, HALF, 5, b"Mia"]
)
def test_what_is_no_name_on_one_line_is_refused(name: Any) -> None:
    with pytest.raises(InvalidArgument, match="author"):
        message("Hi", author=name)


def recursive() -> Any:
    value: list[Any] = []
    value.append(value)
    return value


@pytest.mark.parametrize(
    "make",
    [lambda: nested(100_000), recursive],
    ids=["deep", "recursive"],
)
def test_an_output_of_a_tool_that_is_no_json_is_refused(make: Callable[[], Any]) -> None:
    with pytest.raises(UnwritableOutput, match="as JSON: "):
        encode_output(make())


@pytest.mark.parametrize("output", [f"a{HALF}b", {"said": f"a{HALF}b"}])
def test_half_a_surrogate_pair_in_an_output_is_a_question_mark(output: Any) -> None:
    assert "a?b" in encode_output(output)


@pytest.mark.parametrize(
    "value", [None, "5", -1, math.nan, math.inf, 1e300, 10**400, True, "x" * 100_000, b"5"]
)
def test_what_is_no_time_to_wait_is_refused_in_few_words(value: Any) -> None:
    with pytest.raises(InvalidArgument, match="timeout must be a number of seconds") as caught:
        arguments.check_timeout(value)
    assert len(str(caught.value)) < 200
