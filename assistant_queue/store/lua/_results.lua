-- Write the outcome of the batch, once: its record, the lifetimes of its messages, the counters and
-- the anchor, and publish it on the `done` channel.
-- Needs key.record, key.counters, key.conversation, key.frozen, rest_key(i) = message keys in batch
-- order, arg.result, arg.account, arg.result_ttl_ms, arg.keep_text, arg.anchor, arg.done (the
-- channel), and the keys of _events.lua. The account is opaque here: times, attempts, labels.

-- The messages of a batch that was stopped are cancelled.
local function write_outcome(t, state)
  redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', state,
    'token', arg.token, 'result', arg.result, 'account', arg.account)
  redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
  local texts = {}
  if arg.keep_text == '1' then texts = redis.call('LRANGE', key.frozen, 0, -1) end
  for i = 1, rest_count do
    redis.call('HSET', rest_key(i), 'batch', t.batch)
    if state == 'stopped' then redis.call('HSET', rest_key(i), 'state', 'cancelled') end
    if t.revisions then redis.call('HDEL', rest_key(i), 'revision') end
    if texts[i] then redis.call('HSET', rest_key(i), 'entry', texts[i]) end
    redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms)
  end
  redis.call('DEL', key.frozen)
  book(t.bk, state == 'stopped' and 'cancelled' or 'completed', t.bn)
  redis.call('PUBLISH', arg.done, t.batch)
end

-- Without a known end the stored one is wrong now: the next batch asks the provider for it.
local function write_anchor()
  if arg.anchor ~= '' then
    redis.call('HSET', key.conversation, 'anchor', arg.anchor)
  else
    redis.call('HDEL', key.conversation, 'anchor')
  end
  redis.call('HDEL', key.conversation, 'open')
end

local function with_account()
  return string.sub(arg.result, 1, -2) .. ',"account":' .. arg.account .. '}'
end

-- is_silent: subscribers, if there are any, are not notified.
local function write_results(t, is_silent)
  write_outcome(t, 'completed')
  write_anchor()
  if not is_silent and is_watched() then publish('reply_ready', with_account()) end
end
