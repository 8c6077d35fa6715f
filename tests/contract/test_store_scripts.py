"""Each Lua header against its body and against Python: the header is the contract."""

from __future__ import annotations

import itertools
import re
from importlib import resources
from typing import Any

import fakeredis
import pytest
import redis
import redis.asyncio
import redis.exceptions

from assistant_queue.clock import SystemClock
from assistant_queue.core.window import Window
from assistant_queue.errors import NotPermitted, StoreError, StoreUnavailable
from assistant_queue.models import Message
from assistant_queue.store.calls import CONSTANTS, Call, Namespace
from assistant_queue.store.ops import failures, leases, producing, statuses, sweeping
from assistant_queue.store.scripts import _CUT_OUT_OF_A_KEY, header_of, load, script_names
from assistant_queue.store.transport.refusals import translate
from assistant_queue.store.transport.stores import AsyncStore, SyncStore
from assistant_queue.testing.fake_clock import START_MS, FakeClock
from tests.contract.store_rig import Rig
from tests.each import each

LUA = resources.files("assistant_queue.store") / "lua"
EVERY_SCRIPT = each("name", script_names())
FILES = sorted(file.name for file in LUA.iterdir() if file.name.endswith(".lua"))
EVERY_FILE = each("file", FILES)


def source(file: str) -> str:
    return (LUA / file).read_text(encoding="utf-8")


def code_of(text: str) -> str:
    """Without comments; strings are kept."""
    return re.sub(r"--.*", "", text)


def whole_code(name: str) -> str:
    """The body with the fragments it includes, without the prologue."""
    text = source(f"{name}.lua")
    parts = [
        part
        for words in re.findall(r"^--! include (.+)$", text, re.MULTILINE)
        for part in words.split()
    ]
    return "\n".join(code_of(one) for one in [*(source(f"_{part}.lua") for part in parts), text])


def used(table: str, code: str) -> set[str]:
    return set(re.findall(rf"\b{table}\.(\w+)", code)) | set(
        re.findall(rf"\b{table}\['(\w+)'\]", code)
    )


def announced(name: str) -> list[str]:
    """The arguments of the header, those included that are not sent."""
    return header_of(source(f"{name}.lua"))["ARGV"]


def test_there_are_scripts() -> None:
    assert {"add", "claim", "finish", "bury", "renew", "wake"} <= set(script_names())


@EVERY_SCRIPT
def test_every_key_of_the_header_is_used_and_no_other(name: str) -> None:
    cut_out_of = {key for one, (key, _) in _CUT_OUT_OF_A_KEY.items() if one in announced(name)}
    unused = {"counters", "thread", *cut_out_of}
    assert used("key", whole_code(name)) >= set(load(name).keys) - unused
    own = code_of(source(f"{name}.lua"))
    assert used("key", own) <= set(load(name).keys)


@EVERY_SCRIPT
def test_every_argument_of_the_header_is_used_and_no_other(name: str) -> None:
    code = whole_code(name)
    assert used("arg", code) >= set(announced(name))
    assert used("arg", code_of(source(f"{name}.lua"))) <= set(announced(name))


@EVERY_SCRIPT
def test_what_a_script_calls_in_its_fragments_is_in_its_header(name: str) -> None:
    """A fragment's function may need keys and arguments that its includer forgot."""
    script = load(name)
    code = whole_code(name)
    functions = {
        match[1]: match[2]
        for match in re.finditer(
            r"^local function (\w+)\([^)]*\)(.*?)(?:^end|end$)", code, re.MULTILINE | re.DOTALL
        )
    }
    body = code_of(source(f"{name}.lua"))
    called = set()
    queue = [body]
    while queue:
        text = queue.pop()
        for function, inner in functions.items():
            if function not in called and re.search(rf"\b{function}\(", text):
                called.add(function)
                queue.append(inner)
    reached = body + "".join(functions[function] for function in called)
    assert used("key", reached) <= set(script.keys), name
    assert used("arg", reached) <= set(announced(name)), name
    if "rest_key(" in reached or "rest_count" in reached:
        assert script.rest, f"{name} reads keys that its header does not announce"


@EVERY_SCRIPT
def test_a_header_lists_the_returned_words(name: str) -> None:
    text = source(f"{name}.lua")
    lines = text.splitlines()
    assert re.match(r"-- (Events?|Read)\b", lines[0]), lines[0]
    header = "\n".join(line for line in lines if line.startswith("--"))
    returned = set(
        re.findall(
            r"return \{[^}]*?'([a-z]\w*)'", re.sub(r"redis\.call\([^)]*\)", "", code_of(text))
        )
    )
    promised = header[header.index("-- Returns") :]
    missing = {word for word in returned if f"'{word}'" not in promised and word != "completed"}
    assert not missing, f"{name} returns words that its header does not name: {missing}"


@EVERY_SCRIPT
def test_no_key_or_argument_is_given_twice(name: str) -> None:
    script = load(name)
    assert len(set(script.keys)) == len(script.keys)
    assert len(set(announced(name))) == len(announced(name))


