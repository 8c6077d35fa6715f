"""Deliberate bugs in scripts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from assistant_queue.store import calls
from assistant_queue.store.scripts import build, load


def use(monkeypatch: pytest.MonkeyPatch, name: str, source: str) -> None:
    """Have a script built from this source."""
    monkeypatch.setattr(
        calls,
        "load",
        lambda asked, constants=(): (
            build(asked, source, constants) if asked == name else load(asked, constants)
        ),
    )


def swap(old: str, new: str) -> Callable[[str], str]:
    """Return the change that puts `new` in the place of `old`, which a script has once."""

    def change(source: str) -> str:
        assert source.count(old) == 1, f"the script has changed: {source.count(old)} of {old!r}"
        return source.replace(old, new)

    return change
