"""Bodies as events: every spelling of a stream, every form of JSON, and no difference how the bytes arrive."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from assistant_queue.backends.openai.event_parser import EventParser
from assistant_queue.backends.openai.wire_events import UnreadableAnswer

Told = tuple[list[tuple[str, Any]], bool, bool]


def read(*chunks: bytes) -> Told:
    """The events, whether the server said that it is done, and whether the body could not be read to its end."""
    parser = EventParser()
    found: list[tuple[str, Any]] = []
    is_broken = False
    try:
        for chunk in chunks:
            found += [(event.name, event.data) for event in parser.feed(chunk)]
        found += [(event.name, event.data) for event in parser.close()]
    except UnreadableAnswer:
        is_broken = True
    return found, parser.is_done, is_broken


def data_of(body: bytes) -> list[Any]:
    found, _, is_broken = read(body)
    assert not is_broken
    return [data for _, data in found]


def pieces(body: bytes, cuts: list[int]) -> Iterator[bytes]:
    places = sorted({0, len(body), *(cut % (len(body) + 1) for cut in cuts)})
    for start, end in itertools.pairwise(places):
        yield body[start:end]


# --- how the bytes are cut ------------------------------------------------------------------------


texts = st.text(st.characters(codec="utf-8"), max_size=12) | st.sampled_from(
    ["[DONE]", "\u2028", "😀", '"}{["\\', "data: x", "\n\n"]
)
halves = st.sampled_from(["\ud83d", "\ude00", "a\ud83d", "\ude00b", "\ud83d\ude00"])


def objects_of(words: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | words,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=3),
        max_leaves=6,
    )
    return st.dictionaries(st.sampled_from(["id", "type", "text", "choices"]), values, max_size=3)


objects = objects_of(texts | halves)


@st.composite
def streams(draw: st.DrawFn) -> bytes:
    """A stream in one of the many spellings, its end perhaps missing."""
    out = draw(st.sampled_from([b"", b"\xef\xbb\xbf", b"\n", b": hello\n\n"]))
    ends = draw(st.sampled_from([[b"\n"], [b"\r\n"], [b"\r"], [b"\n", b"\r\n", b"\r"]]))

    def line(text: bytes) -> bytes:
        return text + draw(st.sampled_from(ends))

    for value in draw(st.lists(objects, max_size=5)):
        written = json.dumps(
            value, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, 1]))
        )
        blank = draw(st.sampled_from([b"", b" "]))
        if draw(st.booleans()):
            out += line(
                b"event:"
                + blank
                + draw(st.sampled_from([b"delta", b"message", b"error", "ü".encode(), b"\xff"]))
            )
        for part in written.encode("utf-8", "surrogatepass").split(b"\n"):
            out += line(b"data:" + blank + part)
        out += line(b"") + draw(
            st.sampled_from(
                [
                    b"",
                    line(b": ping"),
                    line(b"retry: 5"),
                    line(b"unknown"),
                    line(b"data: ping") + line(b""),
                ]
            )
        )
    out += draw(
        st.sampled_from(
            [
                b"",
                line(b"data: [DONE]") + line(b""),
                b"data: [DONE]",
                b'data: {"cut": "of',
                b'data: {"late": 1}',
            ]
        )
    )
    return out


@st.composite
def json_bodies(draw: st.DrawFn) -> bytes:
    """JSON instead of a stream, perhaps broken off."""
    made = draw(st.lists(objects, min_size=1, max_size=4))
    indent = draw(st.sampled_from([None, 2]))
    written = [json.dumps(one, ensure_ascii=draw(st.booleans()), indent=indent) for one in made]
    body = draw(
        st.sampled_from(
            [
                written[0],
                "[" + ",\r\n".join(written) + "]",
                "\n".join(written),
                "\n".join(written) + "\n[DONE]\n",
            ]
        )
    )
    whole = body.encode("utf-8", "surrogatepass")
    return draw(st.sampled_from([b"", b"\xef\xbb\xbf", b" \n"])) + (
        whole if draw(st.booleans()) else whole[: draw(st.integers(1, len(whole)))]
    )


@given(
    streams() | json_bodies() | st.binary(max_size=60), st.lists(st.integers(0, 1000), max_size=12)
)
@example(b'data: {"a": 1}\r\n\r\n', [15])
@example(b"\xef\xbb\xbfdata: {}\n\n", [1, 2])
@example(b'{"a": "\\"}"}', [8])
def test_how_the_bytes_are_cut_makes_no_difference(body: bytes, cuts: list[int]) -> None:
    whole = read(body)
    assert read(*pieces(body, cuts)) == whole
    assert read(*(body[place : place + 1] for place in range(len(body)))) == whole
    for _, data in whole[0]:
        json.dumps(
            data, ensure_ascii=False, allow_nan=False
        ).encode()  # nothing that cannot be written again


@given(
    st.lists(objects_of(texts), max_size=4), st.sampled_from(["\n", "\r\n", "\r"]), st.booleans()
)
def test_all_that_was_sent_arrives_in_order(
    sent: list[dict[str, Any]], end: str, is_array: bool
) -> None:
    written = [json.dumps(one, ensure_ascii=False) for one in sent]
    body = (
        "[" + ",".join(written) + "]"
        if is_array
        else "".join(f"data: {one}{end}{end}" for one in written)
    )
    assert data_of(body.encode()) == sent


# --- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'data: {"a": 1}\n\ndata: {"b": 2}\n\n', [{"a": 1}, {"b": 2}]),
        (b'data: {"a": 1}\r\n\r\ndata: {"b": 2}\r\n\r\n', [{"a": 1}, {"b": 2}]),
        (b'data: {"a": 1}\r\rdata: {"b": 2}\r\r', [{"a": 1}, {"b": 2}]),
        (b'data: {"a": 1}\n\r\ndata: {"b": 2}\r\n\r', [{"a": 1}, {"b": 2}]),
        (b'\xef\xbb\xbfdata: {"a": 1}\n\n', [{"a": 1}]),
        (b'data:{"a": 1}\n\n', [{"a": 1}]),
        (b'data:  {"a": 1}  \n\n', [{"a": 1}]),
        (b'data: {"a":\ndata: 1}\n\n', [{"a": 1}]),
        (b'data: {\ndata:   "a": [\ndata: ]\ndata: }\n\n', [{"a": []}]),
        (b'data: {"a": 1}', [{"a": 1}]),
        (b'data: {"a": 1}\n', [{"a": 1}]),
        (b'data: {"a": 1}\ndata: {"b": 2}\ndata: [DONE]\n', [{"a": 1}, {"b": 2}]),
        (b': ping\n\nid: 7\nretry: 5\nfoo: bar\n\ndata: {"a": 1}\n\n: bye\n\n', [{"a": 1}]),
        (
            b'data: ping\n\ndata: "hello"\n\ndata: 7\n\ndata: null\n\ndata:\n\ndata: {"a": 1}\n\n',
            [{"a": 1}],
        ),
        (
            b'data: {"a": NaN, "b": -Infinity, "c": 1e999, "d": 1.5}\n\n',
            [{"a": None, "b": None, "c": None, "d": 1.5}],
        ),
        (b'data: {"a": 1, "a": 2}\n\n', [{"a": 2}]),
        (b'data: [{"a": 1}, {"b": 2}, 3]\n\n', [{"a": 1}, {"b": 2}]),
        (b'data: {"a": "tab\there"}\n\n', [{"a": "tab\there"}]),
        (b'data: {"a": "\xff"}\n\n', [{"a": "\ufffd"}]),
        (b'data: {"a": 1}\n\n{"error": {"code": 500}}\n', [{"a": 1}, {"error": {"code": 500}}]),
        (b'data: {"a": "one\xe2\x80\xa8two\xc2\x85three"}\n\n', [{"a": "one\u2028two\u0085three"}]),
    ],
)
def test_a_stream_is_read_in_every_spelling(body: bytes, expected: list[Any]) -> None:
    assert data_of(body) == expected


@pytest.mark.parametrize(
    "end",
    [
        b"data: [DONE]\n\n",
        b"data:[DONE]\n\n",
        b"data: [DONE]\n",
        b"data: [DONE]",
        b'data: "[DONE]"\n\n',
        b"data: [done]\n\n",
    ],
)
def test_nothing_is_read_after_the_end_that_the_server_names(end: bytes) -> None:
    assert read(b'data: {"a": 1}\n\n' + end) == ([("", {"a": 1})], True, False)
    assert read(b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n', b'data: {"c": 3}\n\n') == (
        [("", {"a": 1})],
        True,
        False,
    )


def test_the_end_is_known_before_its_blank_line() -> None:
    parser = EventParser()
    parser.feed(b'data: {"a": 1}\n\ndata: [DONE]\n')
    assert parser.is_done


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b'event: delta\ndata: {"type": "x"}\n\n', "delta"),
        (b'data: {"type": "x"}\nevent: delta\n\n', "delta"),
        (b'event: message\ndata: {"type": "x"}\n\n', "x"),
        (b'data: {"type": "x"}\n\n', "x"),
        (b'data: {"type": 7}\n\n', ""),
        (b'event: delta\n\ndata: {"a": 1}\n\n', ""),
    ],
)
def test_an_event_is_called_by_its_name_or_else_by_its_type(body: bytes, name: str) -> None:
    assert [found for found, _ in read(body)[0]] == [name]


@pytest.mark.parametrize(
    ("body", "data"),
    [
        (b"event: error\ndata: upstream timed out\n\n", {"error": "upstream timed out"}),
        (b'event: error\ndata: "upstream timed out"\n\n', {"error": "upstream timed out"}),
        (b'event: error\ndata: {"message": "no"}\n\n', {"message": "no"}),
        (b'error: {"message": "no"}\n\n', {"message": "no"}),
    ],
)
def test_an_error_is_an_error_in_whatever_form_it_comes(body: bytes, data: Any) -> None:
    assert read(body)[0] == [("error", data)]


@pytest.mark.parametrize(
    "body",
    [
        b'data: {"a": 1}\n\ndata: {"b": "broken o',
        b'data: {"a": 1}\n\ndata: {"b": }\n\n',
        b'data: {"a": 1}\n\n<html>bad gateway</html>\n',
        b'data: {"a": 1}\n\ndata: {"b": 2}}\n\n',
        b'data: {"a": 1}\n\ndata: ' + b'{"b":' * 100_000 + b"\n\n",
    ],
)
def test_what_is_broken_off_is_no_end(body: bytes) -> None:
    assert read(body) == ([("", {"a": 1})], False, True)


# --- JSON -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'{"a": 1}', [{"a": 1}]),
        (b'\xef\xbb\xbf\r\n {\n  "a": {\n    "b": "}{][\\""\n  }\n}\n\n', [{"a": {"b": '}{]["'}}]),
        (b'[{"a": 1},\n{"b": [1, {}]}\n]', [{"a": 1}, {"b": [1, {}]}]),
        (b'[[{"a": 1}], 7, "x", {"b": 2}]', [{"a": 1}, {"b": 2}]),
        (b'{"a": 1}\n{"b": 2}\n', [{"a": 1}, {"b": 2}]),
        (b"[]", []),
    ],
)
def test_json_is_read_in_place_of_a_stream(body: bytes, expected: list[Any]) -> None:
    assert data_of(body) == expected


def test_an_object_is_read_when_its_last_bracket_is_there() -> None:
    parser = EventParser()
    assert [event.data for event in parser.feed(b'[{"a": 1}')] == [{"a": 1}]
    assert parser.feed(b',{"b": ') == []
    assert [event.data for event in parser.feed(b"2}")] == [{"b": 2}]
    assert not parser.is_whole
    parser = EventParser()
    parser.feed(b'{"a": 1}')
    assert parser.is_whole


@pytest.mark.parametrize(
    "body",
    [b"<!doctype html>", b'"text"', b"123", b"-1", b"null \n", b'{"a": ', b"{'a': 1}", b'[{"a": 1'],
)
def test_what_is_no_answer_is_said_to_be_none(body: bytes) -> None:
    found, _, is_broken = read(body)
    assert (found, is_broken) == ([], True)


def test_a_large_body_is_looked_at_once() -> None:
    """A quadratic reader would take minutes."""
    body = json.dumps({"text": "x" * 3_000_000, "list": [{"a": '"'}] * 1000}).encode()
    for whole in (body, b"data: " + body + b"\n\n"):
        assert len(read(*(whole[place : place + 64] for place in range(0, len(whole), 64)))[0]) == 1


# --- halves of characters -------------------------------------------------------------------------


def deltas(*texts: str) -> bytes:
    return b"".join(
        f'data: {{"choices":[{{"delta":{{"content":"{text}"}}}}]}}\n\n'.encode() for text in texts
    )


def said(body: bytes) -> list[str]:
    return [one["choices"][0]["delta"].get("content") for one in data_of(body)]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (deltas("a\\ud83d", "\\ude00b"), ["a😀", "b"]),
        (deltas("\\ud83d", "\\ude00"), ["😀", ""]),
        (deltas("\\ud83d", "", "\\ude00"), ["😀", "", ""]),
        (deltas("\\ud83d", "\\ude00\\ud83d", "\\ude00"), ["😀", "😀", ""]),
        (deltas("hi \\ud83d there"), ["hi \ufffd there"]),
        (deltas("hi \\ud83d", " there"), ["hi \ufffd", " there"]),
        (deltas("hi \\ude00", "\\ud83d"), ["hi \ufffd", "\ufffd"]),
        (deltas("\\ud83d\\ude00"), ["😀"]),
        (deltas("\\\\ud83d", "\\\\ude00"), ["\\ud83d", "\\ude00"]),
        (deltas("\\\\ud83d\\ude00"), ["\\ud83d\ufffd"]),
        (b'data: {"choices":[{"delta":{"content":"\xed\xa0\xbd\xed\xb8\x80"}}]}\n\n', ["😀"]),
        (deltas("\\ud83d") + b'data: {"type":"ping"}\n\n: ping\n\n' + deltas("\\ude00"), None),
    ],
)
def test_halves_that_meet_are_a_character_and_others_are_marked(
    body: bytes, expected: list[str] | None
) -> None:
    if expected is None:
        found = data_of(body)
        assert [one.get("type") for one in found] == [None, "ping", None]
        assert found[0]["choices"][0]["delta"]["content"] == "😀"
    else:
        assert said(body) == expected
        assert said(body + b"data: [DONE]\n\n") == expected


def test_a_half_is_not_waited_for_for_ever() -> None:
    parser = EventParser()
    parser.feed(deltas("\\ud83d"))
    found = [event for _ in range(10) for event in parser.feed(b'data: {"type":"ping"}\n\n')]
    assert found[0].data["choices"][0]["delta"]["content"] == "\ufffd"
    assert len(found) >= 2


def test_names_of_fields_and_lists_are_made_whole_too() -> None:
    assert data_of(b'data: {"\\ud83d": ["\\ude00", {"x": "\\udc00"}]}\n\n') == [
        {"\ufffd": ["\ufffd", {"x": "\ufffd"}]}
    ]
