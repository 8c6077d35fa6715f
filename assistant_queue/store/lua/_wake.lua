-- Check one thread that may be due: count its window as over, and make sure that a wake-up is on
-- its way. The single recovery path for lost jobs, dead workers, expired leases and due retries.
-- Idempotent: it only moves the time of the next check.
-- Needs key.thread, key.due, key.stopping, key.counters, key.paused, arg.patience_ms, arg.search,
-- and what _wakeup.lua, _due.lua, _rewind.lua, _wish.lua, _person.lua and _air.lua need.

-- Enqueued before and still in the queue: workers are busy, and another wake-up would not be
-- faster. The search is bounded. A wake-up that is not found in a longer queue stands after the
-- searched part, unless one that was enqueued later has been taken: then it was taken, too, or
-- lost.
local function is_waiting(t)
  local length = redis.call('LLEN', key.queue)
  local found = redis.call('LPOS', key.queue, t.wake, 'MAXLEN', tonumber(arg.search))
  set_ahead(found or length)
  if found or length <= tonumber(arg.search) then return found end
  local taken = tonumber(redis.call('HGET', key.counters, 'taken') or '')
  local own = tonumber(t.queued or '')
  if taken and own then return own >= taken end
  -- RQ's own workers do not record which wake-up they take.
  return now - (own or 0) < tonumber(arg.patience_ms)
end

-- A poll waits for its turn here, not among the wake-ups: workers take those in order, and a message
-- would wait for all polls before it. Returns whether it waits.
local function awaits_turn(t)
  if t.token or not (t.wake and redis.call('ZSCORE', key.scheduled, t.wake)) then return false end
  local turn = turn_of(t)
  if not turn then return false end
  redis.call('ZADD', key.scheduled, seconds(turn), t.wake)
  redis.call('ZADD', key.due, ms(turn), arg.thread_id)
  publish_tick(turn)
  return true
end

-- The header of wake.lua lists the words.
local function wake_thread()
  local score = redis.call('ZSCORE', key.due, arg.thread_id)
  if not score then
    redis.call('ZREM', key.stopping, arg.thread_id)
    return 'idle'
  end
  local t = read_thread()
  if tonumber(score) > now then
    local due = t.state and rewound(t)
    redis.call('ZADD', key.stopping, 'XX', ms(due or tonumber(score)), arg.thread_id)
    if not due then return 'early' end
    if due > now then return 'rewound' end
  end
  if not t.state or (is_kept_back(t) and wish_of(t) ~= 'stop') then
    redis.call('ZREM', key.due, arg.thread_id)
    redis.call('ZREM', key.stopping, arg.thread_id)
    if not t.state and t.token and tonumber(t['until']) <= now then
      redis.call('HDEL', key.thread, 'token', 'until')
    end
    return 'idle'
  end
  book_due(t)
  if redis.call('EXISTS', key.paused) == 1 and wish_of(t) ~= 'stop' then
    redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
    redis.call('ZREM', key.stopping, arg.thread_id)
    return 'paused'
  end
  if awaits_turn(t) then return 'early' end
  local word = 'woken'
  if t.wake and redis.call('ZREM', key.scheduled, t.wake) == 1 then
    hand_over(t.wake)
  elseif t.wake and is_waiting(t) then
    word = 'waiting'
  else
    redis.call('HSET', key.thread, 'wake', enqueue_new())
  end
  redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
  redis.call('ZADD', key.stopping, 'XX', recheck_at(), arg.thread_id)
  return word
end
