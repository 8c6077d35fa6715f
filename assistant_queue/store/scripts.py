"""The Lua scripts: one file per event, read once, with a header that is the contract.

`-- KEYS:` and `-- ARGV:` name a script's parameters in order, and continue on indented lines; a
name with a star takes all remaining keys. A script reads them as `key.name` and `arg.name`. Names
are resolved here, once, not by tables that Lua would build at every call:

    key.thread       KEYS[1]
    arg.delay_ms     ARGV[4], or a constant if the value is the same at every call: it is not sent
    arg.origin       cut out of a key (the prefix)
    arg.base         likewise: the beginning of the queue's keys

A value that differs between prefixes is never a constant: Redis keeps every version of a script, so
there must be few.

What a script does not use of its fragments is removed (`store/pruning.py`).

Each body is preceded by a check of its keys: a script that finds a corrupt one reports it and
changes nothing (`store/quarantine.py` handles it).
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

from assistant_queue.store import wakeups
from assistant_queue.store.pruning import pruned

_HEADER = re.compile(r"^-- (KEYS|ARGV):(.*(?:\n--[ ]{6,}.*)*)$", re.MULTILINE)
"""A header's line with its continuations, which are indented."""
_INCLUDE = re.compile(r"^--! include (.+)$", re.MULTILINE)
_FIELD = re.compile(r"\bt(?:\.(\w+)|\['(\w+)'\])")
"""A field of the thread that a script reads: `t.due`, `t['until']`."""
_FIELDS = re.compile(r"^--! fields (.+)$", re.MULTILINE)
"""Fields that a script reads by a name in a variable."""
_VITAL = (
    "state",
    "due",
    "n",
    "own_due",
    "first",
    "batch",
    "phase",
    "bn",
    "claimed",
    "token",
    "until",
)
"""Fields of the thread that the check reads in any case. Source: lua/_sound.lua."""
_FEW_FIELDS = 10
"""Fields of a thread that are read with one name. Chosen: one without a batch has eight or nine, and
no long one; a batch has ten more."""
_NAME = re.compile(r"\b(key|arg)(?:\.(\w+)|\['(\w+)'\])")

Constants = tuple[tuple[str, str | int], ...]
"""Names of arguments with a fixed value in one version of a script, and the values."""

_CUT_OUT_OF_A_KEY = {
    "origin": ("queue", "string.sub({}, {after})"),
    "base": ("due", "string.sub({}, 1, -5)"),
    "tick": ("due", "string.sub({}, 1, -4) .. 'tick'"),
    "wishes": ("due", "string.sub({}, 1, -4) .. 'wishes'"),
}
"""Arguments that are part of a key's name: the key, and how to cut them out of it (`store/keys.py`,
`store/wakeups.py`)."""
_UNCHECKED = re.compile(r"^-- UNCHECKED$", re.MULTILINE)
_KINDS = {
    "thread": "hash",
    "pending": "list",
    "frozen": "list",
    "conversation": "hash",
    "message": "hash",
    "record": "hash",
    "dead": "list",
    "call": "hash",
    "approvals": "zset",
    "questions": "zset",
    "runs": "hash",
    "outbox": "list",
    "delivering": "hash",
    "deliveries": "zset",
    "reply": "hash",
    "journal": "list",
    "audit": "list",
    "auditing": "hash",
    "operations": "list",
    "due": "zset",
    "stopping": "zset",
    "pausing": "zset",
    "failed": "zset",
    "counters": "hash",
    "scheduled": "zset",
    "queue": "list",
    "queues": "set",
}
"""Key -> its type.

Of `paused`, `known` and `over` only the presence counts, `job` is always fresh, and a `guard` of
another type is only removed.
"""
_SIZED = ("thread", "message")
"""Hashes whose number of fields scripts may read: `thread_size`, `message_size`."""
_RESTS = {"messages": "message", "calls": "call"}
"""Keys that can be any number, and are checked: each of them."""
_OF_AUDIT = ("audit", "auditing")
"""Keys that are not checked by a queue without an audit, unless the script is about them."""
_SIZES = {"hash": "HLEN", "list": "LLEN", "zset": "ZCARD", "set": "SCARD"}
"""Type -> a cheap command that Redis refuses for every other type."""


