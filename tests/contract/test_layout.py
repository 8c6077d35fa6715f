"""Prefixes that contain each other share no key; a queue of version 0.1 keeps its own."""

from __future__ import annotations

from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from assistant_queue.errors import NotPermitted
from assistant_queue.store import layout, wakeups
from assistant_queue.store.calls import Namespace
from assistant_queue.store.keys import FORMAT_VERSION, Keys, base_of
from assistant_queue.store.layout import Nesting
from assistant_queue.store.ops import control, failures, sweeping
from assistant_queue.store.transport.stores import SyncStore
from assistant_queue.testing.fake_clock import FakeClock
from tests.contract.store_rig import Rig

PREFIXES = st.text(alphabet="ab:%3A5", min_size=1, max_size=6)
IDS = st.text(alphabet="ab:%", max_size=6) | st.sampled_from(
    ["due", "failed", "format", "counters", "thread:a"]
)


def every_key(prefix: str, id_: str) -> set[str]:
    keys = Keys(base_of(prefix))
    whole = {
        getattr(keys, name) for name, value in vars(Keys).items() if isinstance(value, property)
    }
    return whole | {
        getattr(keys, name)(id_)
        for name, value in vars(Keys).items()
        if callable(value) and not name.startswith("_")
    }


@given(PREFIXES, PREFIXES, IDS, IDS)
def test_two_prefixes_share_no_key(one: str, other: str, id_of_one: str, id_of_other: str) -> None:
    shared = every_key(one, id_of_one) & every_key(other, id_of_other)
    assert bool(shared) is (one == other), shared


@pytest.mark.parametrize("prefix", ["assistant", "bot-1", "bot.shop", "{tag}", "ключ", "a/b"])
def test_a_prefix_without_a_colon_keeps_its_keys_and_nothing_is_asked(prefix: str) -> None:
    namespace = Namespace(prefix, FakeClock())
    assert (namespace.keys.prefix, namespace.is_settled) == (prefix, True)
    assert list(layout.settle(namespace)) == []


class Nested:
    """A queue, and one that has the prefix of the first one's threads."""

    def __init__(self, client: Any, prefix: str) -> None:
        self.client = client
        self.outer = prefix
        self.inner = f"{prefix}:thread"
        self.store = SyncStore(client)

    def namespace(self, prefix: str) -> Namespace:
        namespace = Namespace(prefix, FakeClock())
        self.store.run(layout.settle(namespace))
        return namespace

    def made_by_0_1(self, prefix: str) -> None:
        self.client.set(f"{prefix}:format", FORMAT_VERSION)

    def make(self, prefix: str) -> None:
        namespace = self.namespace(prefix)
        self.store.run(control.introduce(namespace, None))
        self.client.sadd(wakeups.queues_key(), wakeups.queue_key(prefix))

    def nestings(self, prefix: str) -> list[Nesting]:
        return self.store.run(layout.read_nestings(self.namespace(prefix)))


@pytest.fixture
def nested(store: Rig) -> Nested:
    return Nested(store.client, store.prefix)


def test_a_new_queue_has_new_keys_and_keeps_them(nested: Nested) -> None:
    nested.make(nested.inner)
    assert nested.namespace(nested.inner).keys.due == f"{nested.outer}%3Athread:due"
    nested.made_by_0_1(nested.inner)  # version 0.1 joins in: the new keys stay
    assert nested.namespace(nested.inner).keys.due == f"{nested.outer}%3Athread:due"


def test_a_queue_of_version_0_1_keeps_its_keys(nested: Nested) -> None:
    nested.made_by_0_1(nested.inner)
    assert nested.namespace(nested.inner).keys.due == f"{nested.inner}:due"


def test_a_thread_with_the_name_of_a_key_makes_no_old_queue(nested: Nested) -> None:
    nested.client.hset(f"{nested.outer}:thread:format", "state", "pending")
    assert nested.namespace(nested.inner).keys.due == f"{nested.outer}%3Athread:due"


