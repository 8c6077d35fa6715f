"""Links that settle a tool call without a login: made, and read again."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from assistant_queue.approvals import ApprovalLinks
from assistant_queue.client import arguments as checks
from assistant_queue.client.approval_calls import MAX_CALL_ID
from assistant_queue.config import Config
from assistant_queue.core.link_tokens import LinkClaims, LinkVerdict, read, sign
from assistant_queue.core.progress import moment
from assistant_queue.errors import ApprovalNotFound, ConfigurationError, InvalidArgument
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops.linked_calls import read_asked

PATH = "/approval"
"""Path of the page below the address of the service."""
_MAX_URL = 2000
"""Characters of an address. Source: what mail programs and proxies take as a rule."""
_MAX_LIFE_S = 366 * 24 * 3600.0
"""Longest life of a link. Chosen: as the longest usual `approval_timeout`."""


def make_links(
    namespace: Namespace, config: Config, call_id: Any, base_url: Any, *, by: Any, expires_in: Any
) -> Operation[ApprovalLinks]:
    """`approval_links`."""
    key = checks.identifier(call_id, "call_id", MAX_CALL_ID)
    name = None if by is None else checks.check_person(by, "by")
    address = _address(base_url)
    life_s = None if expires_in is None else _life(expires_in)
    secrets = config.approval_secrets
    if not secrets:
        raise ConfigurationError(
            "approval_secret is missing: give it, or set ASSISTANT_QUEUE_APPROVAL_SECRET, in each "
            "process that makes links or serves them"
        )
    asked, now_ms = yield from read_asked(namespace, key)
    if asked is None:
        raise ApprovalNotFound(
            f"There is no open tool call {key!r}: it was never asked for, was settled, or its batch "
            "is over; list_approvals() returns the open ones"
        )
    if asked.kind == "answer":
        raise InvalidArgument(
            f"the call {key!r} waits for an output, not for an approval: call answer_tool()"
        )
    until_ms = round(asked.expires_at.timestamp() * 1000)
    if life_s is not None:
        until_ms = min(until_ms, now_ms + round(life_s * 1000))

    def link(verdict: LinkVerdict) -> str:
        claims = LinkClaims(call_id=key, verdict=verdict, until_ms=until_ms, by=name)
        return f"{address}{PATH}?token={sign(claims, config.queue_prefix, secrets[0])}"

    return ApprovalLinks(approve=link("approve"), deny=link("deny"), expires_at=moment(until_ms))


def read_link(config: Config, token: str) -> LinkClaims | None:
    """Return the claims of a link's token; None if no secret of the queue has signed it."""
    return read(token, config.queue_prefix, config.approval_secrets)


def _address(value: Any) -> str:
    said = "base_url must be the address of the service, such as https://chat.example.com"
    if not isinstance(value, str):
        raise InvalidArgument(f"{said}, not {type(value).__name__}")
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in {"http", "https"} and bool(parts.hostname)
    except ValueError:
        is_right = False
    is_plain = value.isascii() and value.isprintable() and not set(" ?#\"'<>\\") & set(value)
    if not is_right or not is_plain or len(value) > _MAX_URL or parts.username is not None:
        raise InvalidArgument(f"{said}, without query and user, not {checks.shown(value)}")
    return value.rstrip("/")


def _life(value: Any) -> float:
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= _MAX_LIFE_S
    ):
        raise InvalidArgument(
            f"expires_in must be a number of seconds above 0, at most {_MAX_LIFE_S:.0f}, not "
            f"{checks.shown(value)}"
        )
    return float(value)
