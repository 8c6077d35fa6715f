"""JSON schema of a function's arguments, and the model that validates a call."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema

from assistant_queue.errors import ConfigurationError

Json = dict[str, Any]

_STRICT_KEYWORDS = frozenset(
    {
        "type",
        "properties",
        "required",
        "additionalProperties",
        "items",
        "enum",
        "const",
        "anyOf",
        "$ref",
        "$defs",
        "description",
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "pattern",
        "format",
        "minItems",
        "maxItems",
    }
)
"""Keywords of a strict schema. Source: the provider's guide to structured outputs."""

_STRICT_FORMATS = frozenset(
    {"date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid"}
)
"""Formats of a strict schema. Source: the provider's guide to structured outputs."""

_NAMED = ("properties", "$defs", "patternProperties")
_LISTED = ("anyOf", "allOf", "oneOf", "prefixItems")
_NESTED = ("items", "additionalProperties")


class _NotStrict(Exception):
    """The schema has a keyword that strict mode does not support."""


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter that the model fills in."""

    name: str
    is_required: bool
    takes_none: bool


@dataclass(frozen=True, slots=True)
class Signature:
    """Parameters of a function.

    Attributes:
        parameters: Parameters that the model fills in, in order.
        context: Names of the parameters that get the `ToolContext`.
        model: Validates the arguments of a call; field `p0` is the first parameter, its alias the
            parameter's name.
        schema: The JSON schema of the arguments.
        is_strict: Whether the provider may enforce the schema (`strict`).
    """

    parameters: tuple[Parameter, ...]
    context: tuple[str, ...]
    model: type[BaseModel]
    schema: Json
    is_strict: bool


class _Schema(GenerateJsonSchema):
    """Generate schemas without a warning for a default that JSON cannot hold: it is not sent."""

    def emit_warning(self, kind: Any, detail: str) -> None:
        """Ignore the warning."""


def read_signature(
    function: Callable[..., Any], called: str, context_type: type, described: Mapping[str, str]
) -> Signature:
    """Return a function's parameters, as they are described to a model.

    Args:
        function: The function.
        called: Its name for errors.
        context_type: Parameters with this annotation are hidden from the model.
        described: Descriptions of the parameters, by name.

    Raises:
        ConfigurationError: A parameter cannot be given by name, or its annotation is missing,
            cannot be resolved or has no JSON schema.
    """
    hints = _hints_of(function, called)
    parameters: list[Parameter] = []
    context: list[str] = []
    fields: Json = {}
    for one in _parameters_of(function, called):
        if one.kind not in {one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY}:
            raise ConfigurationError(
                f"the tool {called} takes {one.name!r} by position or in any number; a model gives "
                "each parameter by name"
            )
        if one.name not in hints:
            raise ConfigurationError(
                f"the tool {called} has no type for its parameter {one.name!r}: annotate it"
            )
        hint = hints[one.name]
        if hint is context_type:
            context.append(one.name)
            continue
        is_required = one.default is one.empty
        if isinstance(one.default, FieldInfo):
            raise ConfigurationError(
                f"the tool {called} has a Field as the default of {one.name!r}: write "
                f"{one.name}: Annotated[type, Field(...)]"
            )
        fields[f"p{len(parameters)}"] = (hint, _field(one, hint, described.get(one.name)))
        parameters.append(Parameter(one.name, is_required, not is_required and _takes_none(hint)))
    try:
        model: type[BaseModel] = create_model(
            "Arguments", __config__=ConfigDict(extra="forbid"), **fields
        )
        plain = _plain(model.model_json_schema(by_alias=True, schema_generator=_Schema))
    except (PydanticUserError, TypeError) as error:
        raise ConfigurationError(
            f"the tool {called} has a parameter of a type that JSON does not know: "
            f"{_first_line(error)}"
        ) from error
    plain.setdefault("properties", {})
    try:
        return Signature(
            tuple(parameters),
            tuple(context),
            model,
            _strict_arguments(plain, parameters),
            is_strict=True,
        )
    except _NotStrict:
        return Signature(tuple(parameters), tuple(context), model, plain, is_strict=False)


def _hints_of(function: Callable[..., Any], called: str) -> dict[str, Any]:
    target: Any = function
    while isinstance(target, partial):
        target = target.func
    if not inspect.isroutine(target):
        target = type(target).__call__
    # Without the hint of the result, which the model does not get.
    wanted = {
        name: hint
        for name, hint in getattr(target, "__annotations__", {}).items()
        if name != "return"
    }
    try:
        names = getattr(inspect.unwrap(target), "__globals__", {})
        return typing.get_type_hints(
            SimpleNamespace(__annotations__=wanted), names, include_extras=True
        )
    except Exception as error:
        raise ConfigurationError(
            f"the annotations of the tool {called} cannot be read ({error}): the types have to be "
            "known in its module"
        ) from error


def _parameters_of(function: Callable[..., Any], called: str) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError) as error:
        raise ConfigurationError(
            f"the tool {called} has no signature that Python can read: wrap it in a function with "
            "annotations"
        ) from error


def _field(one: inspect.Parameter, hint: Any, description: str | None) -> Any:
    known = FieldInfo.from_annotation(hint).description
    words: Json = {}
    if known is None:
        words["description"] = description
    if one.default is one.empty:
        return Field(alias=one.name, **words)
    if one.default is not None and isinstance(one.default, str | int | float):
        words["description"] = f"{known or description or ''} Default: {one.default!r}.".lstrip()
    # The function's own default counts; the model of the arguments only has to know that there is
    # one.
    return Field(default_factory=_nothing, alias=one.name, **words)


def _nothing() -> None:
    """Return no value."""


def _takes_none(hint: Any) -> bool:
    inner = typing.get_args(hint)[0] if typing.get_origin(hint) is typing.Annotated else hint
    return inner is Any or inner is None or type(None) in typing.get_args(inner)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


# --- the schema -----------------------------------------------------------------------------------


def _plain(node: Any) -> Any:
    """Return a schema without titles, which only repeat names."""
    if not isinstance(node, dict):
        return node
    plain = {key: value for key, value in node.items() if key != "title"}
    for key in _NAMED:
        if key in plain:
            plain[key] = {name: _plain(inner) for name, inner in plain[key].items()}
    for key in _LISTED:
        if key in plain:
            plain[key] = [_plain(inner) for inner in plain[key]]
    for key in _NESTED:
        if key in plain:
            plain[key] = _plain(plain[key])
    return plain


def _strict_arguments(schema: Json, parameters: list[Parameter]) -> Json:
    """Return the schema for strict mode: all required, nothing else; null for a default.

    Raises:
        _NotStrict: The schema has a keyword that strict mode does not support.
    """
    definitions = schema.get("$defs", {})
    properties = {name: _strict(inner, definitions) for name, inner in schema["properties"].items()}
    for one in parameters:
        if not one.is_required and not one.takes_none:
            properties[one.name] = _or_null(properties[one.name])
    strict: Json = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    if definitions:
        strict["$defs"] = {name: _strict(inner, definitions) for name, inner in definitions.items()}
    return strict


def _or_null(schema: Json) -> Json:
    words = {"description": schema["description"]} if "description" in schema else {}
    value = {key: inner for key, inner in schema.items() if key != "description"}
    return {"anyOf": [value, {"type": "null"}], **words}


def _strict(node: Any, definitions: Json) -> Json:
    if not isinstance(node, dict):
        raise _NotStrict
    if "$ref" in node and len(node) > 1:
        # A reference stands alone; what is said beside it goes to a copy of what it refers to.
        referred = definitions.get(str(node["$ref"]).rpartition("/")[2], {})
        node = {**referred, **{key: value for key, value in node.items() if key != "$ref"}}
    _check_words(node)
    strict = dict(node)
    if node.get("type") == "object":
        properties = node.get("properties")
        if (
            properties is None
            or node.get("additionalProperties", False) is not False
            or set(node.get("required", ())) != set(properties)
        ):
            raise _NotStrict  # an open object, or one with parts that may be missing
        strict["properties"] = {
            name: _strict(inner, definitions) for name, inner in properties.items()
        }
        strict["required"] = list(properties)
        strict["additionalProperties"] = False
    if "items" in node or node.get("type") == "array":
        strict["items"] = _strict(node.get("items"), definitions)
    if "anyOf" in node:
        strict["anyOf"] = [_strict(inner, definitions) for inner in node["anyOf"]]
    return strict


def _check_words(node: Json) -> None:
    if node.keys() - _STRICT_KEYWORDS or not node.keys() & {
        "type",
        "anyOf",
        "$ref",
        "enum",
        "const",
    }:
        raise _NotStrict
    if node.get("format", "date") not in _STRICT_FORMATS or "(?" in str(node.get("pattern", "")):
        raise _NotStrict
