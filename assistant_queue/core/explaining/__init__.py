"""Why a message has no answer (yet): the verdicts, their advice, and how one is chosen. Pure."""

from __future__ import annotations

from assistant_queue.core.explaining.explanation import in_words
from assistant_queue.core.explaining.facts import (
    DeliveryFacts,
    LineFacts,
    MessageFacts,
    OutcomeFacts,
    ThreadFacts,
    WorkerSign,
    Workforce,
)
from assistant_queue.core.explaining.verdicts import judge_facts, needs_line

__all__ = [
    "DeliveryFacts",
    "LineFacts",
    "MessageFacts",
    "OutcomeFacts",
    "ThreadFacts",
    "WorkerSign",
    "Workforce",
    "in_words",
    "judge_facts",
    "needs_line",
]
