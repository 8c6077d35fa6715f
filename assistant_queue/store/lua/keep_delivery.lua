-- Event `keep`: an `on_reply` call that exceeded its time still runs. Extend its mark, unless the
-- call has returned.
-- KEYS: delivery
-- ARGV: lease_ms
-- Returns {'open'} or {'done'}: nothing has changed
-- A key of another type was not written by the queue, and is replaced.
if redis.pcall('GET', key.delivery) == 'done' then return {'done'} end
redis.call('SET', key.delivery, 'open', 'PX', arg.lease_ms)
return {'open'}
