-- Redis' clock can be set back, by an operator or by a failover to a machine with another clock;
-- then a thread that was due in a second is due in an hour. Past times cannot lie in the future, so
-- they show by how much, at least, the clock went back since each of them was written. A future
-- time is moved by as much as the past one that it was counted from: a window from its first
-- message, a back-off from the claim (postpone.lua moves that), a lease from the claim, too, unless
-- it was renewed since: then it lies less far ahead. What was counted as waiting was due already,
-- and is due now.
-- back_ms: by how much the caller has seen the clock go back, or 0.
-- Returns the thread's new due time, or nil.
--! fields first claimed queued due own_due until state pk bk
-- Needs key.thread, key.due, key.scheduled, arg.thread_id, arg.guard_ms, arg.back_ms and
-- _quiet.lua.

local function rewound(t)
  local back, is_ahead = {}, false
  for _, name in ipairs({'first', 'claimed', 'queued'}) do
    back[name] = tonumber(t[name] or '0') - now
    if back[name] > 0 then
      t[name], is_ahead = ms(now), true
      back[name] = math.max(back[name], tonumber(arg.back_ms))
    end
  end
  if not is_ahead then return nil end
  local is_pending, is_over = t.state == 'pending', t.pk == 'waiting'
  local from = {own_due = 'first', due = is_pending and 'first' or 'claimed', ['until'] = 'claimed'}
  local was_due = {own_due = is_over, due = t.bk == 'waiting' or (is_pending and is_over)}
  for name, origin in pairs(from) do
    local at, by = tonumber(t[name] or '0'), back[origin] or 0
    local is_newer = name == 'until' and at - now <= by / 2
    if at > now and by > 0 and not is_newer and not is_never(at) then
      t[name] = ms(was_due[name] and now or math.max(at - by, now))
    end
  end
  for _, name in ipairs({'first', 'claimed', 'queued', 'due', 'own_due', 'until'}) do
    if t[name] then redis.call('HSET', key.thread, name, t[name]) end
  end
  local due = tonumber(t.due)
  if t.token then due = tonumber(t['until']) + tonumber(arg.guard_ms) end
  redis.call('ZADD', key.due, ms(due), arg.thread_id)
  if t.wake and redis.call('ZSCORE', key.scheduled, t.wake) then
    redis.call('ZADD', key.scheduled, seconds(due), t.wake)
  end
  publish_tick(due)
  return due
end
