"""The user's functions: whether they can be called at all is known before a worker starts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from assistant_queue.config import configure
from assistant_queue.errors import ConfigurationError
from assistant_queue.worker.startup_checks import check_options


class Delivers:
    def __init__(self) -> None:
        self.heard: list[Any] = []

    def on_reply(self, result: Any) -> None:
        self.heard.append(result)

    async def __call__(self, result: Any) -> None:
        self.heard.append(result)


def two(one: Any, other: Any) -> None:
    del one, other


@pytest.mark.parametrize(
    ("option", "function", "says"),
    [
        ("on_reply", lambda: None, "on_reply= is called with 1 argument, .result.,"),
        (
            "on_reply",
            two,
            r"which \S*test_callbacks\.two does not take: missing a required argument: 'other'",
        ),
        ("on_reply", Delivers.on_reply, "missing a required argument: 'result'"),
        (
            "handle_requires_action",
            lambda calls: [],
            "3 arguments, .thread_id, run_id, tool_calls.",
        ),
        ("fallback_reply", lambda batch: "Later.", "2 arguments, .batch, error."),
        ("default_instructions", two, "1 argument, .batch."),
    ],
)
def test_a_function_that_takes_something_else_stops_the_worker_before_it_starts(
    option: str, function: Callable[..., Any], says: str
) -> None:
    with pytest.raises(ConfigurationError, match=says):
        check_options(configure({"backend": lambda batch: "x", option: function}))


@pytest.mark.parametrize(
    ("option", "function"),
    [
        ("on_reply", print),
        ("on_reply", Delivers().on_reply),
        ("on_reply", Delivers()),
        ("on_reply", partial(two, 1)),
        ("on_reply", lambda result, retries=3: None),
        ("handle_requires_action", lambda *anything: []),
        ("default_instructions", "A text"),
        ("fallback_reply", "Later."),
    ],
)
def test_whatever_can_be_called_so_is_taken(option: str, function: Any) -> None:
    check_options(configure({"backend": lambda batch: "x", option: function}))
