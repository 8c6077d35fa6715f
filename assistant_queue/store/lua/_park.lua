-- The holder releases the thread; its batch is parked.
-- Needs key.thread, key.due, arg.thread_id, arg.token, arg.seen, arg.phase, arg.progress, arg.tick,
-- and what _wakeup.lua, _wish.lua and _person.lua need.

-- A wish to stop or to interrupt the batch that the caller does not know.
local function is_wished_unseen(t)
  local wish = wish_of(t)
  return (wish == 'stop' or wish == 'interrupt') and wish ~= arg.seen
end

local function park_until(t, due)
  if is_wished_unseen(t) then due = now end
  book(t.bk, 'parked', t.bn)
  redis.call('HDEL', key.thread, 'token', 'until', 'number', 'piece')
  redis.call('HSET', key.thread, 'state', 'held', 'parked', arg.token, 'bk', 'parked',
    'due', ms(due), 'phase', arg.phase, 'progress', arg.progress, 'last', arg.token, 'deaths', '0',
    'since', ms(now))
  if is_kept_back(t) and wish_of(t) ~= 'stop' then
    redis.call('ZREM', key.due, arg.thread_id)
  else
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
    redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
    publish_tick(due)
  end
  return {'ok', ms(due)}
end
