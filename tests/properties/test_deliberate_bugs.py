"""The tests of the tests: each deliberate bug in the Lua must be found by the machine."""

from __future__ import annotations

import itertools
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from assistant_queue.core.wishes import Wished
from assistant_queue.errors import (
    LeaseLost,
    MessageIdConflict,
    StoreError,
    ThreadBusy,
    ThreadFull,
)
from assistant_queue.store import calls
from assistant_queue.store.scripts import Constants, LuaScript, build, load, whole_source
from tests.conftest import RedisServer
from tests.contract.store_rig import Rig
from tests.properties.broken_scripts import swap

sys.path.insert(0, str(Path(__file__).parent))
from copies_tour import copies_tour
from counts_tour import counts_tour
from park_tour import park_tour
from quiet_tour import quiet_tour
from said_tour import said_tour
from sending_tour import sending_tour
from stop_tour import join_tour, stop_tour
from store_model import StoreMachine, machine, tour
from takeover_tour import takeover_tour
from window_tour import window_tour

NUMBERS = itertools.count()
FOUND = (
    AssertionError,
    StoreError,
    MessageIdConflict,
    ThreadBusy,
    ThreadFull,
    LeaseLost,
    Wished,
    KeyError,
    ValueError,
)


BUGS: dict[str, tuple[str, Callable[[str], str]]] = {
    "finish forgets a thread although messages wait": (
        "finish",
        swap("if t.n == 0 then\n    redis.call('ZREM'", "if true then\n    redis.call('ZREM'"),
    ),
    "finish does not ask who holds the lease": (
        "finish",
        swap("if not holds(t) then", "if false then"),
    ),
    "progress does not ask who holds the lease": (
        "progress",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "trim does not ask who holds the lease": (
        "trim",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a batch is frozen by copying": (
        "claim",
        swap(
            "redis.call('RENAME', key.pending, key.frozen)",
            "redis.call('COPY', key.pending, key.frozen)",
        ),
    ),
    "a claim ignores a live lease": (
        "claim",
        swap(
            "if t.token and tonumber(t['until']) > now then return {'refused', t['until']} end", ""
        ),
    ),
    "a claim ignores that it is early": (
        "claim",
        swap("elseif tonumber(t.due) > now then", "elseif false then"),
    ),
    "a claim forgets a batch that was left": ("claim", swap("if not t.batch then", "if true then")),
    "deaths are not counted": (
        "claim",
        swap("t.deaths = ms(tonumber(t.deaths or 0) + 1)", "t.deaths = '0'"),
    ),
    "a claim forgets to be looked after": (
        "claim",
        swap(
            "redis.call('ZADD', key.due, ms(lease_end + tonumber(arg.guard_ms)), arg.thread_id)",
            "redis.call('ZREM', key.due, arg.thread_id)",
        ),
    ),
    "a claim does not book": ("claim", swap("book(t.bk, 'active', t.bn)", "")),
    "a claim waits for what was cancelled behind the cut": (
        "claim",
        swap(
            "if left < 1 or left > places then left = select(2, walk(places, places, places)) end",
            "left = math.max(left, 1)",
        ),
    ),
    "a claim leaves a list in which nothing waits": (
        "claim",
        swap(
            "  skip_cancelled(t)\n  local places = redis.call('LLEN', key.pending)\n  local left",
            "  local places = redis.call('LLEN', key.pending)\n  local left",
        ),
    ),
    "cancelled places use up the batch": (
        "claim",
        swap(
            "take = places == t.n and not t.quiet and most or walk(most, largest, places, 'after')",
            "take = most",
        ),
    ),
    "an edit does not reach the list": (
        "edit",
        swap("redis.call('LSET', key.pending, ms(index), arg.entry)", ""),
    ),
    "an edited message is taken for another": (
        "edit",
        swap("'digest', arg.digest, 'edited_by'", "'edited_by'"),
    ),
    "duplicates are not known": ("add", swap("if known[1] then", "if false then")),
    "an add does not book": ("add", swap("book(nil, kind, 1)", "")),
    "an add puts a message in front": (
        "add",
        swap(
            "redis.call('RPUSH', key.pending, entry)",
            "redis.call('LPUSH', key.pending, entry)",
        ),
    ),
    "an add opens a window again that is over": (
        "add",
        swap("elseif is_over then", "elseif false then"),
    ),
    "an add behind a run takes its state": (
        "add",
        swap("t.batch and '' or wake_in_time(t, due)", "wake_in_time(t, due)"),
    ),
    "a renewal does not move the lease": (
        "renew",
        swap("'until', ms(lease_end), ", "'last', '', "),
    ),
    "a delayed batch is not booked": ("postpone", swap("book(t.bk, kind, t.bn)", "")),
    "a batch that waits keeps its lease": (
        "postpone",
        swap("redis.call('HDEL', key.thread, 'token', 'until', 'number', 'piece')", ""),
    ),
    "a failed batch is not listed": (
        "bury",
        swap("redis.call('ZADD', key.failed, ms(now), t.batch)", ""),
    ),
    "a failed batch keeps no messages": (
        "bury",
        swap("redis.call('RENAME', key.frozen, key.dead)", "redis.call('DEL', key.frozen)"),
    ),
    "a failed thread does not pause": ("bury", swap("if arg.pause == '1' then", "if false then")),
    "a retried batch goes to the tail": (
        "return_failed",
        swap(
            "redis.call('LPUSH', key.pending, entries[i])",
            "redis.call('RPUSH', key.pending, entries[i])",
        ),
    ),
    "a retried batch stays in the list": (
        "return_failed",
        swap("redis.call('ZREM', key.failed, arg.batch_id)", ""),
    ),
    "a trimmed tail is reversed": (
        "trim",
        swap("redis.call('LPUSH', key.pending, ", "redis.call('RPUSH', key.pending, "),
    ),
    "a trimmed tail is lost": (
        "trim",
        swap("redis.call('LPUSH', key.pending, ", "tostring("),
    ),
    "a trimmed tail leaves its successors in another counter": (
        "trim",
        swap("book(t.pk, 'waiting', t.n) ", ""),
    ),
    "results are stored twice": (
        "finish",
        swap(
            "if t.phase ~= 'delivering' then\n  write_results(t,",
            "if true then\n  write_results(t,",
        ),
    ),
    "a cancelled message stays": (
        "cancel",
        swap("redis.call('LSET', key.pending, ms(index), '')", ""),
    ),
    "the wrong message is cancelled": ("cancel", swap("message.id ~= arg.message_id", "false")),
    "a lost wake-up is never written again": (
        "wake",
        swap("redis.call('HSET', key.thread, 'wake', enqueue_new())", ""),
    ),
    "the passing of a window is not booked": ("wake", swap("book(t.pk, 'waiting', t.n)\n", "")),
    "a clock that is set back moves no window": (
        "wake",
        swap("local at, by =", "if name ~= 'until' then origin = '' end\n    local at, by ="),
    ),
    "a clock that is set back moves no lease": (
        "wake",
        swap("if by and at", "if name ~= 'until' and by and at"),
    ),
    "a window is moved as far as the lease before it": (
        "resume",
        swap("own_due = 'first'", "own_due = 'since'"),
    ),
    "a back-off is moved as far as the lease before it": (
        "postpone",
        swap(", 'since', ms(now))", ")"),
    ),
    "a lease that was renewed is moved as far as it was before": (
        "renew",
        swap("'since', ms(now), ", ""),
    ),
    "a lease that was taken over is moved as far as the one before": (
        "claim",
        swap("'since', ms(now), 'wake'", "'wake'"),
    ),
    "what was due before the clock was set back waits again": (
        "wake",
        swap("was_due[name] and now or ", ""),
    ),
    "a thread that the clock was set back over is not looked at": (
        "wake",
        swap("redis.call('ZADD', key.due, ms(due), arg.thread_id)\n", ""),
    ),
    "a resumed thread keeps the times of a clock that was set back": (
        "resume",
        swap("rewound(t) -- no", "-- no"),
    ),
    "an ended batch leaves no entry of the journal": (
        "finish",
        swap("journal_batch(arg.journal)\n", ""),
    ),
    "a failed batch leaves no entry of the journal": (
        "bury",
        swap("journal_batch(arg.journal)\n", ""),
    ),
    "a copy of a finish leaves an entry of the journal": (
        "finish",
        swap("if not holds(t) then\n", "if not holds(t) then\n  journal_batch(arg.journal)\n"),
    ),
    "a worker that lost the lease leaves an entry of the journal": (
        "bury",
        swap("  return {'lost'}\n", "  journal_batch(arg.journal)\n  return {'lost'}\n"),
    ),
    "a journal is not trimmed": (
        "finish",
        swap("if length > tonumber(arg.journal_most) then", "if false then"),
    ),
    "a journal begins with the newest": (
        "finish",
        swap("redis.call('RPUSH', key.journal, entry)", "redis.call('LPUSH', key.journal, entry)"),
    ),
    "nobody is ever overdue": ("overdue", swap("for i = 1, #overdue do", "for i = 1, 0 do")),
    "the passing of a window is not booked while a thread is paused": (
        "resume",
        swap("if due <= now then book_due(t) end", ""),
    ),
    "a pause is not listed": (
        "pause",
        swap("= read_thread()\nlist_pause(t)\n", "= read_thread()\n"),
    ),
    "a thread that pauses after a failure is not listed": ("bury", swap("  list_pause(t)\n", "")),
    "a resumed thread stays listed": (
        "resume",
        swap("redis.call('ZREM', key.pausing, arg.thread_id)\n", ""),
    ),
    "a resumed thread is not looked at": (
        "resume",
        swap(
            "redis.call('ZADD', key.due, due <= now",
            "redis.call('ZRANK', key.due, arg.thread_id) local _ = tostring(due <= now",
        ),
    ),
}


# Each takes one guard against late copies away.
def published_before(old: str) -> Callable[[str], str]:
    """Publish an event before the line that finds that the call is a copy."""
    return swap(old, f"if is_watched() then publish('window_moved', '{{}}') end\n{old}")


OF_COPIES: dict[str, tuple[str, Callable[[str], str]]] = {
    "the event of a known message is in the feed again": (
        "add",
        published_before("if known[1] then"),
    ),
    "the event of a batch that is over is in the feed again": (
        "bury",
        published_before("if not holds(t) then"),
    ),
    "the event of an older write is in the feed again": (
        "progress",
        published_before("if is_late(t.number) then"),
    ),
    "a late claim freezes others under the id of a batch that is over": (
        "claim",
        swap("redis.call('EXISTS', key.known) == 1", "false"),
    ),
    "a late claim goes on with the batch that it froze": (
        "claim",
        swap("arg.batch_id == t.batch or ", ""),
    ),
    "a late claim takes what its worker gave back last": (
        "claim",
        swap("arg.token == t.last\n      or ", ""),
    ),
    "a late claim takes what its worker held before": (
        "claim",
        swap("string.find(t.past or '', arg.token, 1, true)", "false"),
    ),
    "a late claim does not ask whether its job is over": (
        "claim",
        swap("type(status) ~= 'string' or ", ""),
    ),
    "a late claim does not ask whether its job was started": (
        "claim",
        swap(" or (arg.worker ~= '' and status == 'started')", ""),
    ),
    "a batch that was put back is forgotten at once": (
        "return_failed",
        swap(
            "redis.call('HSET', key.record, 'thread', arg.thread_id, 'returned_by', arg.nonce)", ""
        ),
    ),
    "late progress sets the batch back": ("progress", swap("if is_late(t.number)", "if false")),
    "a holder goes on with the numbers of the one before": (
        "claim",
        swap("if t.number or t.piece then", "if false then"),
    ),
    "a late edit undoes the next": (
        "edit",
        swap("redis.pcall('HINCRBY', key.message, 'rev', 1)", ""),
    ),
    "a late cancel or edit finds a message that was put back": (
        "return_failed",
        swap("redis.pcall('HINCRBY', rest_key(i), 'rev', 1)", ""),
    ),
    "a late cancel or edit finds a message that a batch gave back": (
        "trim",
        swap("redis.pcall('HINCRBY', rest_key(i), 'rev', 1)", ""),
    ),
    "a message that found its thread full is added after all": (
        "add",
        swap("refusal = redis.call('GET', key.over)", "refusal = nil"),
    ),
    "a late pause stops a thread": (
        "pause",
        swap("if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false", "if false"),
    ),
    "a late resume starts a thread": (
        "resume",
        swap("if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false", "if false"),
    ),
    "a late pause stops the queue": (
        "pause_queue",
        swap("if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false", "if false"),
    ),
    "a late resume starts the queue": (
        "resume_queue",
        swap("if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false", "if false"),
    ),
}


OF_QUIET: dict[str, tuple[str, Callable[[str], str]]] = {
    "a clock that is set back makes messages due that want no reply": (
        "wake",
        swap(" and not is_never(at) then", " then"),
    ),
    "a message that wants no reply opens a window": (
        "add",
        swap(
            "due = opens and never or tonumber(t.own_due)",
            "due = opens and first + tonumber(arg.delay_ms) or tonumber(t.own_due)",
        ),
    ),
    "a window counts from a message that wants no reply": (
        "add",
        swap("local first = opens and now", "local first = t.n == 0 and now"),
    ),
    "a thread full of messages that want no reply takes none that does": (
        "add",
        swap("(quiet or not opens)", "true"),
    ),
    "a claim does not know messages of which none wants a reply": (
        "claim",
        swap("elseif is_never(t.due) then", "elseif false then"),
    ),
    "messages behind a batch are due although none wants a reply": (
        "claim",
        swap("and due or never", "and due or due"),
    ),
    "messages that want no reply use up the batch": (
        "claim",
        swap("places == t.n and not t.quiet and most", "places == t.n and most"),
    ),
    "a finished thread is looked at although no message wants a reply": (
        "finish",
        swap("elseif is_never(due) then", "elseif false then"),
    ),
    "a thread stays due without the message that wanted a reply": (
        "cancel",
        swap("if ends then\n  redis", "if false then\n  redis"),
    ),
    "a trimmed tail is due although none of it wants a reply": (
        "trim",
        swap("ms(is_waiting and now or never)", "ms(now)"),
    ),
    "a retried batch forgets which messages want no reply": (
        "return_failed",
        swap("if is_marked(entries[i]) then", "if false then"),
    ),
    "a resumed thread is woken although no message wants a reply": (
        "resume",
        swap("  if is_never(due) then\n", "  if false then\n"),
    ),
}


OF_SAID: dict[str, tuple[str, Callable[[str], str]]] = {
    "a reply of say is answered": (
        "claim",
        swap("if cuts and is_said(entry) then", "if false then"),
    ),
    "a batch takes the reply of say behind it": (
        "claim",
        swap("if wanted > 0 or cuts == 'before' then return start + i - 1, found, wanted end", ""),
    ),
    "a claim does not ask what was said": (
        "claim",
        swap("if most < places or t.quiet then", "if most < places then"),
    ),
    "a reply of say is said again": ("say", swap("if known[1] then", "if false then")),
    "a copy of what was said leaves an entry of the journal": (
        "say",
        swap(
            "if known[1] then return {'said', known[1], known[2] or ''} end",
            "if known[1] then\n"
            "  journal_batch('[' .. ms(now) .. ',' .. arg.journal)\n"
            "  return {'said', known[1], known[2] or ''}\nend",
        ),
    ),
    "a reply of say does not book": ("say", swap("book(nil, kind, 1)", "")),
    "a reply of say is not looked at": (
        "say",
        swap("local opens = t.n == 0 or is_never(t.own_due)", "local opens = false"),
    ),
    "a reply of say waits as messages do that want no reply": (
        "say",
        swap("local opens = t.n == 0 or is_never(t.own_due)", "local opens = t.n == 0"),
    ),
    "a reply of say ends a window": (
        "say",
        swap("is_due and now or tonumber(t.own_due))", "now)"),
    ),
    "a reply of say is cancelled": ("cancel", swap(" or record[6] then", " then")),
    "a reply of say is edited": ("edit", swap(" or record[6] then", " then")),
    "a retried batch forgets what was said": (
        "return_failed",
        swap("if is_marked(entries[i]) then", "if is_quiet(entries[i]) then"),
    ),
    "a trimmed tail forgets what was said": (
        "trim",
        swap("if is_marked(entry) then", "if is_quiet(entry) then"),
    ),
    "a message behind a batch is forgotten with what was said": (
        "claim",
        swap(
            "return is_reply_wanted(redis.call('LLEN', key.pending)) and due or never",
            "return never",
        ),
    ),
}


LOST = "if not holds(t) then return {'lost'} end\n"
ABOVE_THE_GUARD = "local t = read_thread()\nif not holds(t) then"
OF_COUNTS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a batch is counted again when its end is repeated": (
        "finish",
        swap(ABOVE_THE_GUARD, f"count_step()\n{ABOVE_THE_GUARD}"),
    ),
    "a holder that lost its lease counts its batch": (
        "finish",
        swap("  return {'lost'}\nend", "  count_step()\n  return {'lost'}\nend"),
    ),
    "a batch of which version 0.1 stored the results is counted": (
        "finish",
        swap(
            "elseif redis.call('EXISTS', key.record) == 1 then",
            "elseif redis.call('EXISTS', key.record) == 1 then\n  count_step()",
        ),
    ),
    "a batch that ends is not counted": (
        "finish",
        swap("t.bn))\n  count_step()", "t.bn))"),
    ),
    "a failed batch is counted again when its end is repeated": (
        "bury",
        swap(ABOVE_THE_GUARD, f"count_step()\n{ABOVE_THE_GUARD}"),
    ),
    "a failed batch is not counted": ("bury", swap("count_step()\naudit_batch", "audit_batch")),
    "an attempt is counted by a holder that lost its lease": (
        "postpone",
        swap(LOST, f"if not holds(t) then count_step() end\n{LOST}"),
    ),
    "an attempt is counted again when its end is repeated": (
        "postpone",
        swap("local t = read_thread()\n", "local t = read_thread()\ncount_step()\n"),
    ),
    "an attempt that failed is counted with the end of its batch": (
        "postpone",
        swap("count_step()\nlocal due", "local due"),
    ),
    "a duration is in the bucket before its own": (
        "bury",
        swap("local bucket, bound = 0, 5", "local bucket, bound = -1, 2.5"),
    ),
    "a takeover is not counted": ("claim", swap("  add_to('takeovers', 1)\n", "")),
    "each claim counts as a takeover": (
        "claim",
        swap("local lease_end = now", "add_to('takeovers', 1)\nlocal lease_end = now"),
    ),
    "a cancelled message was never queued": (
        "cancel",
        swap("book(t.pk, 'cancelled', 1)", "book(t.pk, nil, 1)"),
    ),
    "a discarded message was never queued": (
        "discard_failed",
        swap("book('failed', 'discarded', count)", "book('failed', nil, count)"),
    ),
    "a duplicate is not counted": ("add", swap("    add_to('duplicates', 1)\n", "")),
    "a late copy of a duplicate is counted": (
        "add",
        swap("if not string.find(again, arg.nonce, 1, true) then", "if not is_same then"),
    ),
    "a repeated add counts as a duplicate": (
        "add",
        swap("is_same and arg.nonce or ", ""),
    ),
    "what is said counts as a message": ("say", swap("  add_to('said', 1)\n", "")),
}

