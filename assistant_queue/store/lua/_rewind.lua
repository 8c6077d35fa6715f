-- Redis' clock can be set back, by an operator or by a failover to a machine with another clock;
-- then a thread that was due in a second is due in an hour. Past times cannot lie in the future, so
-- the latest of them shows by how much, at least, the clock went back. Future times are moved by
-- the same amount, unless they were written since: those lie less far ahead. What was counted as
-- waiting was due already, and is due now.
-- back_ms: by how much the caller has seen the clock go back, or 0.
-- Returns the thread's new due time, or nil.
--! fields first claimed queued due own_due until state pk bk
-- Needs key.thread, key.due, key.scheduled, arg.thread_id, arg.guard_ms, arg.back_ms and
-- _quiet.lua.

local function rewound(t)
  local ahead = 0
  for _, name in ipairs({'first', 'claimed', 'queued'}) do
    local back = tonumber(t[name] or '0') - now
    if back > 0 then t[name] = ms(now) end
    ahead = math.max(ahead, back)
  end
  if ahead == 0 then return nil end
  ahead = math.max(ahead, tonumber(arg.back_ms))
  local is_over = t.pk == 'waiting'
  local is_due = t.bk == 'waiting' or (t.state == 'pending' and is_over)
  local was_due = {['own_due'] = is_over, ['due'] = is_due}
  for _, name in ipairs({'due', 'own_due', 'until'}) do
    local at = tonumber(t[name] or '0')
    if at - now > ahead / 2 and not is_never(at) then
      t[name] = ms(was_due[name] and now or math.max(at - ahead, now))
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