@EVERY_SCRIPT
def test_python_can_fill_every_header(name: str) -> None:
    """`Namespace.call` knows every key and argument that is not the operation's own."""
    script = load(name)
    namespace = Namespace("p", FakeClock())
    known_keys = {*namespace._fixed_keys, *namespace._thread_keys, "job"}
    own_keys = {key: f"own:{key}" for key in script.keys if key not in known_keys}
    of_rules = {"events", "journal_most", "journal_ttl_ms", "audit_most", "poll_gap"}
    known = {"now", "thread_id", "job_id", "stamp", *of_rules, *dict(CONSTANTS)}
    own_args = {arg: f"own:{arg}" for arg in script.args if arg not in known}
    call = namespace.call(name, "thread", keys=own_keys, rest=["rest:1"], **own_args)
    assert call.script is not None
    assert len(call.keys) == len(script.keys) + 1
    assert len(call.words) == len(call.script.args)
    assert set(script.args) - set(call.script.args) <= {*dict(CONSTANTS), *of_rules}
    assert all(value != "" for value in call.words)


@EVERY_SCRIPT
def test_a_script_reads_nothing_by_name_when_it_is_sent(name: str) -> None:
    text = code_of(load(name, CONSTANTS).text)
    assert not re.search(r"\b(key|arg)[.\[]", text)
    for table, count in (("KEYS", len(load(name).keys)), ("ARGV", len(load(name, CONSTANTS).args))):
        assert all(1 <= int(number) <= count for number in re.findall(rf"{table}\[(\d+)\]", text))


def test_prefixes_share_their_scripts() -> None:
    """Redis keeps every script: a thousand prefixes must not make a thousand of each."""
    namespaces = [Namespace(prefix, SystemClock()) for prefix in ("one", "two")]
    calls = [
        next(leases.claim(namespace, "thread", token="t", batch_id="b", lease_s=1))
        for namespace in namespaces
    ]
    assert len({call.script for call in calls if isinstance(call, Call)}) == 1


def test_options_make_few_versions_of_a_script() -> None:
    """Numbers are sent, words and zeros written in: 2 windows, 2 `after_run`, 3 limits."""
    namespace = Namespace("p", SystemClock())
    message = Message(id="m", content="x")
    versions = set()
    for delay, kind, after, limit in itertools.product(
        (0, 5, 1000), ("fixed", "sliding"), ("immediate", "window"), range(12)
    ):
        window = Window(delay_ms=delay, kind=kind, max_wait_ms=9 * (limit & 1), max_batch=limit & 2)
        rules = producing.AddRules(window=window, after_run=after, max_pending=limit & 12)
        call = next(producing.add(namespace, "thread", message, rules))
        assert isinstance(call, Call)
        versions.add(call.script)
    assert len(versions) == 32


@EVERY_FILE
def test_keys_and_arguments_are_read_by_name(file: str) -> None:
    code = code_of(source(file))
    assert "KEYS[" not in code
    assert "ARGV[" not in code


@EVERY_FILE
def test_nothing_is_searched_for_and_no_key_is_made_up(file: str) -> None:
    """Except where keys are broken: what hangs on them is known only there."""
    code = code_of(source(file))
    assert not re.search(r"call\('(KEYS|SCAN|FLUSHDB|FLUSHALL|SORT|EVAL)'", code, re.IGNORECASE)
    for command, key in re.findall(r"redis\.p?call\('(\w+)',?\s*([^,)]*)", code):
        if command not in ("TIME", "PUBLISH") and file not in ("_sound.lua", "quarantine.lua"):
            assert re.match(r"(key\.\w+|rest_key\(\w*)$", key.strip()), (
                f"{file}: {command} {key}: a key that is not from KEYS"
            )


@EVERY_FILE
def test_nothing_is_unpacked_without_bounds(file: str) -> None:
    assert "unpack(" not in code_of(source(file))


@EVERY_FILE
def test_time_comes_in_as_an_argument(file: str) -> None:
    code = code_of(source(file))
    assert "os.time" not in code
    assert ("call('TIME')" in code) is (file == "_common.lua")


@EVERY_FILE
def test_no_global_is_made(file: str) -> None:
    """Redis would refuse it at run time, and only on the way that makes it."""
    names = set()
    for line in code_of(source(file)).splitlines():
        for declared in re.findall(r"\blocal (?:function )?([\w, ]+)", line):
            names.update(declared.replace(" ", "").split(","))
        for parameters in re.findall(r"function \w*\(([\w, ]*)\)", line):
            names.update(parameters.replace(" ", "").split(","))
        for loop in re.findall(r"\bfor ([\w, ]+?) (?:=|in)", line):
            names.update(loop.replace(" ", "").split(","))
        for assigned in re.findall(r"^\s*([a-z_]\w*(?:, *[a-z_]\w*)*) = ", line):
            for one in assigned.replace(" ", "").split(","):
                assert one in names, f"{file}: {line.strip()}"


