-- Event `complete`: the run's results are stored and its waiters told; the lease is kept until the reply is delivered.
-- KEYS: thread frozen conversation record counters events *messages
-- ARGV: now thread_id token result result_ttl_ms keep_text anchor done progress events
-- Returns {'ok'} or {'lost'}: nothing has changed
--! include common events results
local t = read_thread()
if not holds(t) then return {'lost'} end
if t.phase ~= 'delivering' then
  write_results(t)
  redis.call('HSET', key.thread, 'phase', 'delivering', 'progress', arg.progress, 'bk', '', 'deaths', '0')
end
return {'ok'}