OF_WINDOWS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a flush leaves the wake-up where it is": (
        "flush",
        swap("if not t.batch then wake_in_time(t, now) end", ""),
    ),
    "a flush behind a run takes its state": (
        "flush",
        swap("if not t.batch then wake_in_time", "if true then wake_in_time"),
    ),
    "a flush does not book": (
        "flush",
        swap("kind_of(t, now)\nbook(t.pk, kind, t.n)", "kind_of(t, now)"),
    ),
    "a late flush ends the next window": (
        "flush",
        swap("if before then return {before} end", ""),
    ),
    "a flush answers what wants no reply": (
        "flush",
        swap("t.n > 0 and not is_never(t.own_due) and 'flushed'", "t.n > 0 and 'flushed'"),
    ),
    "characters do not end a window": (
        "add",
        swap("or (limits_chars and chars >= tonumber(arg.max_chars))", ""),
    ),
    "characters of the batch before are counted": (
        "claim",
        swap("if t.chars then redis.call('HDEL', key.thread, 'chars') end", ""),
    ),
    "characters of a cancelled message are counted": (
        "cancel",
        swap("if t.chars then count_chars(t, 0) end", ""),
    ),
    "characters of an edited message are those it had": (
        "edit",
        swap("  count_chars(t, tonumber(arg.chars))\n", ""),
    ),
    "a message that was given back stays in its batch": (
        "trim",
        swap("redis.call('HDEL', rest_key(i), 'batch', 'revision')", ""),
    ),
    "a busy thread takes a message that is to be refused": (
        "add",
        swap("refusal = refusal or 'busy'", "refusal = nil"),
    ),
    "a message that wants no reply is refused": (
        "add",
        swap("t.batch and not quiet then refusal", "t.batch then refusal"),
    ),
    "a message is refused by a window": (
        "add",
        swap("t.batch and not quiet then refusal", "t.n > 0 and not quiet then refusal"),
    ),
    "the pace of a thread is not learned": (
        "add",
        swap("if is_burst and ago and ago >= 0 and ago <= most then", "if false then"),
    ),
    "the pace of a thread is that of its last message": (
        "add",
        swap("gap = math.max(math.floor((7 * gap + ago) / 8), 1)", "gap = ago"),
    ),
    "an answered message begins a burst": (
        "add",
        swap("adapted(delay, not opens or t.batch ~= nil)", "adapted(delay, true)"),
    ),
    "a message behind a run belongs to no burst": (
        "add",
        swap("adapted(delay, not opens or t.batch ~= nil)", "adapted(delay, not opens)"),
    ),
    "a message that wants no reply counts for the pace": (
        "add",
        swap("if arg.window == 'adaptive' and not quiet then", "if arg.window == 'adaptive' then"),
    ),
    "a hold shortens a window": (
        "add",
        swap("due = math.max(due, math.min(now + hold", "due = (math.min(now + hold"),
    ),
    "a hold is ignored": ("add", swap("if hold > 0 and not quiet", "if false and not quiet")),
    "a hold has no bound": (
        "add",
        swap("math.min(now + hold, first + tonumber(arg.hold_most_ms))", "now + hold"),
    ),
    "a full window is held": ("add", swap("not quiet and not is_full and (", "not quiet and (")),
    "a window that is over is held": ("add", swap("(t.batch or not is_over)", "true")),
    "what follows a run is not held": ("add", swap("(t.batch or not is_over)", "not is_over")),
    "a message that wants no reply holds a window": (
        "add",
        swap("if hold > 0 and not quiet and", "if hold > 0 and"),
    ),
    "a pace is kept for ever": (
        "add",
        swap(",\n    'PX', pace_ttl_ms)", ")"),
    ),
}


