"""Tool calls out of the pieces in which servers send them: each server's own way comes to the same calls."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.backends.chat_completions.call_pieces import CallPieces, number_of
from assistant_queue.backends.openai.call_arguments import for_function, for_server, settled

ROME = '{"city": "Rome"}'
OSLO = '{"city": "Oslo"}'
WEATHER_IN_ROME = [("call_a", "weather", ROME)]


def piece(
    name: str | None = None,
    arguments: Any = None,
    ident: Any = None,
    index: Any = None,
    **more: Any,
) -> dict[str, Any]:
    """A piece of a call, without the fields that are None."""
    function = {
        key: value
        for key, value in {"name": name, "arguments": arguments}.items()
        if value is not None
    }
    fields = {"index": index, "id": ident, **({"function": function} if function else {}), **more}
    return {key: value for key, value in fields.items() if value is not None}


def calls_of(*deltas: Any) -> list[tuple[str | None, str, str]]:
    """The calls of deltas; one piece stands for a list of it."""
    pieces = CallPieces()
    for delta in deltas:
        pieces.add([delta] if isinstance(delta, dict) else delta)
    return [
        (call.get("id"), call["function"]["name"], call["function"]["arguments"])
        for call in pieces.written()
    ]


# --- which piece belongs to which call ------------------------------------------------------------


@pytest.mark.parametrize("index", [0, "0", 0.0, None, 3])
def test_a_call_in_pieces_is_one_call_under_any_index(index: Any) -> None:
    begun = piece("weather", "", "call_a", index, type="function")
    assert (
        calls_of(
            begun, *(piece(arguments=part, index=index) for part in (ROME[:3], ROME[3:9], ROME[9:]))
        )
        == WEATHER_IN_ROME
    )


@pytest.mark.parametrize(
    "indexes", [(0, 0), (None, None), ("0", "0"), (1, 2), (0, 7), (5, 0), (0, None)]
)
def test_another_id_begins_another_call_whatever_the_index_says(indexes: tuple[Any, Any]) -> None:
    whole = [
        piece("weather", ROME, "call_a", indexes[0]),
        piece("weather", OSLO, "call_b", indexes[1]),
    ]
    both = [*WEATHER_IN_ROME, ("call_b", "weather", OSLO)]
    assert calls_of(*whole) == both
    assert calls_of(whole) == both  # in one delta


@pytest.mark.parametrize("repeats", [{}, {"name": "weather"}, {"type": "function"}])
def test_an_id_in_each_piece_is_one_call(repeats: dict[str, Any]) -> None:
    name = repeats.get("name")
    more = {"type": "function"} if "type" in repeats else {}
    assert (
        calls_of(
            *(piece(name or "weather", part, "call_a", 0, **more) for part in (ROME[:5], ROME[5:]))
        )
        == WEATHER_IN_ROME
    )


def test_an_id_in_each_piece_distinguishes_calls_under_any_index() -> None:
    """The index of the later pieces is another one than that of the first."""
    deltas = [
        piece("weather", "", "call_a", 0),
        piece("clock", "", "call_b", 0),
        piece(arguments=ROME, ident="call_a", index=1),
        piece(arguments="{}", ident="call_b", index=0),
    ]
    assert calls_of(*deltas) == [*WEATHER_IN_ROME, ("call_b", "clock", "{}")]


def test_the_same_call_under_several_indexes_is_one() -> None:
    deltas = [
        piece("weather", "", "call_a", 0),
        piece("weather", ROME, "call_a", 1),
        piece("weather", ROME, "call_a", 2),
    ]
    assert calls_of(*deltas) == WEATHER_IN_ROME


def test_calls_with_one_id_and_different_names_are_different() -> None:
    assert calls_of(piece("weather", ROME, "x", 0), piece("clock", "{}", "x", 0)) == [
        ("x", "weather", ROME),
        ("x", "clock", "{}"),
    ]
    assert calls_of(
        piece("weather", "", "x", 0),
        piece("clock", "", "x", 1),
        piece(arguments=ROME, index=0),
        piece(arguments="{}", index=1),
    ) == [
        ("x", "weather", ROME),
        ("x", "clock", "{}"),
    ]


def test_an_id_made_up_for_each_piece_does_not_cut_a_call() -> None:
    assert calls_of(
        *(
            piece("weather" if place == 0 else None, part, f"r{place}", 0)
            for place, part in enumerate(("", ROME[:4], ROME[4:]))
        )
    ) == [("r0", "weather", ROME)]


def test_the_rest_of_a_call_may_come_under_an_index_never_seen() -> None:
    deltas = [
        piece("weather", ROME, "call_a", 0),
        piece("weather", OSLO[:4], "call_b", 0),
        piece(arguments=OSLO[4:], index=1),
    ]
    assert calls_of(*deltas) == [*WEATHER_IN_ROME, ("call_b", "weather", OSLO)]


def test_pieces_of_calls_may_alternate() -> None:
    deltas = [
        [piece("weather", "", "call_a", 0), piece("weather", "", "call_b", 1)],
        [piece(arguments=ROME[:6], index=0), piece(arguments=OSLO[:6], index=1)],
        piece(arguments=OSLO[6:], index=1),
        piece(arguments=ROME[6:], index=0),
    ]
    assert calls_of(*deltas) == [*WEATHER_IN_ROME, ("call_b", "weather", OSLO)]


def test_calls_without_ids_are_distinguished_by_index_place_or_completeness() -> None:
    both = [(None, "weather", ROME), (None, "weather", OSLO)]
    rome, oslo = piece("weather", ROME), piece("weather", OSLO)
    assert calls_of({**rome, "index": 0}, {**oslo, "index": 1}) == both
    assert calls_of([rome, oslo]) == both
    assert calls_of(rome, oslo) == both
    assert calls_of({**rome, "index": 0}, {**oslo, "index": 0}) == both
    assert (
        calls_of(
            [piece("weather", ""), piece("weather", "")],
            [piece(arguments=ROME), piece(arguments=OSLO)],
        )
        == both
    )
    assert calls_of(rome, rome) == both[:1]


def test_an_id_may_come_late() -> None:
    assert (
        calls_of(piece("weather", "", index=0), piece(arguments=ROME, ident="call_a", index=0))
        == WEATHER_IN_ROME
    )
    assert calls_of(piece("weather", ""), piece(arguments=ROME, ident="call_a")) == WEATHER_IN_ROME


def test_a_number_is_an_id() -> None:
    assert calls_of(piece("weather", ROME, 7), piece("weather", OSLO, 8)) == [
        ("7", "weather", ROME),
        ("8", "weather", OSLO),
    ]


# --- fields ---------------------------------------------------------------------------------------


def function(arguments: str) -> dict[str, Any]:
    return {"function": {"name": "weather", "arguments": arguments}}


@pytest.mark.parametrize("blank", ["", " ", None])
def test_blank_fields_say_nothing(blank: str | None) -> None:
    pieces = CallPieces()
    pieces.add([piece("weather", "", "call_a", 0, type="function", extra={"signature": "s"})])
    for part in (ROME[:4], ROME[4:]):
        pieces.add(
            [
                {
                    "index": 0,
                    "id": blank,
                    "type": blank,
                    "function": {"name": blank, "arguments": part},
                    "extra": None,
                }
            ]
        )
    assert pieces.written() == (
        {"id": "call_a", "type": "function", "extra": {"signature": "s"}, **function(ROME)},
    )


@pytest.mark.parametrize(
    "names",
    [
        ("weather",),
        ("weather", "weather"),
        ("wea", "ther"),
        ("wea", "weather"),
        ("weather", "", None),
    ],
)
def test_a_name_comes_whole_again_or_in_pieces(names: tuple[str | None, ...]) -> None:
    assert (
        calls_of(*(piece(name, "", "call_a", 0) for name in names), piece("weather", ROME, index=0))
        == WEATHER_IN_ROME
    )


def test_a_name_may_come_without_a_function_around_it() -> None:
    assert calls_of({"id": "call_a", "name": "weather", "arguments": ROME}) == WEATHER_IN_ROME


@pytest.mark.parametrize("nothing", [None, [], "x", 7, [None, "x", 7], {}])
def test_what_is_no_call_is_none(nothing: Any) -> None:
    pieces = CallPieces()
    pieces.add(nothing)
    assert len(pieces.written()) == (nothing == {})


def test_the_old_form_is_a_call_too_unless_there_are_others() -> None:
    pieces = CallPieces()
    for one in (
        {"name": "weather", "arguments": ""},
        {"arguments": ROME[:5]},
        {"name": "", "arguments": ROME[5:]},
    ):
        pieces.add_legacy(one)
    assert pieces.written() == ({"type": "function", **function(ROME)},)
    pieces = CallPieces()
    pieces.add([piece("weather", ROME, "call_a", 0)])
    pieces.add_legacy({"name": "weather", "arguments": ROME})
    assert len(pieces.written()) == 1


# --- arguments ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        (ROME,),
        (ROME[:4], ROME[4:]),
        (ROME[:4], ROME[4:], ROME),
        (ROME[:4], ROME[4:], ROME[:4], ROME[4:]),
        (ROME, '{"city":"Rome"}', ROME),
        ("{}", ROME),
        ("{}", ROME[:4], ROME[4:]),
        (ROME, "}"),
        (ROME, " "),
        (ROME, json.dumps(ROME)),
        (json.dumps(ROME),),
        ({"city": "Rome"},),
        ({"city": "Rome"}, {"city": "Rome"}),
        ("", None, ROME),
    ],
)
def test_the_function_gets_its_arguments_once(sent: tuple[Any, ...]) -> None:
    deltas = [
        piece("weather", "", "call_a", 0),
        *({"index": 0, "function": {"arguments": part}} for part in sent),
    ]
    ((_, _, arguments),) = calls_of(*deltas)
    assert json.loads(arguments) == {"city": "Rome"}


@given(
    st.dictionaries(
        st.text(max_size=4),
        st.recursive(
            st.text(max_size=5) | st.integers(),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(st.text(max_size=3), inner, max_size=2)
            ),
        ),
        max_size=3,
    ),
    st.lists(st.integers(0, 200), max_size=8),
)
def test_arguments_are_the_same_in_whatever_pieces(
    arguments: dict[str, Any], cuts: list[int]
) -> None:
    text = json.dumps(arguments)
    places = sorted({0, len(text), *(cut % (len(text) + 1) for cut in cuts)})
    parts = [text[start:end] for start, end in itertools.pairwise(places)]
    assert calls_of(
        piece("f", "", "a", 0), *(piece(arguments=part, index=0) for part in parts)
    ) == [("a", "f", text)]


@pytest.mark.parametrize("text", ['{"a": ', "[1, 2]", "hello", "", " ", "7", '"text"'])
def test_arguments_that_are_no_object_are_left_as_they_are(text: str) -> None:
    assert settled(text) == text


@pytest.mark.parametrize(
    ("arguments", "seen", "sent"),
    [
        ("", "{}", "{}"),
        (" \n", "{}", "{}"),
        (ROME, ROME, ROME),
        ('{"a": ', '{"a": ', "{}"),
        ("[1]", "[1]", "{}"),
        ("null", "null", "{}"),
        ('{"a": "\\ud83d\\ude00"}', '{"a": "\\ud83d\\ude00"}', '{"a": "\\ud83d\\ude00"}'),
        ('{"a": "\\ud83d"}', '{"a": "\ufffd"}', '{"a": "\ufffd"}'),
    ],
)
def test_a_function_gets_what_the_model_wrote_and_the_server_an_object(
    arguments: str, seen: str, sent: str
) -> None:
    assert for_function(arguments) == seen
    assert for_server(arguments) == sent


def test_arguments_kept_as_an_object_are_sent_as_text() -> None:
    assert for_server({"city": "Rome"}) == ROME
    assert for_server(None) == "{}"


@pytest.mark.parametrize(
    ("index", "number"),
    [
        (0, 0),
        ("1", 1),
        (2.0, 2),
        (2.5, None),
        ("x", None),
        ("", None),
        (None, None),
        (True, None),
        ([], None),
    ],
)
def test_an_index_is_a_number_in_any_spelling(index: Any, number: int | None) -> None:
    assert number_of(index) == number
