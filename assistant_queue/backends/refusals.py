"""What a refusal was about, where a backend can do something about it at once."""

from __future__ import annotations

import re
from dataclasses import dataclass
from http import HTTPStatus

from assistant_queue.errors import BackendError
from assistant_queue.trouble import Kind

# Source: the provider's wording; these errors carry no code of their own.
_NO_OUTPUT = re.compile(r"(?:No tool output found for (?:\w+ )*call|did not have response messages:) ([\w-]+)", re.IGNORECASE)
_NO_CALL = re.compile(r"No tool call found for (?:\w+ )*call output with call_id ([\w-]+)", re.IGNORECASE)
_ORPHAN = re.compile(r"Item '([^']+)' of type '([^']+)' was provided without its required", re.IGNORECASE)
_NOT_WAITING = re.compile(r"do not accept tool outputs", re.IGNORECASE)

_MAY_BE_LENGTH = frozenset({HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY})


def _text_of(refusal: BackendError) -> str:
    return "" if refusal.trouble is None else refusal.trouble.text


def has_too_much_context(refusal: BackendError) -> bool:
    """The conversation is longer than the model can read."""
    return refusal.trouble is not None and refusal.trouble.kind is Kind.CONTEXT_OVERFLOW


def may_have_too_much_context(refusal: BackendError) -> bool:
    """The refusal names no field and no reason that is known, so that the length may be what it is about."""
    trouble = refusal.trouble
    return (
        trouble is not None
        and trouble.kind in {Kind.MALFORMED, Kind.UNSUPPORTED}
        and trouble.status in _MAY_BE_LENGTH
        and (trouble.param is None or trouble.param in {"messages", "input", "prompt"})
    )


def names(refusal: BackendError, field: str) -> bool:
    """The refusal is about a field of the request."""
    trouble = refusal.trouble
    if trouble is None or trouble.status not in {HTTPStatus.BAD_REQUEST, HTTPStatus.UNPROCESSABLE_ENTITY}:
        return False
    return field in (trouble.param or "") or field in trouble.text


def unanswered_call(refusal: BackendError) -> str | None:
    """The id of the call whose missing output made the provider refuse, None if that was not the reason."""
    found = _NO_OUTPUT.search(_text_of(refusal))
    return found[1] if found else None


@dataclass(frozen=True, slots=True)
class Orphan:
    """An item of a conversation without the one it belongs to; `kind` is its type."""

    id: str
    kind: str


def orphaned_item(refusal: BackendError) -> Orphan | None:
    """The item whose counterpart is missing in the conversation, None if that was not the reason.

    Reasoning wants what it led to behind it; a message or a call that came of reasoning wants that before it.
    """
    found = _ORPHAN.search(_text_of(refusal))
    return Orphan(found[1], found[2]) if found else None


def unknown_call(refusal: BackendError) -> str | None:
    """The id of the call that an output of ours was for and that the provider does not know, None if that was not the reason."""
    found = _NO_CALL.search(_text_of(refusal))
    return found[1] if found else None


def refuses_outputs(refusal: BackendError) -> bool:
    """The run does not wait for outputs: it has them already, or it is over."""
    return bool(_NOT_WAITING.search(_text_of(refusal)))
