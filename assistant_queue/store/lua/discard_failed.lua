-- Event `discard`: a person gives a failed batch up. Its texts go; what became of its messages can be asked for a while longer.
-- KEYS: record dead failed counters *messages
-- ARGV: now batch_id result_ttl_ms
-- Returns {'ok'} or {'gone'}: nothing has changed
--! include common
if redis.call('HGET', key.record, 'state') ~= 'failed' then return {'gone'} end
local count = tonumber(redis.call('HGET', key.record, 'n'))
redis.call('HSET', key.record, 'state', 'discarded')
redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
redis.call('DEL', key.dead)
redis.call('ZREM', key.failed, arg.batch_id)
for i = 1, rest_count do redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms) end
book('failed', nil, count)
return {'ok'}