OF_PARKING: dict[str, tuple[str, Callable[[str], str]]] = {
    "a second verdict replaces the first": (
        "settle",
        swap("if known[2] or known[4] then return", "if false then return"),
    ),
    "a parked batch is not woken by a verdict": (
        "settle",
        swap("if is_parked(t) then end_park(t) end", ""),
    ),
    "a verdict of a batch that is over is kept": (
        "settle",
        swap("if not is_of(t.batch, known[1]) then", "if not known[1] then"),
    ),
    "a settled call stays listed": (
        "settle",
        swap("redis.call('ZREM', key.approvals, arg.call_id)\nsettle_question", "settle_question"),
    ),
    "a batch parks over a verdict": ("park", swap("if is_answered then due = now end", "")),
    "a batch parks over a wish": ("park", swap("if is_wished_unseen(t) then due = now end", "")),
    "a batch is due because of a wish that is known": (
        "park",
        swap(" and wish ~= arg.seen", ""),
    ),
    "parking does not ask who holds the lease": (
        "park",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a parked batch is counted as active": (
        "park",
        swap("book(t.bk, 'parked', t.bn)", ""),
    ),
    "a message that interrupts does not wake a parked batch": (
        "add",
        swap("elseif kind == 'interrupt' and is_parked(t) then", "elseif false then"),
    ),
    "a settled call stays open in its thread": ("settle", swap("drop_ask(t, arg.call_id)", "")),
    "a call that is settled before it is parked is open in its thread": (
        "park",
        swap("if #shut > 0 then", "if false then"),
    ),
    "parking loses a wish": ("park", swap("{'n', 'first',", "{'n', 'first', 'wish',")),
    "parking loses what waits": ("park", swap("t.n == 0 and of_waiting or {}", "of_waiting")),
    "closing does not ask who holds the lease": (
        "close",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a closed call stays listed": (
        "close",
        swap("redis.call('ZREM', key.approvals, id)", ""),
    ),
}


