"""Queue object of docker-compose.yml: that of app.py, with an audit.

AUDIT_URL is the address of the audit's database: `assistant-queue audit upgrade --app stack:queue`
makes its tables.
"""

from __future__ import annotations

import os

from app import TOOLS, send_reply, use_tools

from assistant_queue import AssistantMessageQueue
from assistant_queue.integrations.audit import SqlAudit

queue = AssistantMessageQueue(
    tools=TOOLS,
    handle_requires_action=use_tools,
    on_reply=send_reply,
    audit=SqlAudit(os.environ["AUDIT_URL"]),
)
