"""Messages, tools and metadata in the words of each protocol, and back. Pure.

A caller may write content parts and tools as either protocol knows them; what cannot be told is passed through untouched.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from assistant_queue.core.runs import InputItem
from assistant_queue.models import Content, Usage

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

_SAID = frozenset({"text", "output_text", "refusal"})
"""Kinds of parts that are the assistant's words."""

_MOST_TOKENS = 10**12
"""More tokens than these are no count. Chosen: a million requests of a million."""


# --- content parts ------------------------------------------------------------------------------------------------------


def responses_content(content: Content) -> str | list[Json]:
    """Content as the input of a response."""
    return content if isinstance(content, str) else [_responses_part(part) for part in content]


def _responses_part(part: Mapping[str, Any]) -> Json:
    kind = part.get("type")
    if kind == "text":
        return {"type": "input_text", "text": text_of(part)}
    image = part.get(str(kind))
    if kind == "image_url":
        fields = image if isinstance(image, Mapping) else {"url": image, "detail": part.get("detail")}
        return _filled({"type": "input_image", "image_url": fields.get("url"), "detail": fields.get("detail")})
    if kind == "image_file" and isinstance(image, Mapping):
        return _filled({"type": "input_image", "file_id": image.get("file_id"), "detail": image.get("detail")})
    if kind == "file" and isinstance(image, Mapping):
        return {"type": "input_file", **image}
    return dict(part)


def assistants_content(content: Content) -> str | list[Json]:
    """Content as a message of a thread."""
    return content if isinstance(content, str) else [_assistants_part(part) for part in content]


def _assistants_part(part: Mapping[str, Any]) -> Json:
    kind, detail = part.get("type"), part.get("detail")
    if kind in {"text", "input_text"}:
        return {"type": "text", "text": text_of(part)}
    if kind == "input_image" and part.get("file_id"):
        return {"type": "image_file", "image_file": _filled({"file_id": part["file_id"], "detail": detail})}
    if kind == "input_image" or (kind == "image_url" and isinstance(part.get("image_url"), str)):
        return {"type": "image_url", "image_url": _filled({"url": part.get("image_url"), "detail": detail})}
    return dict(part)


def chat_content(content: Content) -> str | list[Json]:
    """Content as a message of a chat completion."""
    return content if isinstance(content, str) else [_chat_part(part) for part in content]


def _chat_part(part: Mapping[str, Any]) -> Json:
    kind, image = part.get("type"), part.get("image_url")
    if kind in {"text", "input_text"}:
        return {"type": "text", "text": text_of(part)}
    if kind in {"image_url", "input_image"} and isinstance(image, str):
        return {"type": "image_url", "image_url": _filled({"url": image, "detail": part.get("detail")})}
    if kind == "input_file":
        return {"type": "file", "file": {name: value for name, value in part.items() if name != "type"}}
    return dict(part)


def text_of(part: Mapping[str, Any]) -> str:
    """Return the text of a part: a string, on Assistants an object with a `value`; of a refusal, the refusal."""
    text = part.get("text", part.get("refusal"))
    if isinstance(text, Mapping):
        text = text.get("value")
    return str(text) if isinstance(text, str | int | float) else ""


def said(content: object) -> str:
    """Return what a message of the assistant says: its text parts in one string. A refusal is what it says, too.

    Parts may be plain strings, may lack their type and may be null; what is neither text nor refusal, such as `thinking`, is left out.
    """
    if isinstance(content, str):
        return content
    parts = [content] if isinstance(content, Mapping) else content if isinstance(content, Sequence) else ()
    return "".join(part if isinstance(part, str) else _said_by(part) for part in parts)


def _said_by(part: object) -> str:
    if not isinstance(part, Mapping):
        return ""
    kind = part.get("type")
    return text_of(part) if kind is None or (isinstance(kind, str) and kind in _SAID) else ""


def same_content(stored: object, ours: Content) -> bool:
    """Whether what the provider stored is what we sent.

    Texts are compared, without blanks at the ends. Of other parts only the kind: servers rewrite their links and leave out their data.
    """
    return _outline(stored) == _outline(ours)


