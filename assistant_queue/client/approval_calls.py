"""Operations of calls that wait for an answer from outside, with checked arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from assistant_queue.approvals import Approval
from assistant_queue.client import arguments as checks
from assistant_queue.core.settlements import Settlement, SettlementKind
from assistant_queue.errors import InvalidArgument
from assistant_queue.store.calls import Namespace, Operation
from assistant_queue.store.ops import settling
from assistant_queue.tools import Toolbox, WrongArguments
from assistant_queue.tools.outputs import UnwritableOutput, encode_output

MAX_PAGE = 1000
"""Rows of one `list_approvals` call. Chosen: as `list_threads`."""
MAX_CALL_ID = 512
"""Characters. Chosen: as of a thread's id."""
MAX_BY = checks.MAX_AUTHOR
MAX_REASON = 2000
"""Characters. Chosen: a paragraph; the model reads it."""


def list_approvals(
    namespace: Namespace, limit: Any, after: Any, thread_id: Any
) -> Operation[list[Approval]]:
    """`list_approvals`."""
    return settling.list_open(
        namespace,
        checks.check_limit(limit, MAX_PAGE),
        None if after is None else checks.identifier(after, "after", MAX_CALL_ID),
        None if thread_id is None else checks.check_thread_id(thread_id),
    )


def approve(
    namespace: Namespace, toolbox: Toolbox, call_id: Any, by: Any, changed: Any
) -> Operation[bool]:
    """`approve`."""
    name = _by(by)
    key = checks.identifier(call_id, "call_id", MAX_CALL_ID)
    text = None
    if changed is not None:
        if not isinstance(changed, Mapping):
            raise InvalidArgument(
                f"arguments must be a mapping of the function's parameters, not"
                f" {type(changed).__name__}"
            )
        text = checks.as_json(dict(changed), "arguments")
    asked = yield from settling.read_open(namespace, key)
    if asked is not None and asked.kind == "answer":
        raise InvalidArgument(
            f"the call {key!r} waits for an output, not for an approval: call answer_tool()"
        )
    tool = toolbox.get(asked.tool) if asked is not None else None
    if text is not None and tool is not None:
        try:
            tool.values(text)
        except WrongArguments as error:
            raise InvalidArgument(f"{tool.name}: {error}") from None
    settlement = Settlement(kind=SettlementKind.APPROVED, by=name, arguments=text)
    return (yield from settling.settle(namespace, key, settlement))


def deny(namespace: Namespace, call_id: Any, by: Any, reason: Any) -> Operation[bool]:
    """`deny`."""
    settlement = Settlement(
        kind=SettlementKind.DENIED,
        by=_by(by),
        reason=None if reason is None else checks.identifier(reason, "reason", MAX_REASON),
    )
    return settling.settle(
        namespace, checks.identifier(call_id, "call_id", MAX_CALL_ID), settlement
    )


def answer_tool(namespace: Namespace, call_id: Any, output: Any, by: Any) -> Operation[bool]:
    """`answer_tool`."""
    try:
        encoded = encode_output(output)
    except UnwritableOutput as error:
        raise InvalidArgument(f"output cannot be written as JSON: {error.type_name}") from None
    settlement = Settlement(kind=SettlementKind.ANSWERED, by=_by(by), output=encoded)
    return settling.settle(
        namespace, checks.identifier(call_id, "call_id", MAX_CALL_ID), settlement
    )


def _by(value: Any) -> str | None:
    return None if value is None else checks.check_person(value, "by")
