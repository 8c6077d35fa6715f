-- Event `land`: a webhook says that the run of a parked batch has ended; the batch is due now.
-- KEYS: thread due counters runs heard webhook scheduled queue queues job
-- ARGV: now thread_id run_id nonce known_ms heard_ms recheck_ms tick function origin stamp job_id
-- Returns {'woken'}
--         {'before'}: this webhook woke it already
--         {'gone'}: the batch is not parked for this run any more; nothing is left of it in `runs`
-- nonce: of this very call; a second one gets the same reply. A paused thread stays paused.
--! include common wakeup wish person parked air
local known = redis.call('GET', key.webhook)
if known then return {known == arg.nonce and 'woken' or 'before'} end
local t = read_thread()
if not is_parked(t) or t.run ~= arg.run_id then
  redis.call('HDEL', key.runs, arg.run_id)
  return {'gone'}
end
leave_air(t)
redis.call('SET', key.webhook, arg.nonce, 'PX', arg.known_ms)
redis.call('SET', key.heard, '1', 'PX', arg.heard_ms)
end_park(t)
return {'woken'}
