-- One thread whose time has come: book the passing of its window, and see that a wake-up is on its way. The one recovery for lost jobs, dead
-- workers, lapsed leases and due retries. Idempotent: it moves the time of the next look.
-- Needs key.thread, key.due, key.counters, key.paused, arg.patience_ms, arg.search, arg.guard_ms, and what _wakeup.lua and _due.lua need.

-- Handed over before, and still there: then workers are busy, and another wake-up would not be faster. The search is bounded. What is not
-- found in a longer queue is behind the searched part, unless one that was handed over later has been taken: then it was taken, too, or lost.
local function is_waiting(t)
  local length = redis.call('LLEN', key.queue)
  local found = redis.call('LPOS', key.queue, t.wake, 'MAXLEN', tonumber(arg.search))
  stands_behind(found or length)
  if found or length <= tonumber(arg.search) then return found end
  local taken, own = tonumber(redis.call('HGET', key.counters, 'taken') or ''), tonumber(t.queued or '')
  if taken and own then return own >= taken end
  return now - (own or 0) < tonumber(arg.patience_ms) -- workers that do not say what they take: RQ's own
end

-- Redis' clock can be set back, by an operator or by a failover to a machine whose clock differs: then what was due in a second is due in an
-- hour. What has happened cannot lie in the future; the latest such time tells by how much the clock went back, at least. Times to come
-- are moved by as much, unless they were written since: those lie less far ahead. Returns when the thread is due then, or nothing.
local function rewound(t)
  local ahead = 0
  for _, name in ipairs({'first', 'claimed', 'queued'}) do
    local back = tonumber(t[name] or '0') - now
    if back > 0 then t[name] = ms(now) end
    ahead = math.max(ahead, back)
  end
  if ahead == 0 then return nil end
  for _, name in ipairs({'due', 'own_due', 'until'}) do
    local at = tonumber(t[name] or '0')
    if at - now > ahead / 2 then t[name] = ms(math.max(at - ahead, now)) end
  end
  for _, name in ipairs({'first', 'claimed', 'queued', 'due', 'own_due', 'until'}) do
    if t[name] then redis.call('HSET', key.thread, name, t[name]) end
  end
  local due = tonumber(t.due)
  if t.token then due = tonumber(t['until']) + tonumber(arg.guard_ms) end
  redis.call('ZADD', key.due, ms(due), arg.thread_id)
  if t.wake and redis.call('ZSCORE', key.scheduled, t.wake) then redis.call('ZADD', key.scheduled, seconds(due), t.wake) end
  tell_timers(due)
  return due
end

-- The header of wake.lua has the words.
local function wake_thread()
  local score = redis.call('ZSCORE', key.due, arg.thread_id)
  if not score then return 'idle' end
  local t = read_thread()
  if tonumber(score) > now then
    local due = t.state and rewound(t)
    if not due then return 'early' end
    if due > now then return 'rewound' end
  end
  if not t.state or t.paused then
    redis.call('ZREM', key.due, arg.thread_id)
    if not t.state and t.token and tonumber(t['until']) <= now then redis.call('HDEL', key.thread, 'token', 'until') end
    return 'idle'
  end
  book_due(t)
  if redis.call('EXISTS', key.paused) == 1 then
    redis.call('ZADD', key.due, look_again(), arg.thread_id)
    return 'paused'
  end
  local word = 'woken'
  if t.wake and redis.call('ZREM', key.scheduled, t.wake) == 1 then
    hand_over(t.wake)
  elseif t.wake and is_waiting(t) then
    word = 'waiting'
  else
    redis.call('HSET', key.thread, 'wake', enqueue_new())
  end
  redis.call('ZADD', key.due, look_again(), arg.thread_id)
  return word
end
