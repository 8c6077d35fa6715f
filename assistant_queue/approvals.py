"""Tool calls that wait for an answer from outside, as applications see them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

ApprovalKind = Literal["approval", "answer"]
"""Values of `Approval.kind`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A tool call that waits for an answer from outside; its batch is parked.

    Attributes:
        call_id: Its id, for `approve`, `deny` and `answer_tool`. As a rule `ToolCall.id`; a server
            that numbers its calls has the batch's id appended.
        thread_id: Its thread.
        batch_id: Its batch.
        tool: The function's name.
        arguments: Those that the model chose.
        question: What is asked; None if nothing is.
        authors: The authors of the batch's messages.
        tenant: Their label.
        requested_at: When the batch parked; aware, UTC.
        expires_at: When the call is denied by itself; aware, UTC.
        kind: `approval` if the function is called once it is approved, `answer` if its output comes
            by `answer_tool`.
    """

    call_id: str
    thread_id: str
    batch_id: str
    tool: str
    arguments: Mapping[str, Any]
    question: str | None
    authors: tuple[str, ...]
    tenant: str | None
    requested_at: datetime
    expires_at: datetime
    kind: ApprovalKind = "approval"


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalLinks:
    """Two addresses that settle a tool call without a login; each is a secret.

    Attributes:
        approve: The page with the button that approves the call.
        deny: The page with the button that denies it.
        expires_at: When both expire; aware, UTC.
    """

    approve: str
    deny: str
    expires_at: datetime
