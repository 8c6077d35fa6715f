-- Event `discard`, of a reply in the failed list: it will not be delivered; its texts are removed.
-- KEYS: record reply failed counters events feed
-- ARGV: now batch_id failed_at nonce result_ttl_ms events
-- Returns {'ok'} or {'gone'}: nothing has changed
--! include common events
local known = redis.call('HMGET', key.record, 'failed_at', 'discarded_by', 'failure')
-- The same call again: its reply was lost.
if known[1] ~= arg.failed_at then return {known[2] == arg.nonce and 'ok' or 'gone'} end
redis.call('DEL', key.reply)
redis.call('HDEL', key.record, 'failure', 'failed_at')
redis.call('HSET', key.record, 'discarded_by', arg.nonce)
redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
redis.call('ZREM', key.failed, arg.batch_id)
add_to('undelivered', -1)
if is_watched() then
  publish('batch_discarded', cjson.encode(
    {batch_id = arg.batch_id, message_ids = cjson.decode(known[3]).message_ids}))
end
return {'ok'}
