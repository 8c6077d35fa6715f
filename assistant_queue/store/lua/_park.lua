-- The holder releases the thread; its batch is parked.
-- Needs key.thread, key.due, arg.thread_id, arg.token, arg.seen, arg.phase, arg.progress, arg.tick,
-- and what _compact.lua, _wakeup.lua, _wish.lua and _person.lua need.

-- A wish to stop or to interrupt the batch that the caller does not know.
local function is_wished_unseen(t)
  local wish = wish_of(t)
  return (wish == 'stop' or wish == 'interrupt') and wish ~= arg.seen
end

-- Of earlier holders, and of a wake-up that was taken.
local over = {'token', 'until', 'number', 'piece', 'deaths', 'queued', 'asks', 'progress', 'p1',
  'p2', 'p3', 'p4', 'p5', 'p6', 'p7'}
-- Of waiting messages; without them these mean nothing.
local of_waiting = {'n', 'first', 'own_due', 'pk', 'chars', 'quiet'}
-- Characters: three tokens.
local most_past = 50

-- Write the hash anew, without what a parked batch does not need. A hash that had a long value once
-- is compact only if it is created again.
local function shrink(t)
  local gone = {}
  for _, names in ipairs({over, t.n == 0 and of_waiting or {}}) do
    for _, name in ipairs(names) do gone[name] = true end
  end
  local flat = redis.call('HGETALL', key.thread)
  redis.call('DEL', key.thread)
  for i = 1, #flat, 2 do
    local name, value = flat[i], flat[i + 1]
    if name == 'past' then value = string.sub(value, 1, most_past) end
    if not gone[name] then redis.call('HSET', key.thread, name, value) end
  end
end

local function park_until(t, due)
  if is_wished_unseen(t) then due = now end
  book(t.bk, 'parked', t.bn)
  shrink(t)
  redis.call('HSET', key.thread, 'state', 'held', 'parked', string.sub(arg.token, -6),
    'bk', 'parked', 'due', ms(due), 'phase', arg.phase, 'last', arg.token, 'since', ms(now))
  local pieces = in_pieces('progress', 'p', arg.progress)
  for i = 1, #pieces, 2 do redis.call('HSET', key.thread, pieces[i], pieces[i + 1]) end
  if is_kept_back(t) and wish_of(t) ~= 'stop' then
    redis.call('ZREM', key.due, arg.thread_id)
  else
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
    redis.call('ZADD', key.due, due <= now and recheck_at() or ms(due), arg.thread_id)
    publish_tick(due)
  end
  return {'ok', ms(due)}
end
