-- Event `return`: a failed batch returns to the head of its thread and is due at once.
-- KEYS: thread pending record dead failed due counters scheduled queue queues job events feed
--       *messages
-- ARGV: now thread_id batch_id nonce entries over_ms recheck_ms tick function origin stamp job_id
--       events
-- Returns {'ok'} or {'gone'}: nothing has changed
-- entries: the packed messages, a JSON list, in order; the messages given are theirs, in the same
-- order.
--! include common wakeup events quiet person
if redis.call('HGET', key.record, 'state') ~= 'failed' then
  -- The same call again: its reply was lost. The record is gone, but the messages have the nonce.
  local by = rest_count > 0 and redis.call('HGET', rest_key(1), 'returned_by')
  return {by == arg.nonce and 'ok' or 'gone'}
end
local t = read_thread()
local entries = cjson.decode(arg.entries)
for i = #entries, 1, -1 do
  redis.call('LPUSH', key.pending, entries[i])
  if is_marked(entries[i]) then redis.call('HSET', key.thread, 'quiet', '1') end
end
local head = t.head - #entries
-- What was said last may have had one of the places that the messages get.
if t.spoken and not is_spoken(t) then
  redis.call('HDEL', key.thread, 'spoken')
  t.spoken = nil
end
t.head = head
for i, entry in ipairs(entries) do
  if is_taken_over(t) and is_said(entry) and not is_spoken(t) then
    t.spoken = ms(head + i - 1) .. ' ' .. t.taken_by
    redis.call('HSET', key.thread, 'spoken', t.spoken)
  end
end
for i = 1, rest_count do
  redis.call('HDEL', rest_key(i), 'batch')
  redis.call('HSET', rest_key(i), 'seq', ms(head + i - 1), 'returned_by', arg.nonce)
  redis.pcall('HINCRBY', rest_key(i), 'rev', 1)
end
redis.call('DEL', key.record, key.dead)
-- Without a state it is no batch's record any more; it keeps a late copy of the claim that froze
-- the batch from freezing another under its id.
redis.call('HSET', key.record, 'thread', arg.thread_id, 'returned_by', arg.nonce)
redis.call('PEXPIRE', key.record, arg.over_ms)
redis.call('ZREM', key.failed, arg.batch_id)
local kind = (t.state == 'retrying' and tonumber(t.due) > now) and 'delayed' or 'waiting'
book('failed', kind, #entries)
book(t.pk, kind, t.n)
redis.call('HSET', key.thread, 'n', t.n + #entries, 'head', head, 'first', ms(now),
  'own_due', ms(now), 'pk', kind)
if not t.batch then
  redis.call('HSET', key.thread, 'state', 'pending', 'due', ms(now))
  if not is_kept_back(t) then
    redis.call('HSET', key.thread, 'wake', wake_at(t.wake, now))
    redis.call('ZADD', key.due, recheck_at(), arg.thread_id)
  end
end
if is_watched() then
  publish('batch_retried', cjson.encode(
    {batch_id = arg.batch_id, message_ids = ids_of(entries), pending = t.n + #entries}))
end
return {'ok'}
