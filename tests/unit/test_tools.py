"""A typed function becomes a tool: what the model is sent, what it may write, and what is refused."""

from __future__ import annotations

import dataclasses
import enum
import functools
import json
from collections.abc import Callable
from datetime import date
from typing import Annotated, Any, Literal, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from assistant_queue import (
    AssistantMessageQueue,
    AsyncAssistantMessageQueue,
    Batch,
    ConfigurationError,
    Message,
    ToolContext,
)
from assistant_queue.config import configure
from assistant_queue.tools import Offered, Tool, Toolbox, WrongArguments
from assistant_queue.tools.docstrings import read_docstring

CONTEXT = ToolContext(
    thread_id="t",
    run_id="r",
    call_id="c",
    batch=Batch(id="b", thread_id="t", messages=(Message(id="m", content="hi"),)),
)


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Place(BaseModel):
    city: str
    country: str = Field(description="two letters")


class Loose(BaseModel):
    city: str
    zip: str = ""


class Tree(BaseModel):
    name: str
    children: list[Tree]


def get_weather(city: str, days: int = 3, unit: Literal["c", "f"] = "c") -> str:
    """The weather in a city.

    From the national service: not for mountains.

    Args:
        city: Where,
            in English: one name.
        days (int): How many days.
        colour: Not a parameter.

    Returns:
        A text.
    """
    return f"{city} {days} {unit}"


def tool_of(function: Any, **options: Any) -> Tool:
    return Toolbox().add(function, **options)


def called(function: Any, arguments: Any) -> Any:
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    return tool_of(function).bind(text, CONTEXT)()


# --- what the model is sent -----------------------------------------------------------------------


def test_the_definition_says_what_the_signature_and_the_docstring_say() -> None:
    assert tool_of(get_weather).definition == {
        "type": "function",
        "name": "get_weather",
        "description": "The weather in a city.\n\nFrom the national service: not for mountains.",
        "parameters": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "description": "Where, in English: one name."},
                "days": {
                    "anyOf": [{"type": "integer"}, {"type": "null"}],
                    "description": "How many days. Default: 3.",
                },
                "unit": {
                    "anyOf": [{"type": "string", "enum": ["c", "f"]}, {"type": "null"}],
                    "description": "Default: 'c'.",
                },
            },
            "required": ["city", "days", "unit"],
            "additionalProperties": False,
        },
        "strict": True,
    }


def test_name_and_description_can_be_said_otherwise() -> None:
    definition = tool_of(get_weather, name="weather-2", description="Rain or shine.").definition
    assert (definition["name"], definition["description"]) == ("weather-2", "Rain or shine.")


def test_a_function_without_parameters_and_docstring_is_a_tool() -> None:
    def ping() -> str:
        return "pong"

    parameters = {"type": "object", "properties": {}, "required": [], "additionalProperties": False}
    assert tool_of(ping).definition == {
        "type": "function",
        "name": "ping",
        "parameters": parameters,
        "strict": True,
    }
    assert called(ping, "") == "pong"


def test_the_context_is_not_the_models() -> None:
    def order(context: ToolContext, number: int) -> str:
        return f"{context.thread_id}/{context.run_id}/{context.call_id}/{context.batch.messages[0].text}/{number}"

    assert list(tool_of(order).definition["parameters"]["properties"]) == ["number"]
    assert called(order, {"number": 7}) == "t/r/c/hi/7"
    with pytest.raises(WrongArguments, match="context"):
        tool_of(order).bind('{"number": 7, "context": {}}', CONTEXT)


def test_what_pydantic_knows_of_a_parameter_is_said() -> None:
    def book(
        seats: Annotated[int, Field(ge=1, le=9, description="how many")],
        to: Place,
        on: date,
        colour: Colour,
    ) -> None:
        """Book.

        Args:
            seats: Is not said, the annotation has its own text.
            to: Where to.
        """

    definition = tool_of(book).definition
    properties = definition["parameters"]["properties"]
    assert properties["seats"] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 9,
        "description": "how many",
    }
    assert properties["on"] == {"type": "string", "format": "date"}
    assert properties["to"]["description"] == "Where to."
    assert properties["to"]["required"] == ["city", "country"]
    assert definition["strict"] is True
    assert "title" not in json.dumps(definition)


