"""Tool outputs: one encoder, whichever way an output is given."""

from __future__ import annotations

import asyncio
import dataclasses
import datetime as dt
import decimal
import enum
import json
import math
from collections.abc import Callable
from typing import Any

import pydantic
import pytest

from assistant_queue import Batch, FunctionCall, Message, ToolCall, ToolOutput
from assistant_queue.client.provider_call_arguments import make_outputs
from assistant_queue.core.stored_rows import ToolRow
from assistant_queue.errors import InvalidArgument
from assistant_queue.testing.fake_clock import START_MS
from assistant_queue.tools import Toolbox
from assistant_queue.tools.outputs import encode_output, error_output
from assistant_queue.user_code.caller import UserCode
from assistant_queue.worker import tool_calls


class Colour(enum.Enum):
    RED = "red"


class Plain(enum.StrEnum):
    TEXT = "as it is"


class Place(pydantic.BaseModel):
    city: str
    opened: dt.date | None = None


@dataclasses.dataclass
class Order:
    number: int
    total: decimal.Decimal


class Odd:
    pass


WRITABLE: dict[str, tuple[Any, str]] = {
    "text": ("größe", "größe"),
    "a text that is an enum": (Plain.TEXT, "as it is"),
    "half a surrogate pair": ("a\ud800b", "a?b"),
    "half of one within": ({"said": ["a\ud800b"]}, '{"said":["a?b"]}'),
    "none": (None, "null"),
    "dict": ({"größe": [1, 2.5, True]}, '{"größe":[1,2.5,true]}'),
    "dataclass": (Order(7, decimal.Decimal("1.50")), '{"number":7,"total":"1.50"}'),
    "model": (
        Place(city="Rome", opened=dt.date(2026, 1, 2)),
        '{"city":"Rome","opened":"2026-01-02"}',
    ),
    "set": ({3}, "[3]"),
    "datetime": (
        dt.datetime(2026, 1, 2, 3, 4, tzinfo=dt.UTC),
        '"2026-01-02T03:04:00Z"',
    ),
    "decimal": (decimal.Decimal("0.10"), '"0.10"'),
    "enum": (Colour.RED, '"red"'),
    "bytes": ("größe".encode(), '"größe"'),
    "not a number": ([math.nan, math.inf], "[null,null]"),
}

UNWRITABLE: dict[str, tuple[Any, str]] = {
    "object": (Odd(), "Odd"),
    "an object within": ({"found": [Odd()]}, "Odd"),
    "an object as key": ({Odd(): 1}, "Odd"),
    "class": ({1: object}, "type"),
    "bytes that are not UTF-8": (b"\xff", "bytes"),
    "function": (len, "builtin_function_or_method"),
}


async def by_tool(output: Any) -> str:
    """Return the output of a registered tool, as the model reads it."""
    box = Toolbox()
    box.add(lambda: output, name="f")
    return await answered(box, None)


async def by_dict(output: Any) -> str:
    return await answered(Toolbox(), lambda *_: [{"tool_call_id": "c", "output": output}])


async def by_tool_output(output: Any) -> str:
    return await answered(Toolbox(), lambda *_: [ToolOutput("c", output)])


async def by_direct_call(output: Any) -> str:
    """HTTP goes the same way, with outputs that were JSON before."""
    return make_outputs([ToolOutput("c", output)])["c"]


async def answered(box: Toolbox, handler: Callable[..., Any] | None) -> str:
    code = UserCode(1)
    call = ToolCall(id="c", function=FunctionCall(name="f", arguments="{}"))
    batch = Batch(id="b", thread_id="t", messages=(Message(id="m", content="hi"),))
    try:
        made = await tool_calls.ToolRound(code, batch, "r", now_ms=lambda: START_MS).answer(
            box, handler, [call]
        )
    finally:
        code.close()
    return made.outputs["c"]


WAYS = [by_tool, by_dict, by_tool_output, by_direct_call]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", WRITABLE)
async def test_an_output_is_the_same_whichever_way_it_is_given(way: Any, kind: str) -> None:
    output, written = WRITABLE[kind]
    if way is by_direct_call and kind == "half a surrogate pair":
        with pytest.raises(InvalidArgument, match="half of a surrogate pair"):
            await way(output)
        return
    assert await way(output) == written


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", UNWRITABLE)
async def test_an_output_that_is_no_json_is_an_error_that_names_the_type(
    way: Any, kind: str
) -> None:
    output, name = UNWRITABLE[kind]
    if way is by_direct_call:
        with pytest.raises(InvalidArgument, match=f"'c' cannot be written as JSON.* type {name};"):
            await way(output)
        return
    assert json.loads(await way(output)) == {
        "error": f"the function's output cannot be written as JSON: {name}"
    }


def test_a_model_that_cannot_be_written_is_named() -> None:
    class Broken(pydantic.BaseModel):
        @pydantic.model_serializer
        def broken(self) -> Any:
            raise SystemError("a secret")

    with pytest.raises(ValueError, match=r"written as JSON: Broken$"):
        encode_output(Broken())


def test_the_reason_of_an_error_is_json() -> None:
    assert json.loads(error_output('a "quote"')) == {"error": 'a "quote"'}


# --- what is noted of a call ------------------------------------------------------------------------


async def slow() -> str:
    await asyncio.sleep(0.03)
    return "late"


async def stuck() -> None:
    await asyncio.Event().wait()


def refused() -> None:
    raise KeyError("no such order")


async def noted(handler: Callable[..., Any] | None = None, **tools: Any) -> dict[str, ToolRow]:
    """Call a function `other`, and each of these tools, in one round; return their rows."""
    box = Toolbox()
    for name, function in tools.items():
        box.add(function, name=name, timeout=0.05 if function is stuck else None)
    calls = [
        ToolCall(
            id=name,
            function=FunctionCall(name=name, arguments='{"x": 1}' if name == "wrong" else "{}"),
        )
        for name in (*tools, "other")
    ]
    batch = Batch(id="b", thread_id="t", messages=(Message(id="m", content="hi"),))
    code = UserCode(1)
    try:
        made = await tool_calls.ToolRound(code, batch, "r", now_ms=lambda: START_MS).answer(
            box, handler, calls
        )
    finally:
        code.close()
    assert made.outputs.keys() == {call.id for call in calls}
    assert len(made.rows) == len(calls)
    return {row.name: row for row in made.rows}


async def test_a_call_is_noted_with_its_time_and_the_type_of_its_error() -> None:
    def needs(y: int) -> int:
        return y

    rows = await noted(slow=slow, stuck=stuck, refused=refused, wrong=needs)
    errors = {name: row.error for name, row in rows.items()}
    assert errors == {
        "slow": "",
        "stuck": "timeout",
        "refused": "KeyError",
        "wrong": "wrong_arguments",
        "other": "unknown_tool",
    }
    assert rows["slow"].ms >= 30
    assert rows["stuck"].ms >= 50
    assert {(row.call_id, row.started_ms) for row in rows.values()} == {
        (name, START_MS) for name in rows
    }


@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (lambda *_: [ToolOutput("other", "done")], ""),
        (lambda *_: [], "no_output"),
        (lambda *_: refused(), "KeyError"),
    ],
    ids=["answers", "says nothing", "raises"],
)
async def test_a_call_of_the_handler_is_noted(handler: Any, error: str) -> None:
    assert (await noted(handler))["other"].error == error
