"""Signature and help of both queue classes' constructors, from the one model of the options."""

from __future__ import annotations

import inspect
from typing import Any

from pydantic import BaseModel

from assistant_queue.config.keywords import Options
from assistant_queue.config.options import Config


def options_signature() -> inspect.Signature:
    """Return the constructor's signature: keywords with their types for callers and defaults."""
    return inspect.Signature(
        [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=_shown(field.default),
                annotation=Options.__annotations__[name],
            )
            for name, field in Config.model_fields.items()
        ]
    )


def options_help() -> str:
    """Return the options for `help()`: name, default with its unit, and meaning."""
    lines = [
        f"        {name} ({default_of(name)}): {described(name)}" for name in Config.model_fields
    ]
    return "\n".join(["", "    Options, with their defaults; s are seconds:", *lines, "    "])


def described(name: str) -> str:
    """Return an option's meaning as a sentence."""
    text = str(Config.model_fields[name].description)
    return f"{text[0].upper()}{text[1:]}."


def default_of(name: str) -> str:
    """Return an option's default, with its unit."""
    field = Config.model_fields[name]
    default = _shown(field.default)
    unit = field.json_schema_extra.get("unit") if isinstance(field.json_schema_extra, dict) else ""
    if not unit:
        return repr(default)
    return f"None, in {unit}" if default is None else f"{default!r} {unit}"


def _shown(default: Any) -> Any:
    """Return a default as a caller would write it."""
    return default.model_dump() if isinstance(default, BaseModel) else default
