"""Extract of OpenAI's own description of chat completions: field names, types, required, allowed.

`python -m tests.contract.openai_shapes openapi.json` writes the extract anew from the published
document, which is not kept here: it is large, changes weekly, and is OpenAI's. A difference in the
file is a difference from the document that was read the last time.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

Json = dict[str, Any]

EXTRACT = Path(__file__).with_name("openai_chat_shapes.json")
ANSWERS = ("CreateChatCompletionResponse", "CreateChatCompletionStreamResponse", "ErrorResponse")
"""Held against whole."""
REQUEST = "CreateChatCompletionRequest"
MESSAGE = "ChatCompletionRequestMessage"
_LEFT_OUT = frozenset({"audio", "function_call", "moderation"})
"""Fields that the stand-in never sends: described by name alone."""
_KINDS = {"object": dict, "array": list, "string": str, "boolean": bool, "null": type(None)}
_CHOICES = ("anyOf", "oneOf")


def extract(document: Json) -> Json:
    """The shapes of the answers; the names of a request's fields, and of each role's message's."""
    schemas = document["components"]["schemas"]
    roles = {}
    for choice in schemas[MESSAGE]["oneOf"]:
        shape = _reduced(choice, schemas)
        (role,) = shape["fields"].pop("role")["values"]
        roles[role] = {
            "fields": sorted(shape["fields"]),
            "required": sorted({*shape["required"]} - {"role"}),
        }
    request = _merged(schemas[REQUEST], schemas)
    return {
        "answers": {name: _reduced(schemas[name], schemas) for name in ANSWERS},
        "request": {
            "fields": sorted(request["properties"]),
            "required": sorted(request["required"]),
        },
        "messages": dict(sorted(roles.items())),
    }


def _merged(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """Merge the parts that `allOf` puts together into one object."""
    while "$ref" in schema:
        schema = schemas[schema["$ref"].rsplit("/", 1)[1]]
    parts = [_merged(part, schemas) for part in schema.get("allOf", ())]
    found: Json = {
        "properties": dict(schema.get("properties", {})),
        "required": list(schema.get("required", ())),
    }
    for part in parts:
        found["properties"].update(part["properties"])
        found["required"] += part["required"]
    return found


def _reduced(schema: Json, schemas: Mapping[str, Json]) -> Json:
    """A schema without words: `kinds`, or one of `choices`; `fields` and `required`, `items`, `values`."""
    if "$ref" in schema:
        shape = _reduced(schemas[schema["$ref"].rsplit("/", 1)[1]], schemas)
    elif any(name in schema for name in _CHOICES):
        shape = {
            "choices": [
                _reduced(choice, schemas) for name in _CHOICES for choice in schema.get(name, ())
            ]
        }
    else:
        shape = {"kinds": [schema["type"]]} if "type" in schema else {}
        if "enum" in schema:
            shape["values"] = schema["enum"]
        if "items" in schema:
            shape["items"] = _reduced(schema["items"], schemas)
        if "properties" in schema:
            fields = {
                name: {} if name in _LEFT_OUT else _reduced(held, schemas)
                for name, held in schema["properties"].items()
            }
            shape["fields"] = dict(sorted(fields.items()))
            shape["required"] = sorted(schema.get("required", ()))
    return {"choices": [shape, {"kinds": ["null"]}]} if schema.get("nullable") else shape


def mismatches(shape: Json, value: Any, where: str = "") -> Iterator[str]:
    """Yield the differences from the shape: wrong kind or value, missing or undescribed field."""
    if "choices" in shape:
        found = [list(mismatches(choice, value, where)) for choice in shape["choices"]]
        yield from min(found, key=len)
        return
    if "kinds" in shape and not any(_is_kind(kind, value) for kind in shape["kinds"]):
        yield f"{where} is {value!r}, not {shape['kinds']}"
        return
    if "values" in shape and value not in shape["values"]:
        yield f"{where} is {value!r}, not one of {shape['values']}"
    if isinstance(value, list) and "items" in shape:
        for number, one in enumerate(value):
            yield from mismatches(shape["items"], one, f"{where}[{number}]")
    if isinstance(value, dict) and "fields" in shape:
        yield from (f"{where}.{name} is missing" for name in shape["required"] if name not in value)
        yield from (
            f"{where}.{name} is not described" for name in value if name not in shape["fields"]
        )
        for name in value.keys() & shape["fields"].keys():
            yield from mismatches(shape["fields"][name], value[name], f"{where}.{name}")


def _is_kind(kind: str, value: Any) -> bool:
    if kind in {"integer", "number"}:
        return isinstance(value, (int, float) if kind == "number" else int) and not isinstance(
            value, bool
        )
    return isinstance(value, _KINDS[kind])


def written(found: Json) -> str:
    """The extract as it stands in the file: a line for each name of the second level, so that a change is seen."""
    parts = []
    for part, held in found.items():
        lines = ",\n".join(
            f"  {json.dumps(name)}: {json.dumps(one, sort_keys=True)}" for name, one in held.items()
        )
        parts.append(f" {json.dumps(part)}: {{\n{lines}\n }}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


if __name__ == "__main__":
    EXTRACT.write_text(written(extract(json.loads(Path(sys.argv[1]).read_text()))))