def test_a_parameter_may_be_called_title() -> None:
    def save(title: str, schema: str, _hidden: str, model_config: str) -> list[str]:
        return [title, schema, _hidden, model_config]

    names = ["title", "schema", "_hidden", "model_config"]
    assert list(tool_of(save).definition["parameters"]["properties"]) == names
    assert called(save, {name: name for name in names}) == names


def takes_dict(value: dict[str, int]) -> Any:
    return value


def takes_any(value: Any) -> Any:
    return value


def takes_loose(value: Loose) -> Any:
    return value


def takes_tuple(value: tuple[int, str]) -> Any:
    return value


def takes_list(value: list) -> Any:  # type: ignore[type-arg]
    return value


def takes_set(value: set[int]) -> Any:
    return value


def takes_short(value: Annotated[str, Field(max_length=3)]) -> Any:
    return value


def takes_tree(value: Tree) -> Any:
    return value


def takes_optional(value: Optional[int], other: int | None = None) -> Any:  # noqa: UP045 - both spellings
    return value, other


@pytest.mark.parametrize(
    "function",
    [takes_dict, takes_any, takes_loose, takes_tuple, takes_list, takes_set, takes_short],
)
def test_what_strict_mode_has_no_words_for_is_offered_without_it(
    function: Callable[..., Any],
) -> None:
    definition = tool_of(function).definition
    assert definition["strict"] is False
    assert definition["parameters"]["additionalProperties"] is False
    assert definition["parameters"]["required"] == ["value"]


def test_a_recursive_model_is_strict_by_reference() -> None:
    definition = tool_of(takes_tree).definition
    assert definition["strict"] is True
    value = {"name": "a", "children": [{"name": "b", "children": []}]}
    assert definition["parameters"]["properties"] == {"value": {"$ref": "#/$defs/Tree"}}
    assert definition["parameters"]["$defs"]["Tree"]["required"] == ["name", "children"]
    assert called(takes_tree, {"value": value}).children[0].name == "b"


def test_docstrings_without_sections_or_texts_are_taken_as_they_are() -> None:
    assert read_docstring(None).description is None
    assert read_docstring("One line.").description == "One line."
    assert read_docstring("Do.\n\nArgs:\n    a:\n    b: what\n\nRaises:\n    c: no").parameters == {
        "b": "what"
    }
    assert read_docstring(
        "Args:\n    a (dict[str, int]): first\n      second\n\n    b: third"
    ).parameters == {
        "a": "first second",
        "b": "third",
    }


# --- what the model writes ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "result"),
    [
        ({"city": "Paris"}, "Paris 3 c"),
        ({"city": "Paris", "days": None, "unit": None}, "Paris 3 c"),
        ({"city": "Paris", "days": "5", "unit": "f"}, "Paris 5 f"),
    ],
)
def test_arguments_are_validated_and_defaults_kept(arguments: Any, result: str) -> None:
    assert called(get_weather, arguments) == result


def test_null_is_a_value_where_none_is_one() -> None:
    assert called(takes_optional, {"value": None, "other": None}) == (None, None)
    assert called(takes_any, {"value": None}) is None


def test_values_arrive_as_the_annotation_says() -> None:
    def book(to: Place, on: date, colours: set[Colour]) -> Any:
        return to, on, colours

    arguments = {
        "to": {"city": "Rome", "country": "IT"},
        "on": "2026-03-01",
        "colours": ["red", "red"],
    }
    assert called(book, arguments) == (
        Place(city="Rome", country="IT"),
        date(2026, 3, 1),
        {Colour.RED},
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ('{"city": "\\ud800"}', "not valid JSON"),
        ("[]", "must be a JSON object, not list"),
        ("null", "must be a JSON object, not NoneType"),
        ("{}", "city: Field required"),
        ('{"city": null}', "city: Input should be a valid string"),
        ('{"city": 1}', "city: Input should be a valid string"),
        ('{"city": "Rome", "days": "many"}', "days: Input should be a valid integer"),
        ('{"city": "Rome", "unit": "k"}', "unit: Input should be 'c' or 'f'"),
        ('{"city": "Rome", "country": "IT"}', "country: Extra inputs are not permitted"),
        ('{"p0": "Rome"}', "city: Field required"),
    ],
)
def test_the_model_gets_to_know_what_is_wrong(arguments: str, says: str) -> None:
    with pytest.raises(WrongArguments, match=says):
        tool_of(get_weather).bind(arguments, CONTEXT)


