-- Event `cancel`: a waiting message will not be sent. Its text goes at once, its place in the list stays.
-- KEYS: thread pending message due counters events
-- ARGV: now thread_id message_id rev nonce result_ttl_ms events
-- Returns {'cancelled'}; {'gone' | 'settled' | 'taken' | 'changed'}: nothing has changed
--! include common waiting events
local t = read_thread()
local index = waiting_index(t)
if type(index) == 'string' then
  -- The same call again: its reply was lost.
  return {redis.call('HGET', key.message, 'cancelled_by') == arg.nonce and 'cancelled' or index}
end
redis.call('LSET', key.pending, ms(index), '')
redis.call('HSET', key.message, 'state', 'cancelled', 'cancelled_by', arg.nonce)
redis.call('PEXPIRE', key.message, arg.result_ttl_ms)
book(t.pk, nil, 1)
redis.call('HSET', key.thread, 'n', t.n - 1)
if t.n == 1 then
  redis.call('HSET', key.thread, 'head', t.head + redis.call('LLEN', key.pending))
  redis.call('DEL', key.pending)
  if not t.batch then
    -- Idle. The wake-up that was written finds nothing to do.
    redis.call('ZREM', key.due, arg.thread_id)
    redis.call('DEL', key.thread)
    if t.paused then redis.call('HSET', key.thread, 'paused', '1') end
    if t.token then redis.call('HSET', key.thread, 'token', t.token, 'until', t['until']) end
  end
end
if listened() then tell('message_cancelled', cjson.encode({message_id = arg.message_id})) end
return {'cancelled'}
