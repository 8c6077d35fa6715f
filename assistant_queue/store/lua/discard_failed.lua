-- Event `discard`: an operator discards a failed batch. Its texts are removed; the state of its
-- messages can be queried for a while longer.
-- KEYS: record dead failed counters events feed *messages
-- ARGV: now batch_id nonce result_ttl_ms events
-- Returns {'ok'} or {'gone'}: nothing has changed
--! include common events
local known = redis.call('HMGET', key.record, 'state', 'discarded_by')
-- The same call again: its reply was lost.
if known[1] ~= 'failed' then return {known[2] == arg.nonce and 'ok' or 'gone'} end
local count = tonumber(redis.call('HGET', key.record, 'n'))
redis.call('HSET', key.record, 'state', 'discarded', 'discarded_by', arg.nonce)
redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
redis.call('DEL', key.dead)
redis.call('ZREM', key.failed, arg.batch_id)
for i = 1, rest_count do redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms) end
book('failed', 'discarded', count)
if is_watched() then
  local failure = cjson.decode(redis.call('HGET', key.record, 'failure'))
  publish('batch_discarded',
    cjson.encode({batch_id = arg.batch_id, message_ids = failure.message_ids}))
end
return {'ok'}
