-- Wish that the frozen batch of a thread ends for good.
-- Needs key.thread, key.frozen, key.due, key.stopping, key.counters, arg.thread_id, arg.wishes (the
-- channel on which workers are notified), and what _wakeup.lua, _due.lua, _quiet.lua and _wish.lua
-- need.

-- Whether there is a batch that a run answers. One without a message that wants a reply is only
-- written to the conversation.
local function is_stoppable(t)
  if not t.batch or t.phase == 'delivering' then return false end
  for _, entry in ipairs(redis.call('LRANGE', key.frozen, 0, -1)) do
    if not is_marked(entry) then return true end
  end
  return false
end

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
    redis.call('ZADD', key.stopping, t['until'], arg.thread_id)
  else
    -- A worker looks at once, also if the thread is paused.
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, now))
    redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
    redis.call('ZADD', key.stopping, recheck_at(), arg.thread_id)
  end
end
