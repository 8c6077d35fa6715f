-- Event `cancel`: a waiting message will not be sent. Its text is removed at once, its place in the
-- list stays.
-- KEYS: thread pending message due counters events feed
-- ARGV: now thread_id message_id rev nonce result_ttl_ms events
-- Returns {'cancelled'}; {'gone' | 'settled' | 'taken' | 'changed'}: nothing has changed
--! include common waiting events quiet person chars
local t = read_thread()
local index = waiting_index(t)
if type(index) == 'string' then
  -- The same call again: its reply was lost.
  return {redis.call('HGET', key.message, 'cancelled_by') == arg.nonce and 'cancelled' or index}
end
local was_quiet = is_quiet(redis.call('LINDEX', key.pending, ms(index)))
redis.call('LSET', key.pending, ms(index), '')
redis.call('HSET', key.message, 'state', 'cancelled', 'cancelled_by', arg.nonce)
redis.call('PEXPIRE', key.message, arg.result_ttl_ms)
book(t.pk, 'cancelled', 1)
redis.call('HSET', key.thread, 'n', t.n - 1)
if t.chars then count_chars(t, 0) end
if t.n == 1 then
  redis.call('HSET', key.thread, 'head', t.head + redis.call('LLEN', key.pending))
  redis.call('DEL', key.pending)
  if not t.batch then
    -- Idle. The outstanding wake-up finds nothing to do.
    redis.call('ZREM', key.due, arg.thread_id)
    redis.call('DEL', key.thread)
    keep_pause(t)
    if t.token then
      redis.call('HSET', key.thread, 'token', t.token, 'until', t['until'])
    end
  end
end
-- The last one that wanted a reply: the others wait for the next. The outstanding wake-up finds
-- nothing to do.
local ends = t.n > 1 and t.quiet and not was_quiet and not is_never(t.own_due)
  and not is_reply_wanted(redis.call('LLEN', key.pending))
if ends then
  redis.call('HSET', key.thread, 'own_due', ms(never))
  if not t.batch then
    book(t.pk, 'delayed', t.n - 1)
    redis.call('HSET', key.thread, 'due', ms(never), 'pk', 'delayed')
    if not (t.token or t.paused) then
      redis.call('ZADD', key.due, ms(never), arg.thread_id)
    end
  end
end
if is_watched() then
  publish('message_cancelled', cjson.encode({message_id = arg.message_id}))
  if ends then publish('window_moved', cjson.encode({due = ms(never), pending = t.n - 1})) end
end
return {'cancelled'}
