"""Faults that take minutes: run by `.ci/matrix faults`, or with `ASSISTANT_QUEUE_FAULTS=1`; skipped in the suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "ASSISTANT_QUEUE_FAULTS"
_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(VARIABLE):
        return
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=f"takes minutes: {VARIABLE}=1 runs it"))
