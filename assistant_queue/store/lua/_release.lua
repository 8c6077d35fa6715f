-- Finish or stay pending, in one step: the holder gives the thread back, and if messages wait, the wake-up is written here.
--
--   1. worker: nothing pending, so release      2. producer: pending += m
-- A message can fall before or after this step, never between: before, it is seen here; after, the thread is idle and the add writes
-- the wake-up itself.
-- Needs key.thread, key.due, key.counters, key.guard (for arg.guard_id) and what _wakeup.lua needs.

-- A guard that was written anew since the claim is left to fire: it finds nothing to do and RQ removes it.
local function drop_guard(t)
  if t.wake ~= arg.guard_id then return end
  redis.call('ZREM', key.scheduled, t.wake)
  redis.call('DEL', key.guard)
  redis.call('HDEL', key.thread, 'wake')
end

local function release(t)
  if t.n == 0 then
    redis.call('ZREM', key.due, arg.thread_id)
    drop_guard(t)
    redis.call('DEL', key.thread)
    if t.paused then redis.call('HSET', key.thread, 'paused', '1') end
    return 'idle'
  end
  redis.call('HDEL', key.thread, 'token', 'until', 'batch', 'bn', 'bk', 'phase', 'progress', 'deaths', 'claimed', 'told', 'number', 'piece')
  local due = math.max(now, tonumber(t.own_due or now))
  local kind = due <= now and 'waiting' or 'delayed'
  book(t.pk, kind, t.n)
  redis.call('HSET', key.thread, 'state', 'pending', 'due', ms(due), 'pk', kind, 'last', arg.token or '')
  if t.paused then
    redis.call('ZREM', key.due, arg.thread_id)
    drop_guard(t)
  else
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
    redis.call('ZADD', key.due, due <= now and look_again() or ms(due), arg.thread_id)
    tell_timers(due)
  end
  return 'pending'
end