OF_STOPS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a stop in a paused queue is not listed": (
        "stop",
        swap("    redis.call('ZADD', key.stopping, recheck_at(), arg.thread_id)\n", ""),
    ),
    "a stop in a paused queue stays listed": (
        "stopped",
        swap("  if t.wish then redis.call('ZREM', key.stopping, arg.thread_id) end\n", ""),
    ),
    "a paused queue keeps a stop": (
        "overdue",
        swap(
            "if is_kept then return redis",
            "if is_kept then return {} end if false then return redis",
        ),
    ),
    "a stop that is postponed in a paused queue is looked at too late": (
        "postpone",
        swap("  redis.call('ZADD', key.stopping, 'XX', ", "  tostring("),
    ),
    "a batch that is only written is stopped": (
        "stop",
        swap("if not is_marked(entry) then return true end", "return true"),
    ),
    "a stop leaves a batch in its back-off": (
        "stop",
        swap("    redis.call('HSET', key.thread, 'due', ms(now))\n    t.due = ms(now)\n", ""),
    ),
    "a stop of a batch that waits does not book": ("stop", swap("    book_due(t)\n", "")),
    "a stop wakes no worker": (
        "stop",
        swap("    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, now))\n", ""),
    ),
    "a stop of a paused thread is not looked after": (
        "stop",
        swap("    redis.call('ZADD', key.due, recheck_at(), arg.thread_id)\n", ""),
    ),
    "a stop leaves the batch of a dead worker in a paused thread": (
        "stop",
        swap("if t.token and tonumber(t['until']) > now then", "if t.token then"),
    ),
    "a late stop ends the next batch": ("stop", swap("if before then return {before} end", "")),
    "a stop means each batch of its thread": (
        "stop",
        swap("'stop ' .. t.batch", "'stop'"),
    ),
    "a wish for another batch is one for this": (
        "claim",
        swap("return batch and batch == t.batch and", "return batch and"),
    ),
    "a claim does not return the wish": (
        "claim",
        swap("t.was_due or '', wish_of(t),", "t.was_due or '', '',"),
    ),
    "a paused thread keeps a stop": (
        "claim",
        swap("local is_stopping = wish_of(t) == 'stop'", "local is_stopping = false"),
    ),
    "a paused thread gives any batch with a wish": (
        "claim",
        swap("local is_stopping = wish_of(t) == 'stop'", "local is_stopping = t.wish ~= nil"),
    ),
    "a stop of stored results passes a pause": (
        "claim",
        swap(" and t.phase ~= 'delivering' and kind", " and kind"),
    ),
    "no scheduler looks at a stop in a paused thread": (
        "wake",
        swap("(is_kept_back(t) and wish_of(t) ~= 'stop')", "is_kept_back(t)"),
    ),
    "a pause after a stop keeps it": (
        "pause",
        swap(" and wish_of(t) ~= 'stop' and is_kept_back(t) then", " then"),
    ),
    "a batch ends although it was to be stopped": (
        "finish",
        swap("if is_stopped_unseen(t) then return {'stopping'} end", ""),
    ),
    "a batch that knows of its stop does not end": (
        "finish",
        swap("return arg.seen ~= 'stop' and wish_of(t)", "return wish_of(t)"),
    ),
    "a batch fails although it was to be stopped": (
        "bury",
        swap("if is_stopped_unseen(t) then return {'stopping'} end", ""),
    ),
    "a batch is left for a while although it was to be stopped": (
        "postpone",
        swap("if is_stopped_unseen(t) then due = now end", ""),
    ),
    "a paused thread keeps a stop that is left for a while": (
        "postpone",
        swap("if is_kept_back(t) and wish_of(t) ~= 'stop' then", "if is_kept_back(t) then"),
    ),
    "a renewal does not return the wish": ("renew", swap("or '', wish_of(t)}", "or '', ''}")),
    "stopped does not ask who holds the lease": (
        "stopped",
        swap("if not holds(t) then", "if false then"),
    ),
    "a stopped batch is completed": (
        "stopped",
        swap("write_outcome(t, 'stopped')", "write_outcome(t, 'completed')"),
    ),
    "messages of a stopped batch are not cancelled": (
        "stopped",
        swap(
            "if state == 'stopped' then redis.call('HSET', rest_key(i), 'state', 'cancelled') end",
            "",
        ),
    ),
    "messages of a stopped batch are counted as completed": (
        "stopped",
        swap("state == 'stopped' and 'cancelled' or 'completed'", "'completed'"),
    ),
    "a stopped batch is not counted": ("stopped", swap("count_step()\naudit", "audit")),
    "a stopped batch leaves no entry of the journal": (
        "stopped",
        swap("journal_batch(arg.journal)\n", ""),
    ),
    "a stop that is repeated is in the journal again": (
        "stopped",
        swap("if not holds(t) then\n", "if not holds(t) then\n  journal_batch(arg.journal)\n"),
    ),
    "a released thread keeps its wish": (
        "stopped",
        swap("'piece', 'wish', 'wished',", "'piece', 'wished',"),
    ),
}


