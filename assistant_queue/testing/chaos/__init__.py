"""Break everything for a while and count: `python -m assistant_queue.testing.chaos --seconds 60 --seed 1`. Needs the extra `testing`."""

from __future__ import annotations

from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.chaos.plan import Event, Settings, make_plan
from assistant_queue.testing.chaos.runner import run

__all__ = ["Event", "Sent", "Settings", "Verdict", "judge", "make_plan", "run"]
