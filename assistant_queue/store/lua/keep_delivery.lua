-- Event `keep`: a call of `on_reply` that was given up goes on. Its mark lives on, unless the call has returned.
-- KEYS: delivery
-- ARGV: lease_ms
-- Returns {'open'} or {'done'}: nothing has changed
if redis.pcall('GET', key.delivery) == 'done' then return {'done'} end -- a key of another type is not of our making, and is replaced
redis.call('SET', key.delivery, 'open', 'PX', arg.lease_ms)
return {'open'}
