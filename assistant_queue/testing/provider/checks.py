"""Small checks of JSON values that refuse what the provider refuses, in its words.

A check is called with a value and its path (`input[0].role`) and raises `ApiProblem`; tables of
them check bodies.

Source: the provider's published API description and the wording of its errors.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from assistant_queue.testing.provider.api_errors import ApiProblem

Check = Callable[[Any, str], None]

METADATA_PAIRS = 16
METADATA_KEY_LENGTH = 64
METADATA_VALUE_LENGTH = 512
SAFETY_IDENTIFIER_LENGTH = 128
"""Source: openai 3.53 and later; before, and in older descriptions, it was 64."""

_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def _wrong_type(expected: str, value: object, path: str) -> ApiProblem:
    found = _NAMES.get(type(value), "something else")
    message = f"Invalid type for '{path}': expected {expected}, but got {found} instead."
    return ApiProblem(message, code="invalid_type", param=path)


def too_long(kind: str, most: int, length: int, path: str) -> ApiProblem:
    """A string or an array is longer than the provider takes."""
    article = "an" if kind == "array" else "a"
    message = (
        f"Invalid '{path}': {kind} too long. Expected {article} {kind} with maximum length {most}, "
        f"but got {article} {kind} with length {length} instead."
    )
    return ApiProblem(message, code=f"{kind}_above_max_length", param=path)


def missing(path: str) -> ApiProblem:
    """A field that must be there is not."""
    return ApiProblem(
        f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path
    )


def anything(_value: Any, _path: str) -> None:
    """No demand: a field the stand-in knows and does not read."""


def boolean(value: Any, path: str) -> None:
    """True or false."""
    if not isinstance(value, bool):
        raise _wrong_type("a boolean", value, path)


def text(most: int | None = None, *, blank: bool = True) -> Check:
    """A string of at most `most` characters, non-blank unless `blank`."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type("a string", value, path)
        if most is not None and len(value) > most:
            raise too_long("string", most, len(value), path)
        if not blank and not value.strip():
            raise ApiProblem("Message content must be non-empty.", param=path)

    return check


def number(low: float | None = None, high: float | None = None, *, whole: bool = False) -> Check:
    """A number between `low` and `high`, both included; an integer if `whole`."""
    expected, kind = ("an integer", "integer") if whole else ("a decimal", "decimal")

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, int if whole else (int, float)):
            raise _wrong_type(expected, value, path)
        for bound, sign, word, code in (
            (low, ">=", "below minimum", "below_min"),
            (high, "<=", "above maximum", "above_max"),
        ):
            if bound is not None and (value < bound if sign == ">=" else value > bound):
                message = (
                    f"Invalid '{path}': {kind} {word} value. Expected a value {sign} {bound}, but "
                    f"got {value} instead."
                )
                raise ApiProblem(message, code=f"{kind}_{code}_value", param=path)

    return check


def choice(*words: str) -> Check:
    """One of these words."""

    def check(value: Any, path: str) -> None:
        if value not in words:
            listed = ", ".join(f"'{word}'" for word in words)
            message = f"Invalid value: '{value}'. Supported values are: {listed}."
            raise ApiProblem(message, code="invalid_value", param=path)

    return check


def nullable(inner: Check) -> Check:
    """Null, or what `inner` takes."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def text_or(inner: Check, most: int | None = None, *, blank: bool = True) -> Check:
    """A string, or what `inner` takes."""
    as_text = text(most, blank=blank)

    def check(value: Any, path: str) -> None:
        (as_text if isinstance(value, str) else inner)(value, path)

    return check


def array(of: Check, most: int | None = None) -> Check:
    """A list of at most `most` values that each pass `of`."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type("an array", value, path)
        if most is not None and len(value) > most:
            raise too_long("array", most, len(value), path)
        for index, element in enumerate(value):
            of(element, f"{path}[{index}]")

    return check


def record(fields: Mapping[str, Check], required: Collection[str] = ()) -> Check:
    """An object with these fields and no others."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type("an object", value, path)
        prefix = f"{path}." if path else ""
        for name in required:
            if name not in value:
                raise missing(prefix + name)
        for name, held in value.items():
            inner = fields.get(name)
            if inner is None:
                raise ApiProblem(
                    f"Unknown parameter: '{prefix}{name}'.",
                    code="unknown_parameter",
                    param=prefix + name,
                )
            inner(held, prefix + name)

    return check


def tagged(kinds: Mapping[str, Check], default: str | None = None) -> Check:
    """Check an object by its `type`; `default` is the type when it is left out."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type("an object", value, path)
        kind = value.get("type", default)
        if kind is None:
            raise missing(f"{path}.type")
        choice(*kinds)(kind, f"{path}.type")
        kinds[kind](value, path)

    return check


def metadata(value: Any, path: str) -> None:
    """At most 16 pairs of strings, keys up to 64 and values up to 512 characters."""
    if not isinstance(value, dict):
        raise _wrong_type("an object", value, path)
    if len(value) > METADATA_PAIRS:
        message = (
            f"Invalid '{path}': too many properties. Expected an object with at most "
            f"{METADATA_PAIRS} properties, "
            f"but got an object with {len(value)} properties instead."
        )
        raise ApiProblem(message, code="object_above_max_properties", param=path)
    for key, held in value.items():
        text(METADATA_KEY_LENGTH)(key, f"{path} keys")
        text(METADATA_VALUE_LENGTH)(held, f"{path}.{key}")
