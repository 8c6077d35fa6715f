"""For tests of this package and of what is built on it: the strict stand-in provider.

Needs the extra `testing`.
"""

from __future__ import annotations

from assistant_queue.testing.provider import Personality, StandInProvider

__all__ = ["Personality", "StandInProvider"]
