"""Bodies of the Bot API's calls: JSON, or forms as most libraries of bots send them."""

from __future__ import annotations

import json
from email import message_from_bytes
from email.policy import HTTP
from typing import Any
from urllib.parse import parse_qsl

from assistant_queue.testing.channels.platform_server import PlatformRequest

_TEXTS = frozenset({"text", "parse_mode", "action", "url", "secret_token", "file_id"})
"""Fields that are texts; a form has JSON in all others."""


def arguments_of(request: PlatformRequest) -> Any:
    """Return a call's arguments; None for a body that is no JSON object and no form."""
    kind = request.headers.get("content-type", "")
    if not request.raw:
        return {}
    if kind.startswith("application/x-www-form-urlencoded"):
        return _values(dict(parse_qsl(request.raw.decode(errors="replace"))))
    if kind.startswith("multipart/form-data"):
        return _values(_parts(kind, request.raw))
    return request.body


def _parts(kind: str, raw: bytes) -> dict[str, str]:
    form = message_from_bytes(b"Content-Type: " + kind.encode() + b"\r\n\r\n" + raw, policy=HTTP)
    found = {}
    for part in form.iter_parts():
        name = part.get_param("name", header="content-disposition")
        content = part.get_payload(decode=True)
        if isinstance(name, str) and isinstance(content, bytes):
            found[name] = content.decode(errors="replace")
    return found


def _values(fields: dict[str, str]) -> dict[str, Any]:
    return {name: value if name in _TEXTS else _json(value) for name, value in fields.items()}


def _json(value: str) -> Any:
    try:
        return json.loads(value)
    except ValueError:
        return value
