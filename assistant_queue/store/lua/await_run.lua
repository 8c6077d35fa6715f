-- Event `park`, of a batch with a run at work at the provider: the holder releases the thread until
-- a webhook says that the run has ended, or until it is polled.
-- KEYS: thread due counters runs heard early scheduled queue queues job
-- ARGV: now thread_id token seen run_id wait_ms most_ms quiet_ms poll_gap phase progress recheck_ms
--       tick function origin stamp job_id
-- Returns {'ok', ms when it is due} or {'lost'}: nothing has changed
-- run_id: '' for a batch that waits until another run may be started. It is polled after wait_ms,
-- later if there are more runs than can be polled by then, or if webhooks work (quiet_ms); never
-- later than most_ms. poll_gap: ms from one poll of the queue to the next. The batch is due at once
-- if a webhook about its run came before, or if there is a wish to stop or to interrupt it that the
-- caller does not know.
--! include common wakeup wish person compact park
local t = read_thread()
-- The same call again: its reply was lost.
if not t.token and t.last == arg.token then return {'ok', t.due} end
if not holds(t) then return {'lost'} end
local wait = tonumber(arg.wait_ms)
if arg.run_id ~= '' and redis.call('DEL', key.early) == 1 then
  wait = 0
elseif arg.run_id ~= '' then
  redis.call('HSET', key.runs, arg.run_id, arg.thread_id)
  redis.call('HSET', key.thread, 'run', arg.run_id)
  wait = math.max(wait, math.ceil(redis.call('HLEN', key.runs) * tonumber(arg.poll_gap)))
  if redis.call('EXISTS', key.heard) == 1 then wait = math.max(wait, tonumber(arg.quiet_ms)) end
end
redis.call('HDEL', key.thread, 'shut')
return park_until(t, now + math.min(wait, tonumber(arg.most_ms)))
