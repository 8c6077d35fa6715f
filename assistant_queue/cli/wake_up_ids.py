"""Ids of wake-ups in the place of a message's id."""

from __future__ import annotations

import re

from assistant_queue.client.queue import AssistantMessageQueue
from assistant_queue.models import MessageStatus

_JOB_ID = re.compile("[0-9a-f]{16}")
"""The form of a wake-up's id. Source: `wakeups.new_job_id`."""


def messages_of_job(queue: AssistantMessageQueue, name: str) -> list[MessageStatus]:
    """Return the messages of a wake-up; none, and without a search, if the id is no such id."""
    return queue.get_messages_by_job_id(name) if _JOB_ID.fullmatch(name) else []