OF_JOINS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a message that interrupts makes no wish": ("add", swap("  want(t, arg.wish)\n", "")),
    "a message that wants no reply interrupts": (
        "add",
        swap("t.phase ~= 'delivering' and not quiet\n", "t.phase ~= 'delivering'\n"),
    ),
    "a weaker wish replaces a stronger one": (
        "add",
        swap("if (strength[wish_of(t)] or 0) >= strength[kind] then return end", ""),
    ),
    "a message in a batch is promoted": (
        "promote",
        swap("if type(word) == 'number' then", "if type(word) == 'number' or word == 'taken' then"),
    ),
    "a late copy promotes a message for the next batch": (
        "promote",
        swap("if before then return {before} end", ""),
    ),
    "a message is promoted without a batch that is under way": (
        "promote",
        swap("t.batch and t.phase ~= 'delivering' and not is_taken_over(t) and", "true and"),
    ),
    "a reply of say is promoted": ("promote", swap(" or record[6] then", " then")),
    "revised does not ask who holds the lease": (
        "revised",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a late copy of a revision is made again": (
        "revise",
        swap("if before then return {before} end", ""),
    ),
    "late revisions set the batch back": (
        "revised",
        swap("if is_late(t.number) then return {'ok'} end", ""),
    ),
    "a removed message stays in the batch": (
        "revised",
        swap("redis.call('DEL', key.frozen)\n", ""),
    ),
    "a removed message does not book": (
        "revised",
        swap("book(t.bk, 'cancelled', t.bn - left)\n", ""),
    ),
    "a removed message is not cancelled": (
        "revised",
        swap("  redis.call('HSET', rest_key(i), 'state', 'cancelled')\n", ""),
    ),
    "an edited message of a batch is taken for another": (
        "revised",
        swap("redis.call('HSET', rest_key(place), 'digest', pair[2])\n", ""),
    ),
    "the removal of the only message is no stop": (
        "revise",
        swap("    wish_to_stop(t)\n", ""),
    ),
    "a revision makes no wish": ("revise", swap("    want(t, 'interrupt')\n", "")),
    "what is given back forgets its revisions": (
        "trim",
        swap("if (t.revisions or '') ~= arg.count then return {'revised'} end", ""),
    ),
    "an edit of what is given back is lost": (
        "trim",
        swap("type(revision) == 'table' and revision[1] or entry", "entry"),
    ),
    "an edited message that was given back is taken for another": (
        "trim",
        swap("redis.call('HSET', rest_key(i), 'digest', revision[2])", ""),
    ),
    "a removed message is given back": (
        "trim",
        swap("if revision ~= 1 then", "if true then"),
    ),
    "a message that is removed as it is given back is not cancelled": (
        "trim",
        swap("redis.call('HSET', rest_key(i), 'state', 'cancelled')", ""),
    ),
    "a message that is removed as it is given back does not book": (
        "trim",
        swap("book(t.bk, 'cancelled', removed)\n", ""),
    ),
    "what is removed moves the places of what is given back": (
        "trim",
        swap("'seq', ms(seq))", "'seq', ms(head + i - 1))"),
    ),
    "revisions that were made in the list are waited for": (
        "trim",
        swap("if arg.left == '' and t.revisions then", "if false then"),
    ),
    "revisions of what stays are forgotten": (
        "trim",
        swap("if arg.left == '' and t.revisions then", "if t.revisions then"),
    ),
    "a late trim gives back what has joined": (
        "trim",
        swap("if is_late(t.number) then return {'ok', ms(t.bn)} end", ""),
    ),
    "join does not ask who holds the lease": (
        "join",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a late join takes what has come since": (
        "join",
        swap("if is_late(t.number) then", "if false then"),
    ),
    "what joins stays in the list": (
        "join",
        swap("  redis.call('LTRIM', key.pending, count, -1)\n", ""),
    ),
    "what joins is in front of the batch": (
        "join",
        swap("redis.call('RPUSH', key.frozen, entry)", "redis.call('LPUSH', key.frozen, entry)"),
    ),
    "all messages join if none may": (
        "join",
        swap("  if count == 0 then return 0, reason end", ""),
    ),
    "what joins is beyond the limit": (
        "join",
        swap("tonumber(arg.most) - wanted(), ", "tonumber(arg.most), "),
    ),
    "messages that want no reply use up the limit of what joins": (
        "join",
        swap("tonumber(arg.most) - wanted(), ", "tonumber(arg.most) - t.bn, "),
    ),
    "the characters of the batch do not count": (
        "join",
        swap("    chars = chars + chars_of(message)\n    if not is", "    if not is"),
    ),
    "characters do not limit what joins": (
        "join",
        swap("chars > tonumber(arg.most_chars) then", "false then"),
    ),
    "one character too many joins": (
        "join",
        swap("return i - 1, 'max_batch_chars'", "return i, 'max_batch_chars'"),
    ),
    "a join that takes nothing says so to nobody": (
        "join",
        swap(
            "if most < 1 or largest < 1 then return 0, 'max_batch_size' end",
            "if most < 1 or largest < 1 then return 0 end",
        ),
    ),
    "a join that leaves some says so to nobody": (
        "join",
        swap("if reason and is_watched() and is_a_reply_missing() then", "if false then"),
    ),
    "a refusal is published though nothing is left": (
        "join",
        swap(" and is_a_reply_missing() then", " then"),
    ),
    "a reply of say joins": (
        "join",
        swap("walk(most, largest, places, 'before')", "walk(most, largest, places)"),
    ),
    "places of cancelled messages join": (
        "join",
        swap("count - redis.call('LREM', key.frozen, 0, '')", "count"),
    ),
    "places that are skipped move the others": (
        "join",
        swap("if t.head ~= head then redis.call('HSET', key.thread, 'head', t.head) end\n", ""),
    ),
    "what joins moves the places of the others": (
        "join",
        swap("  t.head = t.head + count\n", ""),
    ),
    "what joins does not book": ("join", swap("  book(t.pk, t.bk, taken)\n", "")),
    "what joins is not counted in the batch": (
        "join",
        swap("'bn', t.bn + taken, ", "'bn', t.bn, "),
    ),
    "messages that want no reply are due after a join": (
        "join",
        swap(
            "ms(own_due_of_left(t, tonumber(t.own_due or now)))", "ms(tonumber(t.own_due or now))"
        ),
    ),
    "a join leaves its wish": (
        "join",
        swap("  redis.call('HDEL', key.thread, 'wish')\n", ""),
    ),
    "a join fulfils a stop": (
        "join",
        swap("if left_wish ~= 'stop' and not t.revisions then", "if true then"),
    ),
    "a join does not store the progress": (
        "join",
        swap("'progress', arg.progress, ", ""),
    ),
    "a join is not numbered": ("join", swap("'number', arg.number,\n", "\n")),
    "refuse does not ask who holds the lease": (
        "refuse",
        swap("if not holds(t) then return {'lost'} end", ""),
    ),
    "a stop is refused": (
        "refuse",
        swap("if wish_of(t) ~= 'interrupt' then", "if wish_of(t) == '' then"),
    ),
    "a late refusal means the next wish": (
        "refuse",
        swap("if redis.call('SET', key.over, '1', 'NX', 'PX', arg.over_ms) == false", "if false"),
    ),
    "a refusal leaves the wish": ("refuse", swap("redis.call('HDEL', key.thread, 'wish')\n", "")),
}


