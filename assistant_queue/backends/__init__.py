"""The providers a queue can talk to.

Nothing heavy is imported here: `openai` takes a second, and a web process may never need it.
"""

from __future__ import annotations

from assistant_queue.backends.factory import create_backend

__all__ = ["create_backend"]
