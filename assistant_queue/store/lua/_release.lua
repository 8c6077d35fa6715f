-- Finish or stay pending, in one step: the holder releases the thread and, if messages wait, writes
-- the next wake-up.
--
--   1. worker: nothing is pending, so release      2. producer: pending += m
-- A message arrives before or after this step, never within: before, this step sees it; after, the
-- thread is idle and the add writes the wake-up itself.
-- Needs key.thread, key.due, key.stopping, key.counters, key.guard (for arg.guard_id), and what
-- _wakeup.lua, _quiet.lua and _person.lua need.

-- A guard that was rewritten since the claim is left to fire: it finds nothing to do and RQ removes
-- it.
local function drop_guard(t)
  if t.wake ~= arg.guard_id then return end
  redis.call('ZREM', key.scheduled, t.wake)
  redis.call('DEL', key.guard)
  redis.call('HDEL', key.thread, 'wake')
end

local function release(t)
  if t.wish then redis.call('ZREM', key.stopping, arg.thread_id) end
  if t.n == 0 then
    redis.call('ZREM', key.due, arg.thread_id)
    drop_guard(t)
    redis.call('DEL', key.thread)
    keep_pause(t)
    return 'idle'
  end
  redis.call('HDEL', key.thread, 'token', 'until', 'batch', 'bn', 'bk', 'phase', 'progress',
    'deaths', 'claimed', 'since', 'was_due', 'told', 'number', 'piece', 'wish', 'wished',
    'revisions', 'parked', 'asks', 'shut', 'p1', 'p2', 'p3', 'p4', 'p5', 'p6', 'p7')
  local due = math.max(now, tonumber(t.own_due or now))
  local kind = due <= now and 'waiting' or 'delayed'
  book(t.pk, kind, t.n)
  redis.call('HSET', key.thread,
    'state', 'pending', 'due', ms(due), 'pk', kind, 'last', arg.token or '')
  t.batch = nil
  if is_kept_back(t) then
    redis.call('ZREM', key.due, arg.thread_id)
    drop_guard(t)
  elseif is_never(due) then
    redis.call('ZADD', key.due, ms(due), arg.thread_id)
    drop_guard(t)
  else
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
    redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
    publish_tick(due)
  end
  return 'pending'
end