@pytest.fixture(scope="module")
def client(one_redis: RedisServer) -> Iterator[Any]:
    """A real server: half the CPU of one in Python."""
    with redis.Redis.from_url(one_redis.url) as client:
        yield client


@pytest.fixture
def rig(client: Any) -> Callable[[], Rig]:
    def fresh() -> Rig:
        client.flushdb()
        return Rig(client, f"bug{next(NUMBERS)}")

    return fresh


OF_SENDING: dict[str, tuple[str, Callable[[str], str]]] = {
    "a claim does not store that the batch is sent": (
        "claim",
        swap(
            "if t.phase == 'sending' then redis.call('HSET', key.thread, 'progress', t.progress) end",
            "",
        ),
    ),
    "a claim takes another worker's mark for its own": (
        "claim",
        swap("t.phase == 'sending' and t.batch == arg.batch_id and not t.number", "not t.number"),
    ),
    "a claim marks every batch as sent": (
        "claim",
        swap("if arg.sending ~= '' then", "if true then"),
    ),
    "a batch that its claim marks is returned as one that may have been sent": (
        "claim",
        swap("if not is_marked then phase,", "if true then phase,"),
    ),
    "the mark of a claim has another time": (
        "claim",
        swap("'now' then return ms(now) end", "'now' then return ms(now + 1) end"),
    ),
    "the mark of a claim has no end": (
        "claim",
        swap("return ms(now + tonumber(arg.run_ms))", "return ms(now)"),
    ),
}

