-- Event `finish`: store the results, drop the batch, release the lease, and stay pending if messages wait - in one step.
-- KEYS: thread frozen conversation record due counters scheduled queue queues job guard taken execution executions started books running events *messages
-- ARGV: now thread_id token result result_ttl_ms keep_text anchor done recheck_ms tick function origin stamp job_id guard_id worker taken events
-- Returns {'idle' | 'pending'} or {'lost'}: nothing has changed
--! include common wakeup events results release job
local t = read_thread()
if not holds(t) then
  -- The same call again: its reply was lost. Whoever took the thread since then has another token.
  if redis.call('HGET', key.record, 'token') == arg.token then return {t.n == 0 and 'idle' or 'pending'} end
  return {'lost'}
end
if t.phase ~= 'delivering' then
  write_results(t)
elseif redis.call('EXISTS', key.record) == 1 then
  redis.call('HSET', key.record, 'token', arg.token) -- stored by a dead worker; this one's call may be repeated, too
end
end_job('successful')
return {release(t)}
