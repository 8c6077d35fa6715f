-- Events `retry` and `hold`: the holder gives the thread back, and the same batch is looked at again at a given time.
-- KEYS: thread due counters scheduled queue queues job taken execution executions started books running events
-- ARGV: now thread_id token state wait_ms phase progress recheck_ms tick function origin stamp job_id worker taken events
-- Returns {'ok', ms when it is due} or {'lost'}: nothing has changed
-- state is retrying (a back-off: the messages count as delayed) or held (the grace period of an ambiguous request: they count as active).
--! include common wakeup events job
local t = read_thread()
if not t.token and t.last == arg.token then return {'ok', t.due} end -- the same call again: its reply was lost
if not holds(t) then return {'lost'} end
local due = now + tonumber(arg.wait_ms)
if arg.state == 'retrying' then
  local kind = due <= now and 'waiting' or 'delayed'
  book(t.pk, kind, t.n)
  redis.call('HSET', key.thread, 'pk', kind)
  if t.bk ~= '' then
    book(t.bk, kind, t.bn)
    redis.call('HSET', key.thread, 'bk', kind)
  end
end
redis.call('HDEL', key.thread, 'token', 'until', 'number', 'piece')
redis.call('HSET', key.thread, 'state', arg.state, 'due', ms(due), 'phase', arg.phase, 'progress', arg.progress, 'last', arg.token, 'deaths', '0')
if t.paused then
  redis.call('ZREM', key.due, arg.thread_id)
else
  redis.call('HSET', key.thread, 'wake', wake_at(t.wake, due))
  redis.call('ZADD', key.due, due <= now and look_again() or ms(due), arg.thread_id)
  tell_timers(due)
end
end_job('successful')
if arg.state == 'retrying' and arg.phase ~= 'delivering' and listened() then
  local progress = cjson.decode(arg.progress)
  tell('attempt_failed', cjson.encode({batch_id = t.batch, attempt = progress.attempts or 0, error = progress.error, retry_at = ms(due)}))
end
return {'ok', ms(due)}
