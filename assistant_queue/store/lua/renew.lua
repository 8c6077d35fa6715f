-- Event `renew`: the holder is alive; its lease, its guard and the time by which somebody must look all move.
-- KEYS: thread due scheduled queue queues job taken execution executions started books running events
-- ARGV: now thread_id token lease_ms guard_ms tick function origin stamp job_id worker taken events
-- Returns {'held', ms until, guard id, '1' if somebody listens or ''} or {'lost'}: nothing has changed
--! include common wakeup events job
local t = read_thread()
if not holds(t) then return {'lost'} end
local lease_end = now + tonumber(arg.lease_ms)
local guard_at = lease_end + tonumber(arg.guard_ms)
local guard = wake_at(t.wake, guard_at)
redis.call('HSET', key.thread, 'until', ms(lease_end), 'wake', guard)
redis.call('ZADD', key.due, ms(guard_at), arg.thread_id)
keep_job(lease_end)
return {'held', ms(lease_end), guard, listened() and '1' or ''}