def test_a_store_asks_before_its_first_operation_and_not_again(nested: Nested) -> None:
    nested.made_by_0_1(nested.inner)
    namespace = Namespace(nested.inner, FakeClock())
    store = SyncStore(nested.client, namespaces=(namespace,))
    nested.client.zadd(f"{nested.inner}:failed", {"batch": 1})
    assert store.run(failures.list_failed(namespace, 10, None)) == []
    assert namespace.keys.failed == f"{nested.inner}:failed"
    nested.client.delete(f"{nested.inner}:format")
    store.run(sweeping.sweep(namespace))
    assert namespace.keys.failed == f"{nested.inner}:failed"


def test_a_corrupt_thread_is_quarantined_under_the_keys_of_its_queue(nested: Nested) -> None:
    rig = Rig(nested.client, nested.inner)
    rig.add("t:1", "m1", delay_s=0)
    rig.claim("t:1")
    rig.client.hset(rig.keys.thread("t:1"), "until", "soon")
    rig.add("t:1", "m2", delay_s=0)
    (failed,) = rig.failed()
    assert failed.message_ids == ("m1",)
    status = rig.message("m1")
    assert status is not None
    assert (status.status, status.batch_id) == ("failed", failed.batch_id)
    moved = [name.decode() for name in rig.client.zrange(rig.keys.quarantine, 0, -1)]
    assert all(
        name.startswith(f"{rig.keys.shelf}") and name.endswith(":thread:t:1") for name in moved
    )
    assert len(moved) == 1


# --- warnings -------------------------------------------------------------------------------------


def test_two_new_queues_do_not_meet(nested: Nested) -> None:
    for prefix in (nested.outer, nested.inner):
        nested.make(prefix)
    assert [nested.nestings(prefix) for prefix in (nested.outer, nested.inner)] == [[], []]


def test_an_old_queue_within_another_is_seen_from_both(nested: Nested) -> None:
    nested.made_by_0_1(nested.inner)
    for prefix in (nested.outer, nested.inner):
        nested.make(prefix)
    found = [Nesting(nested.inner, nested.outer)]
    assert [nested.nestings(prefix) for prefix in (nested.outer, nested.inner)] == [found, found]


def test_an_rq_queue_of_another_program_does_no_harm(nested: Nested) -> None:
    nested.made_by_0_1(nested.inner)
    nested.make(nested.inner)
    nested.client.sadd(wakeups.queues_key(), wakeups.queue_key(nested.outer))
    assert nested.nestings(nested.inner) == []


@pytest.mark.parametrize("end", ["intermediate", "intermediate:first_seen:x"])
def test_a_queue_with_the_name_of_a_key_of_rqs_is_seen(nested: Nested, end: str) -> None:
    inner = f"{nested.outer}:{end}"
    for prefix in (nested.outer, inner):
        nested.make(prefix)
    assert nested.nestings(nested.outer) == [Nesting(inner, nested.outer, in_rq=True)]


def test_names_in_rqs_set_that_are_no_text_are_passed_over(nested: Nested) -> None:
    nested.make(nested.outer)
    nested.client.sadd(
        wakeups.queues_key(), wakeups.queue_key(nested.outer).encode() + b":\xff", b"\xff\xfe", ""
    )
    assert nested.nestings(nested.outer) == []


class Refusing:
    """A Redis with rights to keys that begin in one way only."""

    def __init__(self, client: redis.Redis, allowed: str) -> None:
        self.client = client
        self.allowed = allowed

    def execute_command(self, *words: Any) -> Any:
        if not all(str(word).startswith(self.allowed) for word in words[1:]):
            raise redis.exceptions.NoPermissionError("NOPERM")
        return self.client.execute_command(*words)


@pytest.mark.parametrize(
    ("old", "by"), [(True, "base"), (True, "prefix"), (False, "base"), (False, "prefix")]
)
def test_a_user_with_rights_to_one_kind_of_keys_has_these(
    nested: Nested, old: bool, by: str
) -> None:
    if old:
        nested.made_by_0_1(nested.inner)
    base = base_of(nested.inner) if by == "base" else nested.inner
    namespace = Namespace(nested.inner, FakeClock())
    SyncStore(Refusing(nested.client, f"{base}:")).run(layout.settle(namespace))
    assert namespace.keys.prefix == base


def test_other_queues_may_be_out_of_a_users_rights(nested: Nested) -> None:
    with pytest.raises(NotPermitted):
        SyncStore(Refusing(nested.client, "nothing")).run(
            layout.read_nestings(Namespace(nested.outer, FakeClock()))
        )
