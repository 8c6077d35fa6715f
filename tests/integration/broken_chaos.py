"""The chaos runner's bot in a build that lacks one safeguard."""

from __future__ import annotations

import tests.integration.broken  # noqa: F401 - what is broken must be broken first
from assistant_queue.testing.chaos.chaos_bot import make_queue

queue = make_queue()
