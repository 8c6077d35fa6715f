"""The Lua scripts: one file per event, read once, with a header that is the contract.

`-- KEYS:` and `-- ARGV:` name what a script takes, in order; a name with a star takes all that remain. From them this module makes the
tables `key` and `arg` that the script reads, and the order in which Python sends the values: the header is the one place. In front of
each body stands a check of its keys: a script that finds one corrupt says so and changes nothing (then see `store/quarantine.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources

_HEADER = re.compile(r"^-- (KEYS|ARGV):[ ]*(.*)$", re.MULTILINE)
_INCLUDE = re.compile(r"^--! include (.+)$", re.MULTILINE)
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
"""Key -> its type. Of `paused` only the presence counts, `job` is always fresh, and a `guard` of another kind is only removed."""
_SIZES = {"hash": "HLEN", "list": "LLEN", "zset": "ZCARD", "set": "SCARD"}
"""Type -> the command that is cheap, and refused for every other."""


@dataclass(frozen=True, slots=True)
class LuaScript:
    """One script, ready to send.

    Attributes:
        name: The file's name without its ending.
        text: The whole source, fragments included.
        keys: Names of the fixed keys, in order.
        args: Names of the arguments, in order.
        rest: Name of the keys of which there are any number, None if there are none.
    """

    name: str
    text: str
    keys: tuple[str, ...]
    args: tuple[str, ...]
    rest: str | None

    def arrange(
        self, keys: Mapping[str, str], args: Mapping[str, str | int], rest: Sequence[str] = ()
    ) -> tuple[list[str], list[str | int]]:
        """Keys and arguments in the order of the header; a missing one is a KeyError."""
        return [*(keys[name] for name in self.keys), *rest], [args[name] for name in self.args]


def _source(name: str) -> str:
    return (resources.files(__package__) / "lua" / f"{name}.lua").read_text(encoding="utf-8")


def script_names() -> list[str]:
    """The names of all scripts, fragments left out."""
    files = (resources.files(__package__) / "lua").iterdir()
    return sorted(file.name[:-4] for file in files if file.name.endswith(".lua") and not file.name.startswith("_"))


@cache
def load(name: str) -> LuaScript:
    """Read a script and its fragments."""
    source = _source(name)
    header = {kind: names.split() for kind, names in _HEADER.findall(source)}
    keys = tuple(word for word in header["KEYS"] if not word.startswith("*"))
    rest = next((word[1:] for word in header["KEYS"] if word.startswith("*")), None)
    args = tuple(header["ARGV"])
    prologue = [
        "local key = {" + ", ".join(f"['{word}'] = KEYS[{i}]" for i, word in enumerate(keys, 1)) + "}",
        "local arg = {" + ", ".join(f"['{word}'] = ARGV[{i}]" for i, word in enumerate(args, 1)) + "}",
        f"local rest_count = #KEYS - {len(keys)}",
        f"local function rest_key(i) return KEYS[{len(keys)} + i] end",
    ]
    prologue.append(_source("_sound"))
    if not _UNCHECKED.search(source):
        prologue += _checks(keys, rest)
    body = _INCLUDE.sub(lambda match: "\n".join(_source(f"_{part}") for part in match[1].split()), source)
    return LuaScript(name=name, text="\n".join([*prologue, body]), keys=keys, args=args, rest=rest)


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
