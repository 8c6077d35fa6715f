"""Hypothesis profiles: short by default, the same examples each time in CI, long on request.

`HYPOTHESIS_PROFILE=long pytest tests/properties` searches longer, `HYPOTHESIS_SEEDS=1-20` searches
once from each of these seeds. A seed repeats its search: `HYPOTHESIS_SEEDS=7` (with the same
profile) finds again what 7 of 1-20 found.
"""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

_CHECKS = [HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.filter_too_much]

settings.register_profile(
    "brief",
    max_examples=25,
    deadline=None,
    derandomize="CI" in os.environ,
    suppress_health_check=_CHECKS,
    print_blob=True,
)
settings.register_profile(
    "long", max_examples=500, deadline=None, suppress_health_check=_CHECKS, print_blob=True
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "brief"))


def seeds() -> list[int | None]:
    """Return the requested seeds; None alone for one search with the profile's settings."""
    asked = os.environ.get("HYPOTHESIS_SEEDS", "")
    if not asked:
        return [None]
    first, _, last = asked.partition("-")
    return list(range(int(first), int(last or first) + 1))


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "search_seed" in metafunc.fixturenames:
        metafunc.parametrize(
            "search_seed", seeds(), ids=lambda seed: "any" if seed is None else f"seed{seed}"
        )
