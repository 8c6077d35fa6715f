"""Validation errors of a request by field, in texts that do not depend on the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST = 20
"""Rows of one answer. Chosen: a person corrects a few at a time, and a body of a million bytes may
have as many errors."""
MOST_ERRORS = 200
"""Errors of pydantic that are read for one answer. Chosen: ten for each row, as a field that may be
of several types has one for each."""

_TYPES: Mapping[str, str] = {
    "string_type": "a string",
    "list_type": "a list",
    "dict_type": "an object",
    "model_type": "a JSON object",
    "model_attributes_type": "a JSON object",
    "int_type": "a whole number",
    "int_parsing": "a whole number",
    "int_from_float": "a whole number",
    "float_type": "a number",
    "float_parsing": "a number",
    "finite_number": "a finite number",
    "bool_type": "true or false",
    "bool_parsing": "true or false",
}
"""The expected type for each error of type; the others are in `_VALUES`."""

_BLANK = r"\S"
"""Pattern of texts that must not be blank; the only other one is that of ids in addresses
(`schemas.py`)."""


def _pattern(context: Mapping[str, Any]) -> str:
    return (
        "text that is not blank"
        if context.get("pattern") == _BLANK
        else "an id without a slash that is more than one or two dots"
    )


_VALUES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "This is missing.",
    "extra_forbidden": lambda _: "This is not known here.",
    "json_invalid": lambda _: "This is not JSON.",
    "string_unicode": lambda _: "This holds half a character: a surrogate without its other half.",
    "string_too_short": lambda context: (
        f"Expected at least {_many(context['min_length'], 'character')}."
    ),
    "string_too_long": lambda context: (
        f"Expected at most {_many(context['max_length'], 'character')}."
    ),
    "string_pattern_mismatch": lambda context: f"Expected {_pattern(context)}.",
    "too_short": lambda context: f"Expected at least {_many(context['min_length'], 'entry')}.",
    "too_long": lambda context: f"Expected at most {_many(context['max_length'], 'entry')}.",
    "greater_than": lambda context: f"Expected more than {context['gt']:g}.",
    "greater_than_equal": lambda context: f"Expected at least {context['ge']:g}.",
    "less_than_equal": lambda context: f"Expected at most {context['le']:g}.",
    "literal_error": lambda context: f"Expected {context['expected']}.",
}


def fields_of(errors: Sequence[Any], given: Any, *, within: str = "body") -> list[dict[str, str]]:
    """Return rows of `where` and `why` for an answer.

    Args:
        errors: Pydantic's, as a `ValidationError` lists them.
        given: The validated body, to distinguish its names from those of the models.
        within: First part of the location of an error in the body; `""` if locations begin with
            the body's first name.
    """
    values: dict[str, str] = {}
    types: dict[str, list[str]] = {}
    for error in errors[:MOST_ERRORS]:
        where = _where(error["loc"], given, within)
        if error["type"] in _TYPES:
            types.setdefault(where, []).append(_TYPES[error["type"]])
        else:
            render = _VALUES.get(error["type"])
            values.setdefault(
                where,
                render(error.get("ctx") or {}) if render else f"{str(error['msg']).rstrip('.')}.",
            )
    # Each type of a union is reported: the types that did not match are noise if an error is inside
    # one that did.
    parents = {parent for where in (*values, *types) for parent in _parents(where)}
    for where, names in types.items():
        if where not in values and where not in parents:
            values[where] = f"Expected {' or '.join(dict.fromkeys(names))}."
    return [{"where": where, "why": why} for where, why in values.items()][:MOST]


def _where(place: Sequence[Any], given: Any, within: str) -> str:
    """Return a location without the names of models and union branches."""
    head: list[Any] = [place[0]] if within else []
    if within and place[0] != within:
        return ".".join(map(str, place))
    found = head
    value = given
    for part in place[len(head) :]:
        if isinstance(value, Mapping):
            found.append(part)
            value = value.get(part)
        elif (
            isinstance(value, Sequence)
            and not isinstance(value, str | bytes)
            and isinstance(part, int)
        ):
            found.append(part)
            value = value[part] if part < len(value) else None
    return ".".join(map(str, found)) or "."


def _parents(where: str) -> list[str]:
    """Return the places that contain this one."""
    return [where[:index] for index, mark in enumerate(where) if mark == "."]


def _many(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun.removesuffix('y')}{'ies' if noun.endswith('y') else 's'}"
