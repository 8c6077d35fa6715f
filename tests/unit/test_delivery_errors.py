"""Errors that `on_reply` and channels raise about a delivery."""

import math

import pytest

from assistant_queue import DeliveryError, DeliveryUnknown, RetryLater, Undeliverable


@pytest.mark.parametrize("after", [-1, math.nan, math.inf, "3", True])
def test_a_wait_that_is_no_number_of_seconds_is_refused(after):
    with pytest.raises(ValueError, match="expected seconds of at least 0, or None"):
        RetryLater(after)


def test_a_wait_is_kept_as_seconds():
    assert RetryLater(after=30).after_s == 30.0
    assert RetryLater().after_s is None


def test_each_error_of_a_delivery_has_a_code_and_a_reason():
    assert Undeliverable("blocked").reason == "blocked"
    assert DeliveryUnknown("no answer").reason == "no answer"
    codes = {kind("x").code for kind in (Undeliverable, DeliveryUnknown)} | {RetryLater().code}
    assert codes == {"undelivered", "delivery_unknown", "retry_later"}
    assert all(issubclass(kind, DeliveryError) for kind in (RetryLater, Undeliverable))