@dataclass(frozen=True, slots=True)
class LuaScript:
    """One script, ready to send.

    Attributes:
        name: The file's name without its ending.
        text: The whole source, fragments included, names resolved.
        sha: The digest by which Redis runs it.
        keys: Names of the fixed keys, in order.
        args: Names of the arguments that are sent, in order.
        rest: Name of the keys that can be any number; None if the script takes none.
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
    """Return the names of all scripts, without fragments."""
    files = (resources.files(__package__) / "lua").iterdir()
    return sorted(
        file.name[:-4]
        for file in files
        if file.name.endswith(".lua") and not file.name.startswith("_")
    )


def whole_source(name: str) -> str:
    """Return a script as it is written, with its fragments included."""
    return _INCLUDE.sub(
        lambda match: "\n".join(_source(f"_{part}") for part in match[1].split()), _source(name)
    )


@cache
def load(name: str, constants: Constants = ()) -> LuaScript:
    """Return the version of a script in which these arguments are constants."""
    return build(name, whole_source(name), constants)


def header_of(source: str) -> dict[str, list[str]]:
    """Return the names that a header lists under `KEYS` and `ARGV`."""
    return {
        kind: [word for word in names.split() if word != "--"]
        for kind, names in _HEADER.findall(source)
    }


def build(name: str, source: str, constants: Constants = ()) -> LuaScript:
    """Resolve the names of a source, and remove what it does not use."""
    header = header_of(source)
    source = pruned(source)
    keys = tuple(word for word in header["KEYS"] if not word.startswith("*"))
    rest = next((word[1:] for word in header["KEYS"] if word.startswith("*")), None)
    fixed = dict(constants)
    args = tuple(
        word for word in header["ARGV"] if word not in fixed and word not in _CUT_OUT_OF_A_KEY
    )

    def resolve(match: re.Match[str]) -> str:
        word = match[2] or match[3]
        if match[1] == "key":
            return f"KEYS[{keys.index(word) + 1}]" if word in keys else "nil"
        if word in fixed:
            return f"'{fixed[word]}'"
        if word in _CUT_OUT_OF_A_KEY:
            of, cut = _CUT_OUT_OF_A_KEY[word]
            after = len(wakeups.queue_key("")) + 1
            return (
                f"({cut.format(f'KEYS[{keys.index(of) + 1}]', after=after)})"
                if of in keys
                else "nil"
            )
        # A fragment holds functions that this script does not call.
        return f"ARGV[{args.index(word) + 1}]" if word in args else "nil"

    prologue = [_source("_sound")]
    if rest:
        prologue += [
            f"local rest_count = #KEYS - {len(keys)}",
            f"local function rest_key(i) return KEYS[{len(keys)} + i] end",
        ]
    if not _UNCHECKED.search(source):
        unused = _OF_AUDIT if fixed.get("audit_most") == 0 and "audit" in header["ARGV"] else ()
        prologue += _checks([name for name in keys if name not in unused], rest, source)
    text = _NAME.sub(resolve, pruned("\n".join([*prologue, source])))
    sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
    return LuaScript(name=name, text=text, sha=sha, keys=keys, args=args, rest=rest)


def fields_of(source: str) -> list[str]:
    """Return the fields of the thread that a script reads, and those of the check."""
    code = re.sub(r"--(?!!).*", "", source)
    read = {dotted or quoted for dotted, quoted in _FIELD.findall(code)}
    named = {word for words in _FIELDS.findall(source) for word in words.split()}
    return [*_VITAL, *sorted((read | named) - set(_VITAL))]


def _checks(keys: Sequence[str], rest: str | None, source: str) -> Iterator[str]:
    """Yield Lua that returns `{'corrupt', what, key}` before the script has written anything."""
    for name in keys:
        if name in _KINDS:
            size = f"redis.pcall('{_SIZES[_KINDS[name]]}', key.{name})"
            if name in _SIZED:
                yield f"local {name}_size = {size}"
                size = f"{name}_size"
            yield f"if type({size}) ~= 'number' then return {{'corrupt', '{name}', key.{name}}} end"
    if rest in _RESTS:
        kind = _RESTS[rest]
        check = (
            f"if is_foreign(rest_key(i), '{_KINDS[kind]}') "
            f"then return {{'corrupt', '{kind}', rest_key(i)}} end"
        )
        yield f"for i = 1, rest_count do {check} end"
    if "thread" in keys:
        # With a batch the hash has twice as many fields as are read, and the progress and the text
        # among them may be long. Without one it has few, or none if the thread is idle.
        names = fields_of(source)
        listed = ", ".join(f"'{name}'" for name in names)
        pairs = ", ".join(f"['{name}'] = read[{i}] or nil" for i, name in enumerate(names, 1))
        yield "local fields = {}"
        yield f"if thread_size > {_FEW_FIELDS} then"
        yield f"  local read = redis.call('HMGET', key.thread, {listed})"
        yield f"  fields = {{{pairs}}}"
        yield "elseif thread_size > 0 then"
        yield "  local read = redis.call('HGETALL', key.thread)"
        yield "  for i = 1, #read, 2 do fields[read[i]] = read[i + 1] end"
        yield "end"
        yield "if not is_sound(fields) then return {'corrupt', 'thread', key.thread} end"
