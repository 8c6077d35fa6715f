"""Convert messages, tools and metadata to each protocol and back. Pure.

A caller may write content parts and tools in the form of either protocol; unknown forms are passed
through unchanged.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant_queue.core.runs import InputItem
from assistant_queue.models import Content

Json = dict[str, Any]

BATCH_MARK = "aq_batch"
MESSAGE_MARK = "aq_message"

# Source: the provider's published API description.
MAX_PAIRS = 16
MAX_VALUE = 512

_KINDS = {
    "text": "text",
    "input_text": "text",
    "output_text": "text",
    "image_url": "image",
    "image_file": "image",
    "input_image": "image",
    "file": "file",
    "input_file": "file",
}

_OBJECT = (dict, Mapping)
_ARRAY = (list, Sequence)
"""Types of JSON values. An exact type is recognised far sooner than a class that registers others."""

_SAID = frozenset({"text", "output_text", "refusal"})
"""Types of the parts that hold the assistant's text."""


# --- content parts --------------------------------------------------------------------------------


def responses_content(content: Content) -> str | list[Json]:
    """Convert content to the input of a response."""
    return content if isinstance(content, str) else [_responses_part(part) for part in content]


def _responses_part(part: Mapping[str, Any]) -> Json:
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": text_of(part)}
    image = part.get(str(kind))
    if kind == "image_url":
        fields = (
            image if isinstance(image, Mapping) else {"url": image, "detail": part.get("detail")}
        )
        return _filled(
            {"type": "input_image", "image_url": fields.get("url"), "detail": fields.get("detail")}
        )
    if kind == "image_file" and isinstance(image, Mapping):
        return _filled(
            {"type": "input_image", "file_id": image.get("file_id"), "detail": image.get("detail")}
        )
    if kind == "file" and isinstance(image, Mapping):
        return {"type": "input_file", **image}
    return dict(part)


def assistants_content(content: Content) -> str | list[Json]:
    """Convert content to a message of a thread."""
    return content if isinstance(content, str) else [_assistants_part(part) for part in content]


def _assistants_part(part: Mapping[str, Any]) -> Json:
    kind, detail = part.get("type"), part.get("detail")
    if kind in {"text", "input_text"}:
        return {"type": "text", "text": text_of(part)}
    if kind == "input_image" and part.get("file_id"):
        return {
            "type": "image_file",
            "image_file": _filled({"file_id": part["file_id"], "detail": detail}),
        }
    if kind == "input_image" or (kind == "image_url" and isinstance(part.get("image_url"), str)):
        return {
            "type": "image_url",
            "image_url": _filled({"url": part.get("image_url"), "detail": detail}),
        }
    return dict(part)


def chat_content(content: Content) -> str | list[Json]:
    """Convert content to a message of a chat completion."""
    return content if isinstance(content, str) else [_chat_part(part) for part in content]


def _chat_part(part: Mapping[str, Any]) -> Json:
    kind, image = part.get("type"), part.get("image_url")
    if kind in {"text", "input_text"}:
        return {"type": "text", "text": text_of(part)}
    if kind in {"image_url", "input_image"} and isinstance(image, str):
        return {
            "type": "image_url",
            "image_url": _filled({"url": image, "detail": part.get("detail")}),
        }
    if kind == "input_file":
        return {
            "type": "file",
            "file": {name: value for name, value in part.items() if name != "type"},
        }
    return dict(part)


def text_of(part: Mapping[str, Any]) -> str:
    """Return the text of a part, or its refusal.

    It is a string, on Assistants an object with a `value`.
    """
    text = part.get("text", part.get("refusal"))
    if isinstance(text, _OBJECT):
        text = text.get("value")
    return str(text) if isinstance(text, str | int | float) else ""


def said(content: object) -> str:
    """Return the text of the assistant's message: its text parts, joined.

    Refusals are included.

    Parts may be plain strings, may lack their type and may be null; other types, such as
    `thinking`, are left out.
    """
    if isinstance(content, str):
        return content
    if type(content) is list and len(content) == 1:  # nearly always
        return content[0] if isinstance(content[0], str) else _said_by(content[0])
    parts = (
        [content]
        if isinstance(content, _OBJECT)
        else content
        if isinstance(content, _ARRAY)
        else ()
    )
    return "".join(part if isinstance(part, str) else _said_by(part) for part in parts)


