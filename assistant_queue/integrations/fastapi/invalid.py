"""What is wrong with a request, field by field, in the service's own words: how the models are built is not told."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

MOST = 20
"""Rows of one answer. Chosen: a person mends a few at a time, and a body of a million bytes may be wrong as often."""

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
"""Errors of type, and what was expected instead; the others are told by `_VALUES`."""

_BLANK = r"\S"
"""The pattern of texts that must not be blank; the only other one is that of ids in addresses (`schemas.py`)."""


def _pattern(context: Mapping[str, Any]) -> str:
    return "text that is not blank" if context.get("pattern") == _BLANK else "an id without a slash that is more than one or two dots"


_VALUES: Mapping[str, Callable[[Mapping[str, Any]], str]] = {
    "missing": lambda _: "This is missing.",
    "extra_forbidden": lambda _: "This is not known here.",
    "json_invalid": lambda _: "This is not JSON.",
    "string_unicode": lambda _: "This holds half a character: a surrogate without its other half.",
    "string_too_short": lambda context: f"Expected at least {_many(context['min_length'], 'character')}.",
    "string_too_long": lambda context: f"Expected at most {_many(context['max_length'], 'character')}.",
    "string_pattern_mismatch": lambda context: f"Expected {_pattern(context)}.",
    "too_short": lambda context: f"Expected at least {_many(context['min_length'], 'entry')}.",
    "too_long": lambda context: f"Expected at most {_many(context['max_length'], 'entry')}.",
    "greater_than": lambda context: f"Expected more than {context['gt']:g}.",
    "greater_than_equal": lambda context: f"Expected at least {context['ge']:g}.",
    "less_than_equal": lambda context: f"Expected at most {context['le']:g}.",
    "literal_error": lambda context: f"Expected {context['expected']}.",
}


def fields_of(errors: Sequence[Any], given: Any, *, within: str = "body") -> list[dict[str, str]]:
    """Rows of `where` and `why`, as the API answers them.

    Args:
        errors: Pydantic's, as a `ValidationError` lists them.
        given: The body that was checked, to tell its own names from those of the models.
        within: What an error's place begins with if it is one of the body; `""` if it begins with the body's first name.
    """
    values: dict[str, str] = {}
    types: dict[str, list[str]] = {}
    for error in errors:
        where = _where(error["loc"], given, within)
        if error["type"] in _TYPES:
            types.setdefault(where, []).append(_TYPES[error["type"]])
        else:
            told = _VALUES.get(error["type"])
            values.setdefault(where, told(error.get("ctx") or {}) if told else f"{str(error['msg']).rstrip('.')}.")
    # Of a field that may be of several types each is reported: those that it is not do not matter if one of them was looked into.
    looked_into = [*values, *types]
    for where, names in types.items():
        if where not in values and not any(other.startswith(f"{where}.") for other in looked_into):
            values[where] = f"Expected {' or '.join(dict.fromkeys(names))}."
    return [{"where": where, "why": why} for where, why in values.items()][:MOST]


def _where(place: Sequence[Any], given: Any, within: str) -> str:
    """The place without the names of models and branches: what stands in the body, and a name that should."""
    head: list[Any] = [place[0]] if within else []
    if within and place[0] != within:
        return ".".join(map(str, place))
    found, value = head, given
    for part in place[len(head) :]:
        if isinstance(value, Mapping):
            found.append(part)
            value = value.get(part)
        elif isinstance(value, Sequence) and not isinstance(value, str | bytes) and isinstance(part, int):
            found.append(part)
            value = value[part] if part < len(value) else None
    return ".".join(map(str, found)) or "."


def _many(number: int, noun: str) -> str:
    if number == 1:
        return f"1 {noun}"
    return f"{number:,} {noun.removesuffix('y')}{'ies' if noun.endswith('y') else 's'}"
