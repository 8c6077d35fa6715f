-- Event `keep`: a call of `on_reply` that was given up goes on. Its mark lives on, unless the call has returned.
-- KEYS: delivery
-- ARGV: lease_ms
-- Returns {'open'} or {'done'}: nothing has changed
if redis.call('GET', key.delivery) == 'done' then return {'done'} end
redis.call('SET', key.delivery, 'open', 'PX', arg.lease_ms)
return {'open'}
