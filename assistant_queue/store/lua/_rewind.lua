-- Redis' clock can be set back, by an operator or by a failover to a machine whose clock differs: then what was due in a second is due in an
-- hour. What has happened cannot lie in the future; the latest such time tells by how much the clock went back, at least. Times to come
-- are moved by as much, unless they were written since: those lie less far ahead. back_ms: by how much the caller has seen it go back, or 0.
-- Returns when the thread is due then, or nothing. Needs key.thread, key.due, key.scheduled, arg.thread_id, arg.guard_ms and arg.back_ms.

local function rewound(t)
  local ahead = 0
  for _, name in ipairs({'first', 'claimed', 'queued'}) do
    local back = tonumber(t[name] or '0') - now
    if back > 0 then t[name] = ms(now) end
    ahead = math.max(ahead, back)
  end
  if ahead == 0 then return nil end
  ahead = math.max(ahead, tonumber(arg.back_ms))
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
