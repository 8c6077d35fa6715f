-- Event `bury`: the batch moves to the failed list, where an operator can inspect, retry or discard
-- it; the thread continues, or pauses. A fallback joins the outbox.
-- KEYS: thread frozen conversation record dead failed due stopping pausing counters scheduled
--       queue queues job guard events feed outbox delivering deliveries paused journal metrics audit
--       auditing *messages
-- ARGV: now thread_id token seen failure pause done open keep_anchor recheck_ms tick function origin
--       stamp job_id guard_id events reply delivery_token lease_ms guard_ms journal
--       journal_most journal_ttl_ms counts audit audit_of audit_most
-- Returns {'idle' | 'pending', ms until the caller holds the delivery or '', now}
--         {'lost'}: nothing has changed
--         {'stopping'}: the batch is to be stopped; nothing has changed
-- reply, delivery_token: as those of finish.lua.
-- open: ids of tool calls left unanswered at the provider, JSON or ''; the conversation's next
-- batch answers them.
--! include common wakeup events quiet wish person release outbox queue_reply journal counts audit
local t = read_thread()
if not holds(t) then
  if redis.call('HGET', key.record, 'token') == arg.token then
    return {t.n == 0 and 'idle' or 'pending', held_delivery(), ms(now)}
  end
  return {'lost'}
end
if is_stopped_unseen(t) then return {'stopping'} end
redis.call('RENAME', key.frozen, key.dead)
redis.call('HSET', key.record, 'thread', arg.thread_id, 'state', 'failed', 'token', arg.token,
  'failure', arg.failure, 'failed_at', ms(now), 'n', t.bn)
redis.call('PERSIST', key.record)
redis.call('ZADD', key.failed, ms(now), t.batch)
for i = 1, rest_count do
  redis.call('HSET', rest_key(i), 'batch', t.batch)
  if t.revisions then redis.call('HDEL', rest_key(i), 'revision') end
end
if arg.open ~= '' then redis.call('HSET', key.conversation, 'open', arg.open) end
if arg.keep_anchor == '' then
  -- The conversation may contain parts of the batch: the next batch asks for its end.
  redis.call('HDEL', key.conversation, 'anchor')
end
book(t.bk, 'failed', t.bn)
count_step()
audit_batch(t.batch)
redis.call('PUBLISH', arg.done, t.batch)
if is_watched() then
  local is_parked = cjson.decode(arg.failure).reason == 'parked'
  publish(is_parked and 'batch_parked' or 'batch_dead_lettered',
    cjson.encode({batch_id = t.batch, failure = arg.failure}))
end
if arg.pause == '1' then
  list_pause(t)
  t.paused = '1'
  redis.call('HSET', key.thread, 'paused', '1')
end
queue_reply(t, t.batch, 'fallback')
journal_batch(arg.journal)
local state = release(t)
return {state, held_delivery(), ms(now)}
