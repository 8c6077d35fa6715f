"""Faults that take minutes: run by `.ci/matrix faults`, or with `ASSISTANT_QUEUE_FAULTS=1`; skipped in the suite."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

VARIABLE = "ASSISTANT_QUEUE_FAULTS"
_HERE = f"{Path(__file__).parent}{os.sep}"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if os.environ.get(VARIABLE):
        return
    for item in items:
        if str(item.path).startswith(_HERE):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes: {VARIABLE}=1 runs it"))
