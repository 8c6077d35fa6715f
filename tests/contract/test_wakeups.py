"""The wake-up: the scripts write the bytes of the installed RQ, and decoding executes nothing."""

from __future__ import annotations

import contextlib
import pickle
import tracemalloc
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import rq
from hypothesis import given
from hypothesis import strategies as st
from rq.job import Job
from rq.registry import ScheduledJobRegistry

from assistant_queue.errors import StoreError
from assistant_queue.store import wakeup_codec, wakeups
from assistant_queue.store.calls import Call, Operation
from assistant_queue.store.rq_jobs import data_in, read_jobs
from tests.contract.store_rig import Rig, seconds_up, text

START_S = 1_700_000_000
GENERATED = {"created_at", "enqueued_at"}
NOT_OURS = {
    "worker_name",
    "success_callback_name",
    "failure_callback_name",
    "stopped_callback_name",
    "last_heartbeat",
    "meta",
}


def queue_of(store: Rig) -> rq.Queue:
    return rq.Queue(store.prefix, connection=store.client)


def rq_writes(store: Rig, *, at: datetime | None) -> str:
    """The same wake-up, written by RQ."""
    options: dict[str, Any] = {
        "job_timeout": -1,
        "result_ttl": 0,
        "failure_ttl": 3600,
        "description": "wake-up",
    }
    queue = queue_of(store)
    job = (
        queue.enqueue(wakeups.FUNCTION, "thread", **options)
        if at is None
        else queue.enqueue_at(at, wakeups.FUNCTION, "thread", **options)
    )
    return str(job.id)


def fields_of(store: Rig, job_id: str) -> dict[str, Any]:
    """A job's fields: decoded, without what is empty, generated, or bookkeeping of RQ's own."""
    raw = store.client.hgetall(wakeups.job_key(job_id))
    fields: dict[str, Any] = {
        text(name): value for name, value in raw.items() if value not in (b"", b"0000-00-00")
    }
    data = fields.pop("data")
    with contextlib.suppress(zlib.error):
        data = zlib.decompress(data)
    function, instance, args, kwargs = pickle.loads(data)
    plain = {name: text(value) for name, value in fields.items() if name not in GENERATED}
    return {**plain, "call": (function, instance, tuple(args), dict(kwargs))}


@pytest.fixture
def store(store: Rig) -> Rig:
    """Of the test's own; RQ's scheduler looks at the real time."""
    return store


def test_a_scheduled_wake_up_is_what_rq_would_have_scheduled(store: Rig) -> None:
    ours = store.add(delay_s=2).job_id
    theirs = rq_writes(store, at=datetime.fromtimestamp(START_S + 2, tz=UTC))
    assert ours is not None
    our_fields, their_fields = fields_of(store, ours), fields_of(store, theirs)
    extra = {name: value for name, value in their_fields.items() if name not in our_fields}
    assert set(extra) <= NOT_OURS, extra
    assert {name: value for name, value in their_fields.items() if name in our_fields} == our_fields
    scores = store.scheduled()
    assert scores[ours] == scores[theirs]
    assert (
        store.client.ttl(wakeups.job_key(ours)) == store.client.ttl(wakeups.job_key(theirs)) == -1
    )


def test_a_queued_wake_up_is_what_rq_would_have_queued(store: Rig) -> None:
    ours = store.add(delay_s=0).job_id
    theirs = rq_writes(store, at=None)
    assert ours is not None
    our_fields, their_fields = fields_of(store, ours), fields_of(store, theirs)
    extra = {name: value for name, value in their_fields.items() if name not in our_fields}
    assert set(extra) <= NOT_OURS, extra
    assert {name: value for name, value in their_fields.items() if name in our_fields} == our_fields
    assert store.queued() == [ours, theirs]


