"""A claim stores of a batch that is sent at once what the flow would have stored."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flow_harness import ASSISTANTS, CONVERSATIONS, claimed, messages

from assistant_queue.core import steps
from assistant_queue.core.first_send import FirstSend, first_send_of
from assistant_queue.core.flow import AuthorRule, BatchContext, Claimed, Rules, run_batch
from assistant_queue.core.progress import Progress
from assistant_queue.core.runs import Capabilities, FoundBy, NotFound
from assistant_queue.core.thread_state import Phase
from assistant_queue.testing.fake_clock import FakeClock

STATELESS = Capabilities(found_by=FoundBy.NOT_AT_ALL, stateless=True, conversations=False)
NOW = FakeClock().ms
WORKER = 'a "worker"@now:7'
PROVIDERS_OWN = "conv_0123456789abcdef"


def made(capabilities: Capabilities, **rules: Any) -> FirstSend:
    found = first_send_of(capabilities, Rules(**rules), WORKER)
    assert found is not None
    return found


def stored(first_send: FirstSend, anchor: str) -> Progress:
    """Return what the script makes of the template."""
    pair = f'"anchor":"{anchor}",' if anchor else ""
    text = first_send.template.replace("@now", str(NOW)).replace("@anchor", pair)
    progress = Progress.load(text.replace("@deadline", str(NOW + first_send.run_ms)))
    assert (progress.passing, progress.waiting_since_ms) == (True, NOW)
    return progress


def first_steps(batch: Claimed, capabilities: Capabilities, *answers: Any) -> list[steps.Step]:
    clock = FakeClock()
    flow = run_batch(BatchContext(batch, capabilities, Rules(), clock.store_now_ms, WORKER))
    found = [next(flow)]
    found.extend(flow.send(answer) for answer in answers)
    return found


@pytest.mark.parametrize(
    ("capabilities", "anchor"),
    [
        (ASSISTANTS, None),
        (ASSISTANTS, "item_0"),
        (CONVERSATIONS, "item_0"),
        (STATELESS, None),
        (STATELESS, "all that was said"),
    ],
    ids=["assistants", "assistants, end known", "conversations", "stateless", "its history"],
)
def test_the_flow_would_store_it(capabilities: Capabilities, anchor: str | None) -> None:
    (step,) = first_steps(claimed(anchor=anchor), capabilities)
    assert isinstance(step, steps.Save)
    assert step.phase is Phase.SENDING
    first_send = made(capabilities)
    assert first_send.is_of(step.progress, anchor)
    found = replace(stored(first_send, anchor or ""), passing=False, waiting_since_ms=0)
    assert found == step.progress


@pytest.mark.parametrize(
    "change",
    [
        {"attempts": 2},
        {"anchor": "item_1"},
        {"located": False},
        {"already_in_thread": True},
        {"carried": "words"},
    ],
)
def test_another_progress_is_stored_by_its_own_step(change: dict[str, Any]) -> None:
    progress = Progress(attempts=1, located=True, anchor="item_0")
    first_send = made(CONVERSATIONS)
    assert first_send.is_of(progress, "item_0")
    assert not first_send.is_of(replace(progress, **change), "item_0")


@pytest.mark.parametrize(
    "rules",
    [
        {"background": True},
        {"instructions": True},
        {"max_batch_chars": 1000},
        {"authors": AuthorRule.SEPARATE},
        {"authors": AuthorRule.ASK},
    ],
)
def test_none_is_stored_if_a_step_may_come_before_it(rules: dict[str, Any]) -> None:
    assert first_send_of(CONVERSATIONS, Rules(**rules), WORKER) is None


@pytest.mark.parametrize(
    ("capabilities", "thread_id", "needs"),
    [
        (ASSISTANTS, "a customer", "i"),
        (ASSISTANTS, PROVIDERS_OWN, ""),
        (CONVERSATIONS, "a customer", "ia"),
        (CONVERSATIONS, PROVIDERS_OWN, "a"),
        (STATELESS, "a customer", ""),
    ],
)
def test_what_is_read_of_the_conversation(
    capabilities: Capabilities, thread_id: str, needs: str
) -> None:
    assert made(capabilities).needs_of(thread_id) == needs


def test_a_batch_that_was_too_large_when_its_worker_died_is_made_smaller_and_looked_for() -> None:
    """The mark of the claim covers all of it; what does not fit is given back after it."""
    first_send = made(CONVERSATIONS)
    small = replace(CONVERSATIONS, max_items=1)
    batch = claimed(
        *(replace(one, author=one.id) for one in messages("one", "two")),
        phase=Phase.SENDING,
        progress=replace(stored(first_send, "item_0"), sent_ms=NOW - 60_000),
        deaths=1,
    )
    trim, find, save = first_steps(batch, small, None, NotFound(anchor="item_0"))
    assert isinstance(trim, steps.Trim)
    assert isinstance(find, steps.Find)
    assert [item.message_ids for item in find.request.items] == [("m1",)]
    assert isinstance(save, steps.Save)


@pytest.mark.parametrize("capabilities", [CONVERSATIONS, STATELESS], ids=["kept", "stateless"])
def test_a_death_before_its_request_is_no_attempt(capabilities: Capabilities) -> None:
    progress = replace(stored(made(capabilities), "item_0"), sent_ms=NOW - 60_000)
    batch = claimed(phase=Phase.SENDING, progress=progress, deaths=1)
    answers = () if capabilities.stateless else (NotFound(anchor="item_0"),)
    *_, save = first_steps(batch, capabilities, *answers)
    assert isinstance(save, steps.Save)
    assert save.phase is Phase.SENDING
    assert (save.progress.attempts, save.progress.failures, save.progress.passing) == (1, 0, False)
