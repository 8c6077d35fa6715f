"""Profiles of Hypothesis.

Brief by default, the same examples each time in CI, long when asked to.

`HYPOTHESIS_PROFILE=long pytest tests/unit` looks for longer.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "brief",
    max_examples=100,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=_CHECKS,
    print_blob=True,
)
settings.register_profile(
    "long", max_examples=5000, deadline=None, suppress_health_check=_CHECKS, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "brief"))