def test_the_model_is_not_sent_a_hundred_problems() -> None:
    def add(numbers: list[int]) -> int:
        return sum(numbers)

    with pytest.raises(WrongArguments, match="and 90 more"):
        tool_of(add).bind(json.dumps({"numbers": ["x"] * 100}), CONTEXT)


@given(
    st.one_of(
        st.text(),
        st.recursive(st.none() | st.booleans() | st.floats() | st.text(), st.lists).map(json.dumps),
    )
)
def test_whatever_the_model_writes_is_a_call_or_a_complaint(arguments: str) -> None:
    complaint = "none"
    try:
        tool_of(get_weather).bind(arguments, CONTEXT)
    except WrongArguments as error:
        complaint = str(error)
    assert complaint


# --- what is refused ------------------------------------------------------------------------------


def unannotated(city: str, days) -> str:  # type: ignore[no-untyped-def]
    return city * days


def many(*cities: str) -> str:
    return "".join(cities)


def anything(**cities: str) -> str:
    return "".join(cities)


def by_place(city: str, /) -> str:
    return city


def unknown_type(city: Citty) -> str:  # type: ignore[name-defined]  # noqa: F821 - that it does not exist is the test
    return str(city)


def no_json(values: Callable[[int], int], other: object) -> str:
    return str(values) + str(other)


def no_json_at_all(value: functools.partial) -> str:  # type: ignore[type-arg]
    return str(value)


def field_default(days: int = Field(default=3)) -> str:
    return str(days)


def yields(city: str) -> Any:
    yield city


@pytest.mark.parametrize(
    ("function", "options", "says"),
    [
        (3, {}, "int object cannot be called"),
        ("get_weather", {}, "write @queue.tool"),
        (Place, {}, "class or a generator"),
        (yields, {}, "class or a generator"),
        (unannotated, {}, r"unannotated has no type for .* 'days'"),
        (many, {}, "many takes 'cities'"),
        (anything, {}, "anything takes 'cities'"),
        (by_place, {}, "by_place takes 'city'"),
        (unknown_type, {}, "annotations of the tool .*unknown_type cannot be read"),
        (no_json, {}, "no_json has a parameter of a type that JSON does not know"),
        (no_json_at_all, {}, "no_json_at_all has a parameter of a type that JSON does not know"),
        (field_default, {}, r"field_default .*Annotated\[type, Field"),
        (lambda: None, {}, "needs a name"),
        (functools.partial(get_weather, days=2), {}, "get_weather needs a name"),
        (get_weather, {"name": "the weather"}, "needs a name .*'the weather'"),
        (get_weather, {"name": "x" * 65}, "needs a name"),
        (get_weather, {"name": ""}, "needs a name"),
        (get_weather, {"name": "weather\n"}, "needs a name"),
        (get_weather, {"name": 7}, "needs a name"),
        (get_weather, {"description": " "}, "description of the tool .*get_weather"),
        (get_weather, {"description": 7}, "description of the tool .*get_weather"),
        *[
            (get_weather, {"timeout": value}, "timeout of the tool .*get_weather")
            for value in (0, -1, True, "5", float("inf"), float("nan"))
        ],
    ],
)
def test_what_cannot_be_a_tool_is_refused_by_name(function: Any, options: Any, says: str) -> None:
    box = Toolbox()
    with pytest.raises(ConfigurationError, match=says):
        box.add(function, **options)
    assert len(box) == 0


