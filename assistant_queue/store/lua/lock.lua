-- Event `lock`: a direct call takes the lease of a thread on which nothing is going on.
-- KEYS: thread due
-- ARGV: now thread_id token lease_ms guard_ms
-- Returns {'locked'} or {'busy'}: a worker or another call holds it, or a batch is not over; nothing has changed
--! include common
local t = read_thread()
if t.batch or (t.token and t.token ~= arg.token and tonumber(t['until']) > now) then return {'busy'} end
local lease_end = now + tonumber(arg.lease_ms)
redis.call('HSET', key.thread, 'token', arg.token, 'until', ms(lease_end))
-- Whoever finds the thread after that sees to it: a claim takes over a lapsed lease, an idle thread's is removed.
if not t.paused then redis.call('ZADD', key.due, ms(lease_end + tonumber(arg.guard_ms)), arg.thread_id) end
return {'locked'}
