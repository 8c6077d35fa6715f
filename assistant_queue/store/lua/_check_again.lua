-- A thread that was kept back is checked again, at its due time or at once if that has passed.
-- Needs key.thread, key.due, key.outbox, key.deliveries, and what _wakeup.lua, _due.lua, _quiet.lua
-- and _rewind.lua need.

local function check_replies()
  if redis.call('EXISTS', key.outbox) == 1 then
    redis.call('ZADD', key.deliveries, 'NX', ms(now), arg.thread_id)
  end
end

local function check_again(t)
  check_replies()
  if not t.state then return end
  rewound(t) -- no scheduler moves the times of a paused thread
  local due = math.max(now, tonumber(t['until'] or t.due))
  if is_never(due) then
    redis.call('ZADD', key.due, ms(due), arg.thread_id)
    return
  end
  if due <= now then book_due(t) end -- a paused thread is not checked
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
  redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
  publish_tick(due)
end