OF_TAKEOVERS: dict[str, tuple[str, Callable[[str], str]]] = {
    "a takeover is not listed": (
        "take_over",
        swap("= holds_replies(t)\nlist_pause(t)\n", "= holds_replies(t)\n"),
    ),
    "a thread that is handed back stays listed": (
        "hand_back",
        swap("  redis.call('ZREM', key.pausing, arg.thread_id)\n", ""),
    ),
    "a thread that is handed back and stays paused is not listed": (
        "hand_back",
        swap(
            "elseif t.state and t.state",
            "elseif redis.call('ZREM', key.pausing, arg.thread_id) and t.state",
        ),
    ),
    "the model is not kept from the thread": (
        "claim",
        swap("if not t.paused then return false end", "if true then return false end"),
    ),
    "an add wakes a worker for a person's messages": (
        "add",
        swap("if is_kept_back(t) then return '' end", ""),
    ),
    "a finish wakes a worker for a person's messages": (
        "finish",
        swap("  t.batch = nil\n", ""),
    ),
    "a thread that becomes idle is the model's again": ("finish", swap("    keep_pause(t)\n", "")),
    "a person's words wait for the end of a window": (
        "say",
        swap("local is_due = opens or is_taken_over(t)", "local is_due = opens"),
    ),
    "a person's words answer nothing": (
        "say",
        swap("  if is_taken_over(t) then answer_waiting() end\n", ""),
    ),
    "a person's words are not woken after a wake-up in vain": (
        "say",
        swap("    t.wake = nil -- a worker", "    -- a worker"),
    ),
    "a run answers what a person has answered": (
        "claim",
        swap("local is_answered = is_spoken(t)", "local is_answered = false"),
    ),
    "a message that a person has answered wants a reply": (
        "claim",
        swap(
            "if not is_marked(entry) then\n      redis.call('LSET'",
            "if false then\n      redis.call('LSET'",
        ),
    ),
    "an answer takes the next one with it": (
        "claim",
        swap("take = walk(most, largest, places, 'answered')", "take = places"),
    ),
    "what was said keeps the model out for ever": (
        "claim",
        swap("seq >= t.head", "seq >= t.head - 1"),
    ),
    "a message joins a run although a person answers": (
        "join",
        swap("if is_taken_over(t) or is_spoken(t) then return 0 end", ""),
    ),
    "a message interrupts although a person answers": (
        "add",
        swap("\n    and not is_taken_over(t) then", " then"),
    ),
    "a promotion interrupts although a person answers": (
        "promote",
        swap(" and not is_taken_over(t) and 'wished'", " and 'wished'"),
    ),
    "another person is replaced": (
        "take_over",
        swap("if person ~= '' and person ~= arg.instead_of then", "if false then"),
    ),
    "a takeover keeps a batch from its end": (
        "postpone",
        swap("(t.batch or is_spoken(t))", "is_spoken(t)"),
    ),
    "a takeover does not stop": (
        "take_over",
        swap("if arg.stops == '1' and is_stoppable(t) then", "if false then"),
    ),
    "a takeover of a paused thread forgets its batch": (
        "take_over",
        swap("elseif was_paused and t.batch then", "elseif false then"),
    ),
    "a resume hands back": (
        "resume",
        swap("if not t.paused or is_taken_over(t) then", "if not t.paused then"),
    ),
    "a thread that is handed back is not looked at": (
        "hand_back",
        swap("  t.paused = nil\n  check_again(t)", "  t.paused = nil"),
    ),
    "a pause is handed back": ("hand_back", swap("if t.paused == '2' then", "if true then")),
    "what a person takes over is not counted": ("take_over", swap("\ncount_step()", "")),
    "what is refused is counted": (
        "take_over",
        swap("if person == arg.by then", "count_step()\nif person == arg.by then"),
    ),
    "what is handed back is not counted": ("hand_back", swap("\ncount_step()", "")),
    "a copy takes over again": (
        "take_over",
        swap("if before then return cjson.decode(before) end", ""),
    ),
    "a copy hands back again": ("hand_back", swap("if before then return {before} end", "")),
    "a reply that failed is not written again": (
        "return_failed",
        swap("is_taken_over(t) and is_said(entry)", "is_said(entry) and false"),
    ),
    "a batch that failed takes the place of what was said": (
        "return_failed",
        swap("if t.spoken and not is_spoken(t) then", "if false then"),
    ),
}