def test_times_are_written_as_rq_writes_them(store: Rig) -> None:
    ours = store.add(delay_s=0).job_id
    theirs = rq_writes(store, at=None)
    for field in sorted(GENERATED):
        written = [
            store.client.hget(wakeups.job_key(str(job_id)), field) for job_id in (ours, theirs)
        ]
        parsed = [
            datetime.strptime(text(value), "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
            for value in written
        ]
        assert abs(parsed[0] - parsed[1]) < timedelta(minutes=1), field


@pytest.mark.parametrize("delay_s", [0, 2])
def test_rq_finds_its_queue_and_registers(store: Rig, delay_s: float) -> None:
    ours = store.add(delay_s=delay_s).job_id
    assert store.prefix in {queue.name for queue in rq.Queue.all(connection=store.client)}
    queue = queue_of(store)
    if delay_s:
        assert list(ScheduledJobRegistry(queue=queue).get_job_ids()) == [ours]
    else:
        assert queue.job_ids == [ours]


@pytest.mark.parametrize("thread", ["thread", "ключ:🙂\n", "x" * 255, "x" * 256, "🙂" * 512])
@pytest.mark.parametrize("delay_s", [0, 2])
def test_rq_reads_a_wake_up(store: Rig, thread: str, delay_s: float) -> None:
    job_id = store.add(thread, delay_s=delay_s).job_id
    assert job_id is not None
    job = Job.fetch(job_id, connection=store.client)
    assert (job.func_name, job.args, job.kwargs, job.instance) == (
        wakeups.FUNCTION,
        (thread,),
        {},
        None,
    )
    assert (job.timeout, job.result_ttl, job.failure_ttl, job.origin) == (-1, 0, 3600, store.prefix)
    assert job.get_status() == ("scheduled" if delay_s else "queued")
    assert job.description == "wake-up"
    assert job.retries_left is None
    assert not job.dependency_ids


def test_a_wake_up_holds_no_text_of_the_users(store: Rig) -> None:
    store.add(content="my secret", author="Ann Example", instructions="hush", delay_s=0)
    (job_id,) = store.queued()
    assert b"secret" not in b"".join(store.client.hgetall(wakeups.job_key(job_id)).values())


@pytest.mark.parametrize(
    ("delay_s", "second"), [(0.001, 1), (0.5, 1), (1, 1), (1.001, 2), (2, 2), (59.999, 60)]
)
def test_times_are_rounded_up_to_rqs_seconds(store: Rig, delay_s: float, second: int) -> None:
    job_id = store.add(delay_s=delay_s).job_id
    assert store.scheduled() == {job_id: START_S + second}
    assert seconds_up(START_S * 1000 + delay_s * 1000) == START_S + second


def test_a_wake_up_that_is_moved_keeps_its_bytes(store: Rig) -> None:
    job_id = store.add(delay_s=1).job_id
    assert job_id is not None
    before = fields_of(store, job_id)
    store.clock.advance(1)
    store.sweep()
    assert store.queued() == [job_id]
    assert fields_of(store, job_id) == before
    assert Job.fetch(job_id, connection=store.client).args == ("thread",)


def test_ids_are_fresh_and_plain(store: Rig) -> None:
    ids = {wakeups.new_job_id() for _ in range(1000)}
    assert len(ids) == 1000
    assert all(one.isalnum() and one.isascii() for one in ids)


# --- reading --------------------------------------------------------------------------------------


def payload(*call: Any) -> bytes:
    return pickle.dumps(call)


def test_our_own_payload_is_read(store: Rig) -> None:
    job_id = store.add("ключ", delay_s=0).job_id
    data = store.client.hget(wakeups.job_key(str(job_id)), "data")
    assert wakeup_codec.thread_of(data) == "ключ"


def test_the_form_that_rq_compresses_is_read(store: Rig) -> None:
    job_id = rq_writes(store, at=None)
    data = store.client.hget(wakeups.job_key(job_id), "data")
    assert zlib.decompress(data)
    assert wakeup_codec.thread_of(data) == "thread"


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("args", [("t",), ["t"]])
def test_every_form_of_pickle_is_read(protocol: int, args: Any) -> None:
    data = pickle.dumps((wakeups.FUNCTION, None, args, {}), protocol=protocol)
    assert wakeup_codec.thread_of(data) == wakeup_codec.thread_of(zlib.compress(data)) == "t"


@pytest.mark.parametrize(
    "call",
    [
        ("os.system", None, ("t",), {}),
        ("assistant_queue.jobs.other", None, ("t",), {}),
        (wakeups.FUNCTION, None, (), {}),
        (wakeups.FUNCTION, None, ("t", "u"), {}),
        (wakeups.FUNCTION, None, (5,), {}),
        (wakeups.FUNCTION, None, (b"t",), {}),
        (wakeups.FUNCTION, None, "t", {}),
        (wakeups.FUNCTION, None, None, {}),
        (wakeups.FUNCTION, None, ("t",)),
        (wakeups.FUNCTION,),
        (),
    ],
)
def test_other_functions_and_other_arguments_are_refused(call: tuple[Any, ...]) -> None:
    with pytest.raises(pickle.UnpicklingError, match="Invalid wake-up"):
        wakeup_codec.thread_of(payload(*call))


class Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def __reduce__(self) -> Any:
        return (Path.touch, (self.file,))


@pytest.mark.parametrize("compressed", [True, False])
def test_nothing_is_executed(tmp_path: Path, compressed: bool) -> None:
    canary = tmp_path / "canary"
    data = payload(wakeups.FUNCTION, None, (Canary(canary),), {})
    with pytest.raises(pickle.UnpicklingError, match="plain values only"):
        wakeup_codec.thread_of(zlib.compress(data) if compressed else data)
    assert not canary.exists()
    pickle.loads(data)
    assert canary.exists(), "the canary sings"


@pytest.mark.parametrize(
    "data",
    [
        b"cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
        b"(S'true'\nios\nsystem\n.",
        b"Pid\n.",
        b"\x80\x04K\x05Q.",
        b"\x80\x02\x82\x01.",
    ],
)
def test_no_way_to_name_a_function_is_followed(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        wakeup_codec.plain_loads(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x00",
        b"not a pickle",
        b"\x80",
        b"\x80\x04(",
        b"\x80\x63.",
        b"(.",
        b"0.",
        zlib.compress(b""),
        b"\xff" * 99,
    ],
)
def test_garbage_is_refused(data: bytes) -> None:
    with pytest.raises(pickle.UnpicklingError):
        wakeup_codec.thread_of(data)


def test_a_payload_that_nests_without_end_is_refused() -> None:
    with pytest.raises(pickle.UnpicklingError):
        wakeup_codec.thread_of(b"\x80\x04" + b"(" * 100_000)


# --- what would cost time or memory ---------------------------------------------------------------


def zip_bomb(size: int) -> bytes:
    packer = zlib.compressobj(9)
    return b"".join(
        [*(packer.compress(bytes(1_000_000)) for _ in range(size // 1_000_000)), packer.flush()]
    )


def doubled(times: int) -> bytes:
    """A nested tuple with each element twice, as a dict's key: hashing visits 2 ** times places."""
    return b"\x80\x04}(" + b")" + b"2\x86" * times + b"Nu."


BOMBS = {
    "zip bomb": lambda: zip_bomb(8_000_000),
    "zip bomb of a size that is read": lambda: zip_bomb(4_000_000),
    "zip bomb in a zip bomb": lambda: zlib.compress(zip_bomb(8_000_000)),
    "memo of four billion": lambda: b"\x80\x04Nr\xff\xff\xff\x7f.",
    "memo of two billion, as text": lambda: b"Np2000000000\n.",
    "bytes of eight exabytes": lambda: b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "text of eight exabytes": lambda: b"\x80\x04\x8d\xff\xff\xff\xff\xff\xff\xff\x7f.",
    "a key that holds itself": lambda: doubled(2000),
    "a number of many digits": lambda: b"L" + b"9" * 8000 + b"L\n.",
    "marks without end": lambda: b"\x80\x04" + b"(" * 8000,
    "nested without end": lambda: b"\x80\x04" + b"]" * 4000 + b"a" * 3999 + b".",
    "a text of its own size": lambda: pickle.dumps(
        (wakeup_codec.FUNCTION, None, ("t" * 100_000,), {})
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_would_cost_time_or_memory_is_refused(bomb: str) -> None:
    data = BOMBS[bomb]()
    tracemalloc.start()
    try:
        with pytest.raises(pickle.UnpicklingError):
            wakeup_codec.thread_of(data)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2_000_000


@pytest.mark.parametrize("compressed", [True, False])
def test_the_longest_thread_id_is_read_in_every_form(compressed: bool) -> None:
    longest = "🙂" * 512
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps((wakeup_codec.FUNCTION, None, (longest,), {}), protocol=protocol)
        assert wakeup_codec.thread_of(zlib.compress(data) if compressed else data) == longest


@given(st.binary(max_size=300))
def test_whatever_a_job_carries_is_a_thread_id_or_an_error(data: bytes) -> None:
    for whole in (
        data,
        wakeup_codec._OURS + data,
        wakeup_codec._OURS + data + wakeup_codec._ENDS,
        zlib.compress(data),
    ):
        with contextlib.suppress(pickle.UnpicklingError):
            assert wakeup_codec.thread_of(whole).encode()


@given(st.text(min_size=1, max_size=512))
def test_what_our_scripts_write_is_read_as_pickle_reads_it(thread: str) -> None:
    raw = thread.encode()
    size = b"\x8c" + bytes([len(raw)]) if len(raw) < 256 else b"X" + len(raw).to_bytes(4, "little")
    data = wakeup_codec._OURS + size + raw + wakeup_codec._ENDS
    assert pickle.loads(data) == (wakeup_codec.FUNCTION, None, (thread,), {})
    assert wakeup_codec.thread_of(data) == wakeup_codec._ours(data) == thread


@pytest.mark.parametrize("over", [0, 1])
def test_more_than_a_wake_up_carries_is_not_read(store: Rig, over: int) -> None:
    store.client.hset("rq:job:x", "data", b"x" * (wakeup_codec.MAX_DATA + over))
    store.client.set("rq:job:text", "of another type")
    found, none, text_ = store.store.run(one(read_jobs(["x", "none", "text"])))
    assert data_in(found) == (b"" if over else b"x" * wakeup_codec.MAX_DATA)
    assert data_in(none) is None
    with pytest.raises(StoreError, match="another type"):
        data_in(text_)


def one(call: Call) -> Operation[Any]:
    return (yield call)
