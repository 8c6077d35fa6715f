"""The tests' bot in a build that lacks one safeguard."""

from __future__ import annotations

import tests.integration.broken  # noqa: F401 - what is broken must be broken first
from tests.integration.bot import queue

__all__ = ["queue"]
