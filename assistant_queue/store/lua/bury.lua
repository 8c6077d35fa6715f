-- Event `bury`: the batch goes to the failed list, where a person can see, retry or discard it; the thread goes on, or pauses.
-- KEYS: thread frozen conversation record dead failed due counters scheduled queue queues job guard taken execution executions started books running events *messages
-- ARGV: now thread_id token failure pause done open keep_anchor recheck_ms tick function origin stamp job_id guard_id worker taken events
-- Returns {'idle' | 'pending'} or {'lost'}: nothing has changed
-- open: ids of tool calls left unanswered at the provider, JSON or ''; the next batch of the conversation answers them.
--! include common wakeup events release job
local t = read_thread()
if not holds(t) then
  if redis.call('HGET', key.record, 'token') == arg.token then return {t.n == 0 and 'idle' or 'pending'} end
  return {'lost'}
end
redis.call('RENAME', key.frozen, key.dead)
redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'failed', 'token', arg.token, 'failure', arg.failure, 'failed_at', ms(now), 'n', t.bn)
redis.call('PERSIST', key.record)
redis.call('ZADD', key.failed, ms(now), t.batch)
for i = 1, rest_count do redis.call('HSET', rest_key(i), 'batch', t.batch) end
if arg.open ~= '' then redis.call('HSET', key.conversation, 'open', arg.open) end
if arg.keep_anchor == '' then
  redis.call('HDEL', key.conversation, 'anchor') -- parts of the batch may stand there: the next one asks for the end
end
book(t.bk, 'failed', t.bn)
redis.call('PUBLISH', arg.done, t.batch)
if listened() then
  local is_parked = cjson.decode(arg.failure).reason == 'parked'
  tell(is_parked and 'batch_parked' or 'batch_dead_lettered', cjson.encode({batch_id = t.batch, failure = arg.failure}))
end
if arg.pause == '1' then
  t.paused = '1'
  redis.call('HSET', key.thread, 'paused', '1')
end
end_job('successful') -- the wake-up did what it is for; the batch has a list of its own
return {release(t)}
