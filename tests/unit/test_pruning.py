"""A script keeps the definitions that it uses, and no others."""

from __future__ import annotations

import re

from assistant_queue.store.pruning import pruned
from assistant_queue.store.scripts import load, script_names
from tests.each import each

_DEFINED = re.compile(r"^local function (\w+)", re.MULTILINE)


def test_what_is_used_by_what_is_used_stays() -> None:
    source = """
local unit = {
  ms = 1,
}
local function inner(a)
  if a then return unit.ms end
  return 2
end
local function outer(a) return inner(a) end
return outer(1)
"""
    assert pruned(source) == source


def test_what_only_an_unused_function_uses_goes_with_it() -> None:
    source = """
local names = {one = 1}
local function inner(a)
  return names[a]
end
local function outer(a) return inner(a) + outer(a) end
local function used() return 1 end
return used() -- outer
"""
    assert _DEFINED.findall(pruned(source)) == ["used"]
    assert "names" not in pruned(source)


def test_a_word_in_a_text_counts_as_a_use() -> None:
    source = "local function inner() return 1 end\nreturn loadstring('return inner()')\n"
    assert pruned(source) == source


def test_a_function_inside_another_one_is_a_part_of_it() -> None:
    source = """
local function outer()
  local function inner()
    return 1
  end

  return inner()
end
return outer()
"""
    assert pruned(source) == source


@each("name", script_names())
def test_a_script_is_sent_without_functions_that_it_does_not_call(name: str) -> None:
    code = re.sub(r"--.*", "", load(name).text)
    unused = [one for one in _DEFINED.findall(code) if len(re.findall(rf"\b{one}\b", code)) == 1]
    assert not unused
