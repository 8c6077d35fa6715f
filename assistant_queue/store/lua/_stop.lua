-- Wish that the frozen batch of a thread ends for good.
-- Needs key.thread, key.due, key.counters, arg.thread_id, arg.wishes (the channel on which workers
-- are notified), and what _wakeup.lua, _due.lua and _wish.lua need.

local function wish_to_stop(t)
  if wish_of(t) ~= 'stop' then redis.call('HSET', key.thread, 'wished', ms(now)) end
  redis.call('HSET', key.thread, 'wish', 'stop ' .. t.batch)
  if t.token then
    redis.call('PUBLISH', arg.wishes, arg.thread_id)
  else
    -- A back-off or a grace period.
    redis.call('HSET', key.thread, 'due', ms(now))
    t.due = ms(now)
    book_due(t)
  end
  if t.token and tonumber(t['until']) > now then
    -- It is checked when the lease expires. A paused thread is, too, unless it was checked before.
    redis.call('ZADD', key.due, 'NX', t['until'], arg.thread_id)
  else
    -- A worker looks at once, also if the thread is paused.
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, now))
    redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
  end
end
