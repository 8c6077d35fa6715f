-- Redis' clock can be set back (_rewind.lua); then a reply that was due in a second is due in an
-- hour. Past times cannot lie in the future, so the latest of them shows by how much, at least, the
-- clock went back. Future times are moved by the same amount, unless they were written since: those
-- lie less far ahead.
-- Needs key.outbox, key.delivering, key.deliveries, key.scheduled, arg.thread_id and arg.guard_ms.

-- back_ms: by how much the caller has seen the clock go back, or 0.
-- Returns whether the times were moved; d and the stored state have the new ones.
local function delivery_rewound(d, back_ms)
  local ahead = 0
  -- The head of which no lease was taken, and that was not postponed, is due since it was put there.
  for _, name in ipairs({d.seen and 'seen' or 'due', 'queued'}) do
    local back = number_of(d[name]) - now
    if back > 0 then d[name] = ms(now) end
    ahead = math.max(ahead, back)
  end
  if ahead == 0 then return false end
  ahead = math.max(ahead, back_ms)
  for _, name in ipairs({'due', 'until'}) do
    local at = number_of(d[name])
    if at - now > ahead / 2 then d[name] = ms(math.max(at - ahead, now)) end
  end
  for _, name in ipairs({'seen', 'queued', 'due', 'until'}) do
    if d[name] then redis.call('HSET', key.delivering, name, d[name]) end
  end
  local at = number_of(d.due)
  if d.token then at = number_of(d['until']) + tonumber(arg.guard_ms) end
  if redis.call('ZSCORE', key.deliveries, arg.thread_id) then set_delivery_check(at) end
  if d.wake and redis.call('ZSCORE', key.scheduled, d.wake) then
    redis.call('ZADD', key.scheduled, seconds(at), d.wake)
  end
  return true
end