def test_two_tools_of_one_name_are_refused() -> None:
    box = Toolbox()
    box.add(get_weather)
    with pytest.raises(ConfigurationError, match="two tools are called 'get_weather'"):
        box.add(takes_any, name="get_weather")


@pytest.mark.parametrize(
    "definition",
    [
        {"type": "function", "name": "get_weather"},
        {"type": "function", "function": {"name": "get_weather"}},
    ],
)
def test_a_name_of_the_option_tools_is_taken(definition: Any) -> None:
    config = configure({"model": "m", "tools": [definition, {"type": "file_search"}]})
    with pytest.raises(ConfigurationError, match="in the option tools="):
        config.toolbox.add(get_weather)


def test_methods_callable_objects_and_partials_are_tools() -> None:
    class Shop:
        name = "shop"

        def order(self, number: int) -> str:
            """Order."""
            return f"{self.name} {number}"

        def __call__(self, number: int) -> str:
            """Call."""
            return f"called {number}"

    box = Toolbox()
    assert box.add(Shop().order).bind('{"number": 1}', CONTEXT)() == "shop 1"
    tool = box.add(Shop(), name="call")
    assert (tool.description, tool.bind('{"number": 2}', CONTEXT)()) == ("Call.", "called 2")
    bound = box.add(functools.partial(get_weather, days=1), name="today")
    assert bound.bind('{"city": "Rome", "days": null}', CONTEXT)() == "Rome 1 c"
    with pytest.raises(ConfigurationError, match="'self'"):
        box.add(Shop.order, name="unbound")


# --- on the queue ---------------------------------------------------------------------------------


@pytest.fixture(params=[AssistantMessageQueue, AsyncAssistantMessageQueue])
def queue(request: pytest.FixtureRequest) -> Any:
    return request.param(model="m", redis_url="redis://127.0.0.1:1/0")


def test_the_decorator_leaves_the_function_as_it_is(queue: Any) -> None:
    @queue.tool
    def one(city: str) -> str:
        return city

    @queue.tool(name="zwei", description="Two.", timeout=2)
    async def two(city: str) -> str:
        return city

    assert one("Rome") == "Rome"
    assert queue.tool(get_weather) is get_weather
    box = queue.config.toolbox
    assert [definition["name"] for definition in box.definitions] == ["one", "zwei", "get_weather"]
    assert (box.get("zwei").timeout_s, box.get("zwei").function) == (2.0, two)
    assert "two" not in box


def test_a_wrong_decoration_is_refused_where_it_stands(queue: Any) -> None:
    with pytest.raises(ConfigurationError, match="str object cannot be called"):
        queue.tool("weather")
    with pytest.raises(ConfigurationError, match="unannotated"):
        queue.tool(timeout=3)(unannotated)


def test_queues_do_not_share_their_tools(queue: Any) -> None:
    queue.tool(get_weather)
    assert len(configure({"model": "m"}).toolbox) == 0


def test_a_copied_configuration_shares_its_tools(queue: Any) -> None:
    copied = queue.config.model_copy(update={"queue_prefix": "other"})
    queue.tool(get_weather)
    assert "get_weather" in copied.toolbox


def test_a_run_is_offered_the_tools_of_this_moment() -> None:
    box = Toolbox()
    offered = Offered([{"type": "file_search"}], box)
    assert [one["type"] for one in offered] == ["file_search"]
    box.add(get_weather)
    assert [one["type"] for one in offered] == ["file_search", "function"]
    assert (len(offered), offered[-1]["name"]) == (2, "get_weather")


def test_the_fingerprint_says_that_there_are_tools() -> None:
    config = configure({"model": "m"})
    assert config.fingerprint == {
        "backend": "responses",
        "model": "m",
        "prompt": None,
        "tools": False,
    }
    config.toolbox.add(get_weather)
    assert config.fingerprint == {
        "backend": "responses",
        "model": "m",
        "prompt": None,
        "tools": True,
    }


def test_the_context_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        CONTEXT.call_id = "other"