def break_script(monkeypatch: pytest.MonkeyPatch, bug: str) -> None:
    name, change = next(bugs[bug] for _, bugs, _ in WALKS.values() if bug in bugs)
    broken = change(whole_source(name))
    was_called = False

    def load_broken(asked: str, constants: Constants = ()) -> LuaScript:
        nonlocal was_called
        if asked != name:
            return load(asked, constants)
        was_called = True
        return build(asked, broken, constants)

    def look(play: StoreMachine) -> None:
        if was_called:  # until then, it is the walk of the store as it is, which has its own test
            look_at(play)

    look_at = StoreMachine.look
    monkeypatch.setattr(calls, "load", load_broken)
    monkeypatch.setattr(StoreMachine, "look", look)


Bugs = dict[str, tuple[str, Callable[[str], str]]]
WALKS: dict[str, tuple[Callable[[StoreMachine], None], Bugs, Any]] = {
    "all": (tour, BUGS, FOUND),
    "copies": (copies_tour, OF_COPIES, FOUND),
    "quiet messages": (quiet_tour, OF_QUIET, FOUND),
    "what is said": (said_tour, OF_SAID, FOUND),
    "windows": (window_tour, OF_WINDOWS, FOUND),
    "counts": (counts_tour, OF_COUNTS, AssertionError),
    "stops": (stop_tour, OF_STOPS, FOUND),
    "joins": (join_tour, OF_JOINS, FOUND),
    "parking": (park_tour, OF_PARKING, FOUND),
    "sending": (sending_tour, OF_SENDING, FOUND),
    "takeovers": (takeover_tour, OF_TAKEOVERS, FOUND),
}
"""Each tour with the bugs that it must find, and what it raises then."""


@pytest.mark.parametrize("name", WALKS)
def test_a_tour_is_passed_by_the_store_as_it_is(rig: Callable[[], Rig], name: str) -> None:
    walk, _, _ = WALKS[name]
    walk(machine(rig)())


@pytest.mark.parametrize(
    ("name", "bug"), [(name, bug) for name, (_, bugs, _) in WALKS.items() for bug in bugs]
)
def test_a_tour_finds(
    rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, name: str, bug: str
) -> None:
    walk, _, found = WALKS[name]
    break_script(monkeypatch, bug)
    with pytest.raises(found):
        walk(machine(rig)())


# Those that any walk meets soon; with HYPOTHESIS_PROFILE=long, all but the rare ones.
MET_SOON = (
    "duplicates are not known",
    "an add does not book",
    "a batch is frozen by copying",
    "a claim does not book",
)


# Those that took a random walk more than 500 turns: only the tour goes there.
RARE = {"a trimmed tail leaves its successors in another counter", "the wrong message is cancelled"}


@pytest.mark.parametrize(
    "bug", sorted(set(BUGS) - RARE) if os.environ.get("HYPOTHESIS_PROFILE") == "long" else MET_SOON
)
def test_the_machine_finds(
    rig: Callable[[], Rig], monkeypatch: pytest.MonkeyPatch, bug: str
) -> None:
    break_script(monkeypatch, bug)
    with pytest.raises(FOUND):
        run_state_machine_as_test(
            machine(rig),
            settings=settings(
                max_examples=500,
                stateful_step_count=40,
                deadline=None,
                derandomize=True,
                database=None,
                phases=[Phase.generate],
                suppress_health_check=list(HealthCheck),
                print_blob=False,
            ),
        )
