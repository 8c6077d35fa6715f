-- Event `renew`: the holder is alive; extend its lease, its guard and the time of the next check.
-- KEYS: thread due scheduled queue queues job events
-- ARGV: now thread_id token lease_ms guard_ms tick function origin stamp job_id events
-- Returns {'held', ms until, guard id, '1' if the thread has subscribers or '',
--          the kind of wish for the batch or ''}
--         {'lost'}: nothing has changed
--! include common wakeup events wish
local t = read_thread()
if not holds(t) then return {'lost'} end
local lease_end = now + tonumber(arg.lease_ms)
local guard_at = lease_end + tonumber(arg.guard_ms)
local guard = wake_at(t.wake, guard_at)
redis.call('HSET', key.thread, 'until', ms(lease_end), 'since', ms(now), 'wake', guard)
redis.call('ZADD', key.due, ms(guard_at), arg.thread_id)
return {'held', ms(lease_end), guard, has_subscribers() and '1' or '', wish_of(t)}
