"""The audit: every batch with its prompt and reply, in a database of yours. See docs/audit.md."""

from __future__ import annotations

from assistant_queue.auditing import AuditMessage, AuditOutcome, AuditRecord
from assistant_queue.integrations.audit.sql_audit import SqlAudit

__all__ = ["AuditMessage", "AuditOutcome", "AuditRecord", "SqlAudit"]