def _said_by(part: object) -> str:
    if not isinstance(part, _OBJECT):
        return ""
    kind = part.get("type")
    return text_of(part) if kind is None or (isinstance(kind, str) and kind in _SAID) else ""


def object_in(value: object) -> Mapping[str, Any]:
    """Return a server's value if it is an object, else an empty one."""
    return value if isinstance(value, _OBJECT) else {}


def objects_in(value: object) -> list[Json]:
    """Return the objects of a server's list; none if it is no list."""
    return (
        [dict(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []
    )


def parts_of(content: object) -> list[Mapping[str, Any]]:
    """Return the parts of a stored content; plain strings, alone or in a list, are texts."""
    listed = [content] if isinstance(content, str | Mapping) else content
    return [
        {"type": "text", "text": part} if isinstance(part, str) else part
        for part in (listed if isinstance(listed, Sequence) else ())
        if isinstance(part, str | Mapping)
    ]


def same_content(stored: object, ours: Content) -> bool:
    """Return whether the stored content is the content that we sent.

    Texts are compared without blanks at the ends, other parts only by their type: servers rewrite
    links and leave out data.
    """
    return _outline(stored) == _outline(ours)


def _outline(content: object) -> list[tuple[str, str]]:
    outline = []
    for part in parts_of(content):
        kind = str(part.get("type"))
        known = _KINDS.get(kind, kind)
        outline.append((known, text_of(part).strip() if known == "text" else ""))
    return outline


# --- tools ----------------------------------------------------------------------------------------


def responses_tool(tool: Mapping[str, Any]) -> Json:
    """Convert a function's schema to the flat form of Responses."""
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, Mapping) else dict(tool)


def assistants_tool(tool: Mapping[str, Any]) -> Json:
    """Convert a function's schema to the nested form of Assistants."""
    if tool.get("type") != "function" or "function" in tool:
        return dict(tool)
    return {
        "type": "function",
        "function": _filled({name: value for name, value in tool.items() if name != "type"}),
    }


# --- metadata -------------------------------------------------------------------------------------


def run_metadata(
    items: Iterable[InputItem], batch_id: str, own: Mapping[str, str] | None = None
) -> dict[str, str]:
    """Build the metadata of a run: the options' pairs, the callers' pairs, and our mark.

    Pairs beyond the provider's limit are left out, the callers' last ones first.
    """
    pairs = dict(own or {})
    for item in items:
        for name, value in item.metadata.items():
            pairs.setdefault(name, value)
    return {**dict(list(pairs.items())[: MAX_PAIRS - 1]), BATCH_MARK: batch_id[:MAX_VALUE]}


def own_metadata(
    given: Mapping[str, str], options: Mapping[str, str] | None = None
) -> dict[str, str] | None:
    """Build the metadata of a run without a batch, None without any.

    The caller's pairs come first, then those of the options up to the provider's limit.
    """
    pairs = {
        **given,
        **{name: value for name, value in (options or {}).items() if name not in given},
    }
    return dict(list(pairs.items())[:MAX_PAIRS]) or None


def message_metadata(item: InputItem, batch_id: str) -> dict[str, str]:
    """Build the metadata of one message: the caller's pairs, and the two marks to find it by."""
    pairs = dict(list(item.metadata.items())[: MAX_PAIRS - 2])
    return {**pairs, MESSAGE_MARK: message_mark(item), BATCH_MARK: batch_id[:MAX_VALUE]}


def message_mark(item: InputItem) -> str:
    """Return the ids of the messages in an item; only the first if they do not all fit."""
    joined = ",".join(item.message_ids)
    return joined if len(joined) <= MAX_VALUE else item.message_ids[0][:MAX_VALUE]


# --- the rest -------------------------------------------------------------------------------------


def request_options(run_options: Mapping[str, Any] | None) -> tuple[Json, Json]:
    """Split the run options into the body's fields and what is sent beside the body.

    The latter is `headers` and `query`, from `extra_headers` and `extra_query`.
    """
    options = dict(run_options or {})
    beside: Json = {
        name: options.pop(f"extra_{name}")
        for name in ("headers", "query")
        if f"extra_{name}" in options
    }
    options.update(options.pop("extra_body", None) or {})
    return options, beside


def _filled(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
