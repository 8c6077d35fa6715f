"""A stored failure is handed to listeners as a typed error."""

from __future__ import annotations

import pytest

from assistant_queue import errors


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("request_refused", errors.RequestRefused),
        ("run_expired", errors.RunExpired),
        ("unknown_thread", errors.UnknownThread),
        ("invalid_tool_result", errors.InvalidToolResult),
        ("parked", errors.BatchFailed),
        ("rate_limit_exceeded", errors.BatchFailed),
        ("store", errors.BatchFailed),
    ],
)
def test_the_code_of_a_failure_names_its_class(
    code: str, kind: type[errors.AssistantQueueError]
) -> None:
    found = errors.error_of(code, "it went wrong", batch_id="b1")
    assert type(found) is kind
    assert str(found) == "it went wrong"
    assert getattr(found, "batch_id", "b1") == "b1"


def test_each_code_below_the_listed_roots_is_one_class() -> None:
    tree = errors._tree(errors.BackendError, errors.CallbackError, errors.LeaseLost)
    below = [kind for kind in tree if kind.__module__ == errors.__name__]
    assert len({kind.code for kind in below}) == len(below)
