"""Types of the messages that an application adds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, TypedDict

from assistant_queue.models import Content

MidRun = Literal["collect", "interrupt", "steer", "reject"]
"""Fate of a message that is added while a batch of its thread is not over."""


class _RequiredOfRow(TypedDict):
    thread_id: str
    message: Content


class MessageRow(_RequiredOfRow, total=False):
    """A row of `add_messages`: the arguments of `add_message_to_thread` as a dict."""

    instructions: str | None
    message_id: str | None
    author: str | None
    metadata: Mapping[str, str] | None
    tenant: str | None
    wants_reply: bool
    message_delay: float | None
    mid_run: MidRun | None


class _SeeMessageRow:
    """Type without values. `dict[str, Any]` is compatible with a dict of it, a literal is not."""


UncheckedRow = dict[str, _SeeMessageRow]
"""Rows of type `dict[str, Any]`, as a JSON reader or a database returns them: type checkers accept
them, and still compare a row that is written out with `MessageRow`."""
