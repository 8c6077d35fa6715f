-- Redis' clock can be set back, by an operator or by a failover to a machine with another clock;
-- then a thread that was due in a second is due in an hour. Past times cannot lie in the future, so
-- they show by how much, at least, the clock went back since each of them was written. A future
-- time is moved by as much as the past one that it was counted from: a window from its first
-- message; a lease, a back-off and a grace period from their own write, or, where an earlier version
-- did not store that, or a direct call holds the lease, from the latest time there is. What was
-- counted as waiting was due already, and is due now.
-- back_ms: by how much the caller has seen the clock go back, or 0.
-- Returns the thread's new due time, or nil.
--! fields first claimed queued since due own_due until state pk bk
-- Needs key.thread, key.due, key.scheduled, arg.thread_id, arg.guard_ms, arg.back_ms and
-- _quiet.lua.

local past = {'first', 'claimed', 'queued', 'since'}

local function rewound(t)
  local back, most = {}, 0
  for _, name in ipairs(past) do
    local ahead = tonumber(t[name] or '0') - now
    if ahead > 0 then
      t[name], back[name] = ms(now), math.max(ahead, tonumber(arg.back_ms))
      most = math.max(most, back[name])
    end
  end
  if most == 0 then return nil end
  if not t.since then back.since = most end
  local is_pending, is_over = t.state == 'pending', t.pk == 'waiting'
  local from = {own_due = 'first', due = is_pending and 'first' or 'since', ['until'] = 'since'}
  local was_due = {own_due = is_over, due = t.bk == 'waiting' or (is_pending and is_over)}
  for name, origin in pairs(from) do
    local at, by = tonumber(t[name] or '0'), back[origin]
    if by and at > now and not is_never(at) then
      t[name] = ms(was_due[name] and now or math.max(at - by, now))
    end
  end
  for _, name in ipairs({'first', 'claimed', 'queued', 'since', 'due', 'own_due', 'until'}) do
    if t[name] then redis.call('HSET', key.thread, name, t[name]) end
  end
  local due = tonumber(t.due)
  if t.token then due = tonumber(t['until']) + tonumber(arg.guard_ms) end
  redis.call('ZADD', key.due, ms(due), arg.thread_id)
  -- Of a thread that is never due, an outstanding wake-up finds nothing to do.
  if t.wake and not is_never(due) and redis.call('ZSCORE', key.scheduled, t.wake) then
    redis.call('ZADD', key.scheduled, seconds(due), t.wake)
  end
  publish_tick(due)
  return due
end