def test_the_glossary_names_every_field_of_a_thread() -> None:
    glossary = source("_common.lua")
    fields = glossary[glossary.index("Fields of thread") : glossary.index("local function clock")]
    named = set(re.findall(r"(?:^--   |\s{2,})(\w+)\s{1,}", fields, re.MULTILINE))
    for file in FILES:
        code = code_of(source(file))
        written = re.findall(
            r"'HSET', key\.thread, (.*?)\)\n", re.sub(r",\n\s+", ", ", code) + "\n"
        )
        words = {word for row in written for word in re.findall(r"'([a-z]\w*)'(?=,)", row)}
        fields_read = set(re.findall(r"\bt\.(\w+)", code)) | set(
            re.findall(r"\bt\['(\w+)'\]", code)
        )
        unknown = (
            (words | fields_read)
            - named
            - {"delayed", "waiting", "active", "pending", "held", "frozen", "delivering", "0", "1"}
        )
        assert not unknown, f"{file}: fields that the glossary lacks: {unknown}"


def test_every_script_loads_into_redis(store: Rig) -> None:
    for name in script_names():
        store.client.script_load(load(name).text)


def test_a_header_that_lacks_an_argument_is_noticed_where_it_is_sent() -> None:
    with pytest.raises(KeyError):
        Namespace("p", FakeClock()).call("claim", "thread")


# --- the edge -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "kind", "says"),
    [
        (
            redis.exceptions.ConnectionError("Connection refused."),
            StoreUnavailable,
            "Connection refused; check that it runs",
        ),
        (redis.exceptions.TimeoutError("slow"), StoreUnavailable, "did not answer"),
        (OSError("no route"), StoreUnavailable, "did not answer"),
        (
            redis.exceptions.AuthenticationError("invalid username-password pair"),
            NotPermitted,
            "does not accept the user or the password",
        ),
        (
            redis.exceptions.AuthenticationError("Authentication required."),
            NotPermitted,
            "asks for a password",
        ),
        (
            redis.exceptions.NoPermissionError("this user has no permissions"),
            NotPermitted,
            "check its ACL",
        ),
        (
            redis.exceptions.ReadOnlyError("You can't write against a read only replica."),
            StoreUnavailable,
            "point redis_url at the primary",
        ),
        (redis.exceptions.ResponseError("OOM"), StoreUnavailable, "raise maxmemory"),
        (
            redis.exceptions.ResponseError("WRONGTYPE Operation against a key"),
            StoreError,
            "refused a command",
        ),
    ],
)
def test_redis_errors_are_translated_most_specific_first(
    error: Exception, kind: type[Exception], says: str
) -> None:
    translated = translate(error)
    assert type(translated) is kind
    assert says in str(translated)


def test_an_unreachable_redis_raises_store_unavailable() -> None:
    with redis.Redis(port=1, retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0)) as client:
        rig = Rig(client, "nowhere")
        with pytest.raises(StoreUnavailable) as caught:
            rig.add()
    assert isinstance(caught.value, ConnectionError)
    assert isinstance(caught.value.__cause__, redis.exceptions.ConnectionError)


def test_a_store_loads_its_scripts_again_after_redis_forgot_them(store: Rig) -> None:
    store.add()
    store.client.script_flush()
    store.add()
    store.store = SyncStore(store.client)
    store.add()
    assert len(store.pending()) == 3


async def test_the_store_that_awaits_does_what_the_one_that_blocks_does(store: Rig) -> None:
    if isinstance(store.client, fakeredis.FakeRedis):
        client: Any = fakeredis.FakeAsyncRedis(version=(7,))
    else:
        client = redis.asyncio.Redis(port=store.client.get_connection_kwargs()["port"])
    twin = AsyncStore(client)
    other = Namespace(f"{store.prefix}-twin", store.clock)
    rules = producing.AddRules(window=Window(delay_ms=1000))
    seen = []
    for namespace, run in ((store.namespace, None), (other, twin.run)):

        async def do(operation: Any, run: Any = run) -> Any:
            return store.run(operation) if run is None else await run(operation)

        for thread in ("a", "b", "c"):
            await do(
                producing.add(namespace, thread, Message(id=f"m-{thread}", content="x"), rules)
            )
        store.clock.ms = START_MS + 2000
        swept = await do(sweeping.sweep(namespace))
        lease = await do(leases.claim(namespace, "a", token="t", batch_id="b1", lease_s=30))
        failed = await do(failures.list_failed(namespace, 10, None))
        status = await do(statuses.read_status(namespace))
        thread = await do(statuses.read_thread(namespace, "a"))
        seen.append((swept, lease.claimed, failed, status, thread))
        store.clock.ms = START_MS
    await twin.close()
    assert seen[0] == seen[1]
    assert seen[0][0].woken == 3


async def test_an_unreachable_redis_raises_store_unavailable_when_awaited() -> None:
    twin = AsyncStore(redis.asyncio.Redis(port=1))
    with pytest.raises(StoreUnavailable):
        await twin.run(sweeping.sweep(Namespace("p", FakeClock())))
    await twin.close()
