-- Event `return`, of a reply in the failed list: it is delivered at once, before those that wait,
-- without another run.
-- KEYS: thread outbox delivering deliveries counters record reply failed scheduled queue queues job
-- ARGV: now thread_id batch_id failed_at nonce progress payload guard_ms function origin stamp
--       job_id
-- Returns {'ok'} or {'gone'}: nothing has changed
-- failed_at: of the failure that the caller has read: no late copy of the call returns a later one.
--! include common wakeup person outbox delivery_wake
local known = redis.call('HMGET', key.record, 'failed_at', 'returned_by')
local entry = redis.call('HGET', key.reply, 'entry')
if known[1] ~= arg.failed_at or not entry then
  -- The same call again: its reply was lost.
  return {known[2] == arg.nonce and 'ok' or 'gone'}
end
redis.call('DEL', key.reply)
redis.call('HDEL', key.record, 'failure', 'failed_at')
redis.call('HSET', key.record, 'delivery', 'pending', 'returned_by', arg.nonce)
redis.call('ZREM', key.failed, arg.batch_id)
add_to('undelivered', -1)
add_to('replies', 1)
entry = arg.batch_id .. ' ' .. ms(now) .. ' late ' .. arg.payload
local t = read_thread()
local d = read_delivery()
d['s:' .. arg.batch_id] = arg.progress
local head = redis.call('LINDEX', key.outbox, 0)
if head and is_leased(d) then
  redis.call('LPOP', key.outbox)
  redis.call('LPUSH', key.outbox, entry, head)
  redis.call('HSET', key.delivering, 's:' .. arg.batch_id, arg.progress)
else
  redis.call('LPUSH', key.outbox, entry)
  if d.batch and d.progress then d['s:' .. d.batch] = d.progress end
  set_head(d, arg.batch_id, holds_replies(t), '', '')
  if not holds_replies(t) then wake_delivery_at(d.wake, now) end
end
return {'ok'}
