"""Fault injection with a judge: `python -m assistant_queue.testing.chaos --seconds 60 --seed 1`.

Needs the extra `testing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from assistant_queue.deprecated import old_names
from assistant_queue.testing.chaos.oracle import Sent, Verdict, judge
from assistant_queue.testing.chaos.plan import ChaosSettings, PlannedFault, make_plan
from assistant_queue.testing.chaos.runner import run

__all__ = ["ChaosSettings", "PlannedFault", "Sent", "Verdict", "judge", "make_plan", "run"]

if not TYPE_CHECKING:  # a type checker would take any name for one of this module
    __getattr__ = old_names(__name__)
