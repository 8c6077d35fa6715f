-- Event `renew`, of a delivery: the holder is alive; extend its lease and the time of the next
-- check.
-- KEYS: delivering deliveries scheduled queue queues job
-- ARGV: now thread_id token lease_ms guard guard_ms function origin stamp job_id
-- Returns {'held', ms until, guard id or '', '', ''} or {'lost'}: nothing has changed
--! include common wakeup outbox delivery_wake
local d = read_delivery()
if d.token ~= arg.token then return {'lost'} end
local lease_end = now + tonumber(arg.lease_ms)
local guard_at = lease_end + tonumber(arg.guard_ms)
if arg.guard ~= '' then d.wake = wake_delivery_at(d.wake, guard_at) end
redis.call('HSET', key.delivering, 'until', ms(lease_end))
set_delivery_check(guard_at)
return {'held', ms(lease_end), d.wake or '', '', ''}
