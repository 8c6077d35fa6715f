"""Questions of channels against a model in plain Python, and with deliberate bugs in their scripts."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

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
from question_model import question_machine, question_tour

NUMBERS = itertools.count()
FOUND = (AssertionError, StoreError, QueueError, KeyError, ValueError)


@pytest.fixture
def rig(one_redis: RedisServer) -> Iterator[Callable[[], Rig]]:
    with redis.Redis.from_url(one_redis.url) as client:

        def fresh() -> Rig:
            client.flushdb()
            return Rig(client, f"questions{next(NUMBERS)}")

        yield fresh


@pytest.mark.timeout(600 if settings().max_examples < 100 else 7200)
def test_the_questions_do_what_their_model_does(
    rig: Callable[[], Rig], search_seed: int | None
) -> None:
    play = question_machine(rig)
    run_state_machine_as_test(
        play if search_seed is None else seed(search_seed)(play),
        settings=settings(
            max_examples=settings().max_examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize="CI" in os.environ,
        ),
    )


BUGS = {
    "a park asks nothing": (
        "park",
        "if call[5] then redis.call('ZADD', key.questions, ms(now), call[1]) end",
        "",
    ),
    "a park asks without a channel": ("park", "if call[5] then redis", "if true then redis"),
    "a settled call is asked about": (
        "claim_question",
        "known[10] and not known[6] and",
        "known[10] and",
    ),
    "a call is asked about twice": ("claim_question", "if (is_open and sent) or (", "if ("),
    "a verdict of what was never asked is shown": (
        "claim_question",
        "(not is_open and sent == known[18])",
        "false",
    ),
    "a claim takes what is held": ("claim_question", " or tonumber(score) > now\n", "\n"),
    "a late copy of a claim takes it": (
        "claim_question",
        "if tonumber(score) ~= tonumber(arg.expected) or",
        "if",
    ),
    "a claim is no lease": (
        "claim_question",
        "redis.call('ZADD', key.questions, ms(now + tonumber(arg.lease_ms)), arg.call_id)\n",
        "",
    ),
    "a claim counts no death": (
        "claim_question",
        "deaths = ms(tonumber(deaths) + 1)",
        "deaths = deaths",
    ),
    "what is over stays listed": (
        "claim_question",
        "  redis.call('ZREM', key.questions, arg.call_id)\n",
        "",
    ),
    "a question is noted without the lease": (
        "asked",
        "if asker == arg.token then",
        "if true then",
    ),
    "a late worker notes nothing": (
        "asked",
        "if not is_known then",
        "if not is_known and asker == arg.token then",
    ),
    "a verdict that came meanwhile is not shown": (
        "asked",
        "  if known[3] then",
        "  if false then",
    ),
    "the message of a late worker keeps its buttons": (
        "asked",
        "if known[3] and not is_known and",
        "if false and",
    ),
    "a copy of a note shows the verdict again": (
        "asked",
        "if known[3] and not is_known and",
        "if known[3] and",
    ),
    "a release does not ask who holds it": (
        "release_question",
        "if known[1] ~= arg.token then return {'lost'} end",
        "",
    ),
    "a release forgets the question": (
        "release_question",
        "  redis.call('ZADD', key.questions, ms(now + tonumber(arg.wait_ms)), arg.call_id)\n",
        "  redis.call('ZREM', key.questions, arg.call_id)\n",
    ),
    "a release is a death": (
        "release_question",
        "redis.call('HDEL', key.call, 'asker_deaths')\n",
        "",
    ),
    "a message that came meanwhile keeps its buttons": (
        "release_question",
        "if (known[2] or '') == arg.sent then",
        "if true then",
    ),
    "a settled call is still to be asked about": (
        "settle",
        "settle_question(arg.call_id, known[5], known[6])\n",
        "",
    ),
    "a verdict takes the question from its holder": (
        "settle",
        "if asker and string.sub(asker, 1, 1) ~= '-' then return end",
        "",
    ),
    "a verdict removes no buttons": ("settle", "  if sent then", "  if false then"),
    "a withdrawn call is still to be asked about": (
        "close",
        "settle_question(id, known[3], known[4])\n",
        "",
    ),
    "a forgotten thread keeps its questions": (
        "forget",
        "  redis.call('ZREM', key.questions, call_id)\n",
        "",
    ),
    "a clock that is set back keeps the questions": (
        "rewind_questions",
        "found[i + 1] - tonumber(arg.back_ms)",
        "found[i + 1]",
    ),
}


def test_the_tour_is_passed_by_the_questions_as_they_are(rig: Callable[[], Rig]) -> None:
    question_tour(question_machine(rig)())


@pytest.mark.parametrize("bug", BUGS)
def test_the_tour_finds(rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    name, old, new = BUGS[bug]
    broken = broken_scripts.swap(old, new)(whole_source(name))
    broken_scripts.use(monkeypatch, name, broken)
    with pytest.raises(FOUND):
        question_tour(question_machine(rig)())
