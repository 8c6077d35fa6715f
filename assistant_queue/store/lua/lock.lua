-- Event `lock`: a direct call takes the lease of a thread without a batch.
-- KEYS: thread due over
-- ARGV: now thread_id token lease_ms guard_ms
-- Returns {'locked'}
--         {'busy'}: a worker or another call holds it, a batch is not over, or this call has ended;
--          nothing has changed
-- A second call with the token renews the lease, as long as `unlock` has not been called with it.
--! include common
local t = read_thread()
if redis.call('EXISTS', key.over) == 1 then return {'busy'} end
if t.batch or (t.token and t.token ~= arg.token and tonumber(t['until']) > now) then
  return {'busy'}
end
local lease_end = now + tonumber(arg.lease_ms)
redis.call('HSET', key.thread, 'token', arg.token, 'until', ms(lease_end))
-- The check at that time recovers from a dead call: a claim takes over an expired lease, and an
-- idle thread's is removed.
if not t.paused then
  redis.call('ZADD', key.due, ms(lease_end + tonumber(arg.guard_ms)), arg.thread_id)
end
return {'locked'}
