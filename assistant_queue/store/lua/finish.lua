-- Event `finish`: store the results, drop the batch, release the lease, and stay pending if
-- messages wait - in one step. The reply joins the outbox.
-- KEYS: thread frozen conversation record due stopping counters scheduled queue queues job guard
--       events feed outbox delivering deliveries paused journal metrics audit auditing *messages
-- ARGV: now thread_id token seen result account lost result_ttl_ms keep_text anchor done recheck_ms
--       tick function origin stamp job_id guard_id events reply delivery_token lease_ms guard_ms
--       journal journal_most journal_ttl_ms counts audit audit_of audit_most
-- Returns {'idle' | 'pending', ms until the caller holds the delivery or '', now}
--         {'lost'}: nothing has changed
--         {'stopping'}: the batch is to be stopped; nothing has changed
-- lost: 1 if version 0.1 stored the results, and they cannot be read any more.
-- reply: the packed reply to deliver, '' for none. delivery_token: the lease of the delivery if the
-- caller can deliver at once; it gets it if no other reply waits and nothing is paused.
--! include common wakeup events quiet wish person results release outbox queue_reply journal counts
--! include audit
local t = read_thread()
if not holds(t) then
  -- The same call again: its reply was lost. A worker that claimed the thread since then has
  -- another token.
  if redis.call('HGET', key.record, 'token') == arg.token then
    return {t.n == 0 and 'idle' or 'pending', held_delivery(), ms(now)}
  end
  return {'lost'}
end
if is_stopped_unseen(t) then return {'stopping'} end
if t.phase ~= 'delivering' then
  write_results(t,
    is_watched() and was_shown(redis.call('LINDEX', key.frozen, 0) or '', t.bn))
  count_step()
  audit_batch(t.batch)
elseif redis.call('EXISTS', key.record) == 1 then
  -- Stored by a dead worker; this worker's call may be repeated, too.
  redis.call('HSET', key.record, 'token', arg.token)
  if arg.lost == '1' then redis.call('HSET', key.record, 'delivery', 'undelivered') end
end
queue_reply(t, t.batch, 'reply')
journal_batch(arg.journal)
local state = release(t)
return {state, held_delivery(), ms(now)}
