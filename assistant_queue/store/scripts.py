"""The Lua scripts: one file per event, read once, with a header that is the contract.

`-- KEYS:` and `-- ARGV:` name what a script takes, in order; a name with a star takes all that remain. A script reads them as `key.name`
and `arg.name`. Names are resolved here, once, not by tables that Lua would build at every call:

    key.thread       KEYS[1]
    arg.delay_ms     ARGV[4], or a constant where the value is the same at every call: it is not sent
    arg.origin       what a key says already (the prefix)
    arg.base         likewise: what our keys begin with

What differs from prefix to prefix is never a constant: Redis keeps every version of a script, so there must be few.

In front of each body stands a check of its keys: a script that finds one corrupt says so and changes nothing (then see
`store/quarantine.py`).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from assistant_queue.store import wakeups

_HEADER = re.compile(r"^-- (KEYS|ARGV):[ ]*(.*)$", re.MULTILINE)
_INCLUDE = re.compile(r"^--! include (.+)$", re.MULTILINE)
_NAME = re.compile(r"\b(key|arg)(?:\.(\w+)|\['(\w+)'\])")

Constants = tuple[tuple[str, str | int], ...]
"""Names of arguments and what they are at every call of one version of a script."""

_TOLD_BY_A_KEY = {
    "origin": ("queue", "string.sub({}, {after})"),
    "base": ("due", "string.sub({}, 1, -5)"),
    "tick": ("due", "string.sub({}, 1, -4) .. 'tick'"),
}
"""Arguments that a key holds: which, and how they are cut out of it (`store/keys.py`, `store/wakeups.py`)."""
_UNCHECKED = re.compile(r"^-- UNCHECKED$", re.MULTILINE)
_KINDS = {
    "thread": "hash",
    "pending": "list",
    "frozen": "list",
    "conversation": "hash",
    "message": "hash",
    "record": "hash",
    "dead": "list",
    "due": "zset",
    "failed": "zset",
    "counters": "hash",
    "scheduled": "zset",
    "queue": "list",
    "queues": "set",
}
"""Key -> its type.

Of `paused`, `known` and `over` only the presence counts, `job` is always fresh, and a `guard` of another kind is only removed.
"""
_SIZES = {"hash": "HLEN", "list": "LLEN", "zset": "ZCARD", "set": "SCARD"}
"""Type -> the command that is cheap, and refused for every other."""


@dataclass(frozen=True, slots=True)
class LuaScript:
    """One script, ready to send.

    Attributes:
        name: The file's name without its ending.
        text: The whole source, fragments included, names resolved.
        sha: What Redis knows it by.
        keys: Names of the fixed keys, in order.
        args: Names of the arguments that are sent, in order.
        rest: Name of the keys of which there are any number, None if there are none.
    """

    name: str
    text: str
    sha: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str | None


def _source(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def script_names() -> list[str]:
    """The names of all scripts, fragments left out."""
    files = (resources.files(__package__) / "lua").iterdir()
    return sorted(file.name[:-4] for file in files if file.name.endswith(".lua") and not file.name.startswith("_"))


def whole_source(name: str) -> str:
    """A script as it is written, its fragments in place."""
    return _INCLUDE.sub(lambda match: "\n".join(_source(f"_{part}") for part in match[1].split()), _source(name))


@cache
def load(name: str, constants: Constants = ()) -> LuaScript:
    """The version of a script in which these arguments are constants."""
    return build(name, whole_source(name), constants)


def build(name: str, source: str, constants: Constants = ()) -> LuaScript:
    """Resolve the names of a source."""
    header = {kind: names.split() for kind, names in _HEADER.findall(source)}
    keys = tuple(word for word in header["KEYS"] if not word.startswith("*"))
    rest = next((word[1:] for word in header["KEYS"] if word.startswith("*")), None)
    fixed = dict(constants)
    args = tuple(word for word in header["ARGV"] if word not in fixed and word not in _TOLD_BY_A_KEY)

    def resolve(match: re.Match[str]) -> str:
        word = match[2] or match[3]
        if match[1] == "key":
            return f"KEYS[{keys.index(word) + 1}]" if word in keys else "nil"
        if word in fixed:
            return f"'{fixed[word]}'"
        if word in _TOLD_BY_A_KEY:
            of, cut = _TOLD_BY_A_KEY[word]
            after = len(wakeups.queue_key("")) + 1
            return f"({cut.format(f'KEYS[{keys.index(of) + 1}]', after=after)})" if of in keys else "nil"
        # A fragment holds functions that this script does not call.
        return f"ARGV[{args.index(word) + 1}]" if word in args else "nil"

    prologue = [_source("_sound")]
    if rest:
        prologue += [f"local rest_count = #KEYS - {len(keys)}", f"local function rest_key(i) return KEYS[{len(keys)} + i] end"]
    if not _UNCHECKED.search(source):
        prologue += _checks(keys, rest)
    text = _NAME.sub(resolve, "\n".join([*prologue, source]))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return LuaScript(name=name, text=text, sha=sha, keys=keys, args=args, rest=rest)


def _checks(keys: Sequence[str], rest: str | None) -> Iterator[str]:
    """Lua that ends a script with `{'corrupt', what, key}` before it has written anything."""
    for name in keys:
        if name in _KINDS:
            size = f"redis.pcall('{_SIZES[_KINDS[name]]}', key.{name})"
            yield f"if type({size}) ~= 'number' then return {{'corrupt', '{name}', key.{name}}} end"
    if rest == "messages":
        check = f"if is_foreign(rest_key(i), '{_KINDS['message']}') then return {{'corrupt', 'message', rest_key(i)}} end"
        yield f"for i = 1, rest_count do {check} end"
    if "thread" in keys:
        yield "local fields = thread_fields()"
        yield "if not is_sound(fields) then return {'corrupt', 'thread', key.thread} end"
