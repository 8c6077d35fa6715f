-- Add an entry to the waiting messages of a thread, and make sure that it is woken in time.
-- Needs key.pending, key.due, key.counters, and what _wakeup.lua, _quiet.lua and _person.lua need.

-- The waiting messages of a thread without a batch are due at `due`: returns the id of the wake-up
-- that fires then, or ''.
local function wake_in_time(t, due)
  local due_ms = ms(due)
  -- Else they are written with the wake-up.
  if (t.state ~= 'pending' or t.due ~= due_ms)
      and (is_kept_back(t) or is_never(due) or (t.wake and t.due == due_ms)) then
    redis.call('HSET', key.thread, 'state', 'pending', 'due', due_ms)
  end
  if is_kept_back(t) then return '' end
  if is_never(due) then
    redis.call('ZADD', key.due, due_ms, arg.thread_id)
    return ''
  end
  local job = t.wake or ''
  if not t.wake or t.due ~= due_ms then
    -- A wake-up that a worker has taken already is rescheduled by its claim, which finds it early.
    if not t.wake or redis.call('ZSCORE', key.scheduled, t.wake) then
      job = wake_at(t.wake, due)
    end
    redis.call('HSET', key.thread, 'state', 'pending', 'due', due_ms, 'wake', job)
    redis.call('ZADD', key.due, due <= now and recheck_at() or due_ms, arg.thread_id)
    publish_tick(due)
  end
  return job
end

-- What the waiting messages count as, if their own window ends at `due`. A back-off delays them
-- until its end, and not longer, whatever their own window.
local function kind_of(t, due)
  local decides = t.state == 'retrying' and tonumber(t.due) or due
  return decides <= now and 'waiting' or 'delayed'
end

-- first: ms when the oldest waiting message arrived. due: ms when they are due by their own window.
-- Returns the entry's sequence number, and the id of the thread's wake-up or ''.
local function join(t, entry, first, due)
  local seq = t.head + redis.call('RPUSH', key.pending, entry) - 1
  local count = t.n + 1

  local kind = kind_of(t, due)
  local due_ms = ms(due)
  if t.n > 0 and due_ms == t.own_due and kind == t.pk then
    redis.call('HINCRBY', key.thread, 'n', 1) -- one more in an open window changes nothing else
  else
    book(t.pk, kind, t.n)
    redis.call('HSET', key.thread,
      'n', count, 'head', t.head, 'first', ms(first), 'own_due', due_ms, 'pk', kind)
  end
  book(nil, kind, 1)
  if is_marked(entry) and not t.quiet then redis.call('HSET', key.thread, 'quiet', '1') end

  return seq, t.batch and '' or wake_in_time(t, due)
end
