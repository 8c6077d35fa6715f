"""The outbox against a model of it in plain Python, and with deliberate bugs in its scripts."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test

from assistant_queue.errors import QueueError, StoreError
from assistant_queue.store.scripts import whole_source
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig
from tests.properties import broken_scripts

sys.path.insert(0, str(Path(__file__).parent))
from outbox_model import outbox_machine, outbox_tour

NUMBERS = itertools.count()
FOUND = (AssertionError, StoreError, QueueError, KeyError, ValueError)


@pytest.fixture
def rig(one_redis: RedisServer) -> Iterator[Callable[[], Rig]]:
    with redis.Redis.from_url(one_redis.url) as client:

        def fresh() -> Rig:
            client.flushdb()
            return Rig(client, f"outbox{next(NUMBERS)}")

        yield fresh


def search(rig: Callable[[], Rig], examples: int, search_seed: int | None, **more: Any) -> None:
    play = outbox_machine(rig)
    run_state_machine_as_test(
        play if search_seed is None else seed(search_seed)(play),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            **more,
        ),
    )


@pytest.mark.timeout(600 if settings().max_examples < 100 else 7200)
def test_the_outbox_does_what_its_model_does(
    rig: Callable[[], Rig], search_seed: int | None
) -> None:
    search(rig, settings().max_examples, search_seed, derandomize="CI" in os.environ)


BUGS = {
    "a claim takes a lease that is held": (
        "claim_delivery",
        "if is_leased(d) then",
        "if false then",
    ),
    "a claim does not wait": (
        "claim_delivery",
        "if not d.token and number_of(d.due) > now then",
        "if false then",
    ),
    "a new head forgets the worker before": (
        "delivered",
        "if last then redis",
        "if false then redis",
    ),
    "a claim counts no death": (
        "claim_delivery",
        "d.deaths = ms(number_of(d.deaths) + 1)",
        "d.deaths = d.deaths",
    ),
    "a claim ignores a pause": ("claim_delivery", "if holds_replies(t) then", "if false then"),
    "a reply is delivered without the lease": (
        "delivered",
        "if d.token == arg.token and d.batch == arg.batch_id then return nil end",
        "do return nil end",
    ),
    "a postponed reply is not checked again": (
        "postpone_delivery",
        "set_delivery_check(due)",
        "redis.call('ZREM', key.deliveries, arg.thread_id)",
    ),
    "a postponed reply forgets its parts": (
        "postpone_delivery",
        "'progress', arg.progress)",
        "'progress', '')",
    ),
    "a parked reply is not listed": (
        "park_delivery",
        "redis.call('ZADD', key.failed, ms(now), arg.batch_id)",
        "",
    ),
    "a late reply joins the end of the line": (
        "return_delivery",
        "redis.call('LPUSH', key.outbox, entry)\n",
        "redis.call('RPUSH', key.outbox, entry)\n",
    ),
    "a displaced reply forgets its parts": (
        "return_delivery",
        "if d.batch and d.progress then d['s:' .. d.batch] = d.progress end",
        "",
    ),
    "a discarded reply is kept": ("discard_delivery", "redis.call('DEL', key.reply)\n", ""),
    "a late copy of a return acts": (
        "return_delivery",
        "if known[1] ~= arg.failed_at or not entry then",
        "if not entry then",
    ),
    "an older write of the holder counts": (
        "save_delivery",
        "if tonumber(arg.number) > number_of(d.number) then",
        "if true then",
    ),
    "a clock that is set back moves no wait": (
        "claim_delivery",
        "ipairs({'due', 'until'}) do",
        "ipairs({'until'}) do",
    ),
    "a clock that is set back moves no lease": (
        "rewind_delivery",
        "ipairs({'due', 'until'}) do",
        "ipairs({'due'}) do",
    ),
    "a reply that was never tried waits for the clock to come back": (
        "rewind_delivery",
        "d.seen and 'seen' or 'due'",
        "'seen'",
    ),
    "a resumed thread keeps the times of a clock that was set back": (
        "claim_delivery",
        "delivery_rewound(d, 0)",
        "",
    ),
    "no process looks at what was said": (
        "say",
        "set_head({}, arg.batch_id, holds_replies(t), '', '')\n",
        "",
    ),
    "a late copy of a text is said": ("say", "if known[1] then return", "if false then return"),
    "a delivery does not reach the journal": (
        "delivered",
        "add_to('delivered', 1)\njournal_delivery()\n",
        "add_to('delivered', 1)\n",
    ),
    "a delivery that is given up does not reach the journal": (
        "park_delivery",
        "end\njournal_delivery()\n",
        "end\n",
    ),
    "a delivery reaches the journal without the lease": (
        "delivered",
        "if word then return word end",
        "if word then journal_delivery() return word end",
    ),
    "a delivery joins the newest batch": ("delivered", "known == batch and ", ""),
    "a delivery without the lease is counted": (
        "delivered",
        "if word then return word end",
        "count_step()\nif word then return word end",
    ),
    "a delivery is not counted": (
        "delivered",
        "journal_delivery()\ncount_step()",
        "journal_delivery()",
    ),
    "a reply that is parked without the lease is counted": (
        "park_delivery",
        "if word then return word end",
        "count_step()\nif word then return word end",
    ),
    "a parked reply is not counted": ("park_delivery", "count_step()\nif kind", "if kind"),
    "a repeated end of a try is counted": (
        "postpone_delivery",
        "local d = read_delivery()\n",
        "local d = read_delivery()\ncount_step()\n",
    ),
    "a try that failed is not counted": (
        "postpone_delivery",
        "count_step()\nlocal due",
        "local due",
    ),
    "finish puts no reply into the outbox": ("finish", "queue_reply(t, t.batch, 'reply')\n", ""),
}


def test_the_tour_is_passed_by_the_outbox_as_it_is(rig: Callable[[], Rig]) -> None:
    outbox_tour(outbox_machine(rig)())


@pytest.mark.parametrize("bug", BUGS)
def test_the_tour_finds(rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    name, old, new = BUGS[bug]
    broken = broken_scripts.swap(old, new)(whole_source(name))
    broken_scripts.use(monkeypatch, name, broken)
    with pytest.raises(FOUND):
        outbox_tour(outbox_machine(rig)())
