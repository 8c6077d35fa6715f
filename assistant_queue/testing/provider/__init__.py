"""The strict stand-in provider and everything one scripts it with. Needs the extra `testing`."""

from __future__ import annotations

from assistant_queue.testing.provider.actions import (
    append_late,
    cut_stream,
    delay,
    drop_connection,
    expire_now,
    ignore_cancel,
    never_answer,
    refuse,
    reply_with,
    trouble,
    vanish,
    work_then_refuse,
)
from assistant_queue.testing.provider.faults import Fault
from assistant_queue.testing.provider.gates import Gate
from assistant_queue.testing.provider.log import (
    Answered,
    Appended,
    Overlap,
    Refusal,
    Request,
    RunChanged,
    RunRecord,
)
from assistant_queue.testing.provider.personalities import NAMED, UnknownPersonality
from assistant_queue.testing.provider.personality import Personality
from assistant_queue.testing.provider.script import (
    IncompleteReply,
    ModelScript,
    Never,
    OutputGiven,
    OutputItems,
    Reply,
    RunFailure,
    Tokens,
    ToolCalls,
    Turn,
    echo,
    say_in_order,
)
from assistant_queue.testing.provider.server import StandInProvider
from assistant_queue.testing.provider.webhooks import WebhookEndpoint, WebhookSent

__all__ = [
    "NAMED",
    "Answered",
    "Appended",
    "Fault",
    "Gate",
    "IncompleteReply",
    "ModelScript",
    "Never",
    "OutputGiven",
    "OutputItems",
    "Overlap",
    "Personality",
    "Refusal",
    "Reply",
    "Request",
    "RunChanged",
    "RunFailure",
    "RunRecord",
    "StandInProvider",
    "Tokens",
    "ToolCalls",
    "Turn",
    "UnknownPersonality",
    "WebhookEndpoint",
    "WebhookSent",
    "append_late",
    "cut_stream",
    "delay",
    "drop_connection",
    "echo",
    "expire_now",
    "ignore_cancel",
    "never_answer",
    "refuse",
    "reply_with",
    "say_in_order",
    "trouble",
    "vanish",
    "work_then_refuse",
]
