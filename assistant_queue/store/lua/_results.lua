-- What became of the batch, written once: its record, its messages' lives, the counters, the anchor, and word to those who wait.
-- Needs key.record, key.counters, key.conversation, key.frozen, rest_key(i) = message keys in batch order, and arg.result,
-- arg.result_ttl_ms, arg.keep_text, arg.anchor, arg.done (the channel), and what _events.lua needs.

local function write_results(t)
  redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'completed', 'token', arg.token, 'result', arg.result)
  redis.call('PEXPIRE', key.record, arg.result_ttl_ms)
  local texts = {}
  if arg.keep_text == '1' then texts = redis.call('LRANGE', key.frozen, 0, -1) end
  for i = 1, rest_count do
    redis.call('HSET', rest_key(i), 'batch', t.batch)
    if texts[i] then redis.call('HSET', rest_key(i), 'entry', texts[i]) end
    redis.call('PEXPIRE', rest_key(i), arg.result_ttl_ms)
  end
  redis.call('DEL', key.frozen)
  -- Without a known end the old one is wrong now: the next batch asks the provider for it.
  if arg.anchor ~= '' then redis.call('HSET', key.conversation, 'anchor', arg.anchor) else redis.call('HDEL', key.conversation, 'anchor') end
  redis.call('HDEL', key.conversation, 'open')
  book(t.bk, 'completed', t.bn)
  redis.call('PUBLISH', arg.done, t.batch)
  if listened() then tell('reply_ready', arg.result) end
end