def _outline(content: object) -> list[tuple[str, str]]:
    if isinstance(content, str):
        return [("text", content.strip())]
    outline = []
    for part in content if isinstance(content, Sequence) else ():
        kind = str(part.get("type"))
        known = _KINDS.get(kind, kind)
        outline.append((known, text_of(part).strip() if known == "text" else ""))
    return outline


# --- tools --------------------------------------------------------------------------------------------------------------


def responses_tool(tool: Mapping[str, Any]) -> Json:
    """A function's schema as Responses knows it: flat."""
    function = tool.get("function")
    return {"type": "function", **function} if isinstance(function, Mapping) else dict(tool)


def assistants_tool(tool: Mapping[str, Any]) -> Json:
    """A function's schema as Assistants knows it: nested."""
    if tool.get("type") != "function" or "function" in tool:
        return dict(tool)
    return {"type": "function", "function": _filled({name: value for name, value in tool.items() if name != "type"})}


# --- metadata -----------------------------------------------------------------------------------------------------------


def run_metadata(items: Iterable[InputItem], batch_id: str, own: Mapping[str, str] | None = None) -> dict[str, str]:
    """The metadata of a run: what the options say, the callers' pairs as far as there is room, and our mark."""
    pairs = dict(own or {})
    for item in items:
        for name, value in item.metadata.items():
            pairs.setdefault(name, value)
    return {**dict(list(pairs.items())[: MAX_PAIRS - 1]), BATCH_MARK: batch_id[:MAX_VALUE]}


def own_metadata(given: Mapping[str, str], options: Mapping[str, str] | None = None) -> dict[str, str] | None:
    """The metadata of a run without a batch: the caller's pairs, then what the options say as far as there is room; None without any."""
    pairs = {**given, **{name: value for name, value in (options or {}).items() if name not in given}}
    return dict(list(pairs.items())[:MAX_PAIRS]) or None


def message_metadata(item: InputItem, batch_id: str) -> dict[str, str]:
    """The metadata of one message of a thread: the caller's pairs and the two marks it is recognised by."""
    pairs = dict(list(item.metadata.items())[: MAX_PAIRS - 2])
    return {**pairs, MESSAGE_MARK: message_mark(item), BATCH_MARK: batch_id[:MAX_VALUE]}


def message_mark(item: InputItem) -> str:
    """The ids of the messages that an item carries; only the first where they do not all fit."""
    joined = ",".join(item.message_ids)
    return joined if len(joined) <= MAX_VALUE else item.message_ids[0][:MAX_VALUE]


# --- the rest -----------------------------------------------------------------------------------------------------------


def usage_of(usage: object) -> Usage | None:
    """Return the token counts, in the words of any protocol; None if the server gives none that can be read.

    Counts that are null, negative or no number are left out: a reply that was paid for is not given up for the bill.
    """
    if not isinstance(usage, Mapping):
        return None
    given = _count(usage, "input_tokens", "prompt_tokens")
    made = _count(usage, "output_tokens", "completion_tokens")
    total = _count(usage, "total_tokens")
    if given is None and made is None and total is None:
        return None
    given, made = given or 0, made or 0
    return Usage(input_tokens=given, output_tokens=made, total_tokens=total or given + made)


def _count(usage: Mapping[str, Any], *names: str) -> int | None:
    """Return the first of these fields that is a number of tokens; some servers fill one of two and leave the other at 0."""
    found = None
    for name in names:
        value = usage.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            continue
        try:
            number = float(value)
        except (ValueError, OverflowError):
            continue
        if 0 <= number <= _MOST_TOKENS:
            found = found or int(number)
    return found


def request_options(run_options: Mapping[str, Any] | None) -> tuple[Json, Json]:
    """The caller's run options, in two: fields of the body, and what the client takes beside it (`extra_headers`, `extra_query`)."""
    options = dict(run_options or {})
    beside: Json = {name: options.pop(name) for name in ("extra_headers", "extra_query") if name in options}
    options.update(options.pop("extra_body", None) or {})
    return options, beside


def _filled(fields: Mapping[str, Any]) -> Json:
    return {name: value for name, value in fields.items() if value is not None}
