"""Encode tool outputs: one encoder for tools, handlers, direct calls and HTTP."""

from __future__ import annotations

import json
from typing import Any

from pydantic_core import to_json, to_jsonable_python


class UnwritableOutput(ValueError):
    """An output that cannot be written as JSON; `type_name` names the type that is the reason."""

    def __init__(self, type_name: str) -> None:
        super().__init__(f"the function's output cannot be written as JSON: {type_name}")
        self.type_name = type_name


def encode_output(output: Any) -> str:
    """Return an output as the model reads it.

    A string stays as it is. Dataclasses, pydantic models, sets, dates, Decimals, enums and UTF-8
    bytes become JSON as pydantic writes it; NaN and infinity become null. Half of a surrogate pair
    becomes a question mark: neither Redis nor the provider accepts it.

    Raises:
        UnwritableOutput: It is, or holds, something else.
    """
    if isinstance(output, str):
        return _as_utf8(output)
    unknown: list[str] = []

    def refuse(value: Any) -> Any:
        unknown.append(type(value).__name__)
        raise TypeError(unknown[0])

    try:
        return to_json(output, inf_nan_mode="null", fallback=refuse).decode()
    except Exception as error:
        if "UnicodeEncodeError" in str(error):
            return _as_utf8(_with_halves(output))
        raise UnwritableOutput(unknown[0] if unknown else type(output).__name__) from error


def error_output(reason: str) -> str:
    """Return the output of a call that has failed."""
    return json.dumps({"error": reason})


def _with_halves(output: Any) -> str:
    """Return the JSON of an output in which a string holds half of a surrogate pair."""
    try:
        plain = to_jsonable_python(output, inf_nan_mode="null")
        return json.dumps(plain, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except Exception as error:
        raise UnwritableOutput(type(output).__name__) from error


def _as_utf8(text: str) -> str:
    return text.encode("utf-8", "replace").decode()
